//! `plum status`: the gateway's connection to the internet.

use super::harness::{dead_gateway, gateway, order, plum_at, run};
use plum_gateway::core::{Igd, Kind};
use plum_gateway::server::Server;
use serde_json::{Value, json};

fn status(server: &Server, words: &str) -> (i32, Value) {
    let (code, output, errors) = run(plum_at(server, &format!("status --json {words}")));
    assert_eq!((errors.as_str(), output.lines().count()), ("", 1), "{output}");
    (code, serde_json::from_str(&output).expect("it is JSON"))
}

fn with(igd: Option<&Igd>) -> Server {
    Server::start_on_own_address(|config| config.gateway.igd = igd.cloned()).expect("a gateway on loopback")
}

#[test]
fn is_what_the_gateway_tells_by_all_protocols() {
    let server = gateway();
    order(&server, "set epoch 7384");
    let (code, found) = status(&server, "");
    let expected = json!({
        "is_connected": true,
        "external_address": "203.0.113.7",
        "connection_status": "Connected",
        "last_connection_error": "ERROR_NONE",
        "connection_type": "IP_Routed",
        "access_type": "DSL",
        "link_status": "Up",
        "max_bit_rate_down": 100_000_000,
        "max_bit_rate_up": 40_000_000,
        "bytes_received": 2_345_678_901_u64,
        "bytes_sent": 123_456_789,
        "packets_received": 1_987_654,
        "packets_sent": 345_678,
        "gateway": server.address().to_string(),
        "name": "Simulated gateway",
        "service": "WANIPConnection:1",
    });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&found[name], value, "{name}");
    }
    for name in ["uptime_secs", "pcp_epoch_secs", "natpmp_epoch_secs"] {
        assert!(found[name].as_u64().is_some_and(|secs| (7384..7500).contains(&secs)), "{name}: {found}");
    }
    assert_eq!(code, 0);
    server.with_core(|core| {
        assert_eq!(core.counts.pcp_map + core.counts.natpmp_map, 0, "nothing is mapped");
        assert_eq!(core.complaints().collect::<Vec<_>>(), [""; 0]);
    });
}

#[test]
fn is_told_to_people_in_lines() {
    let server = gateway();
    order(&server, "set epoch 7384");
    let (code, output, errors) = run(plum_at(&server, "status"));
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<&str> = output.lines().collect();
    let [gateway, internet, external, link, traffic, pcp, natpmp] = lines[..] else { panic!("{output}") };
    assert_eq!(gateway, format!("Gateway    \"Simulated gateway\" at {}", server.address()));
    let uptime = internet.strip_prefix("Internet   connected for ").expect("an uptime");
    let uptime = uptime.strip_suffix(" (WANIPConnection:1: Connected)").expect("a status");
    assert!(uptime.starts_with("2 h"), "{uptime}");
    assert_eq!(external, "External   203.0.113.7");
    assert_eq!(link, "Link       DSL, Up, IP_Routed, 100 Mbit/s down, 40 Mbit/s up");
    assert_eq!(traffic, "Traffic    received 2.3 GB in 1987654 packets, sent 123 MB in 345678 packets");
    assert_eq!((pcp, natpmp), (&*format!("PCP        up {uptime}"), &*format!("NAT-PMP    up {uptime}")));
}

#[test]
fn of_a_connection_that_is_down_is_a_failure() {
    let mut igd = Igd::default();
    igd.services[0].status = "Disconnected".into();
    let server = with(Some(&igd));
    order(&server, "refuse natpmp-address 3");
    let (code, found) = status(&server, "");
    assert_eq!((code, &found["is_connected"], &found["external_address"]), (1, &false.into(), &Value::Null));
    let (code, output, _) = run(plum_at(&server, "status"));
    assert_eq!(code, 1);
    assert!(output.contains("Internet   not connected (WANIPConnection:1: Disconnected)"), "{output}");

    let server = with(None);
    order(&server, "refuse natpmp-address 3");
    let (code, found) = status(&server, "--timeout 1s");
    assert_eq!((code, &found["is_connected"], &found["service"]), (1, &false.into(), &Value::Null));
}

#[test]
fn is_told_without_upnp_as_far_as_it_goes() {
    let server = with(None);
    let (code, found) = status(&server, "--timeout 1s");
    assert_eq!(
        (code, &found["is_connected"], &found["external_address"]),
        (0, &true.into(), &"203.0.113.7".into())
    );
    assert_eq!(found["bytes_sent"], Value::Null);
    let (code, output, _) = run(plum_at(&server, "status --timeout 1s"));
    assert!(
        code == 0 && output.contains("Internet   connected\n") && !output.contains("Traffic"),
        "{output}"
    );

    order(&server, "close natpmp");
    order(&server, "pcp-only");
    let (code, found) = status(&server, "--timeout 1s");
    assert_eq!((code, &found["is_connected"]), (0, &Value::Null));
}

#[test]
fn what_a_gateway_refuses_is_left_out() {
    let server = gateway();
    for action in ["GetCommonLinkProperties", "GetTotalBytesSent", "GetConnectionTypeInfo"] {
        order(&server, &format!("refuse {action} 401"));
    }
    let (code, found) = status(&server, "");
    assert_eq!((code, &found["is_connected"], &found["bytes_sent"]), (0, &true.into(), &Value::Null));
    assert_eq!((&found["link_status"], &found["connection_type"]), (&Value::Null, &Value::Null));
    assert_eq!(found["bytes_received"], 2_345_678_901_u64);
}

#[test]
fn of_a_gateway_that_is_silent_there_is_none() {
    let server = dead_gateway();
    let (code, output, errors) = run(plum_at(&server, "status --timeout 700ms"));
    assert_eq!((code, output.as_str()), (3, ""));
    assert!(errors.contains("answers none of UPnP, NAT-PMP and PCP"), "{errors}");
    let server = gateway();
    order(&server, "silence pcp");
    order(&server, "silence natpmp");
    let (code, found) = status(&server, "");
    assert_eq!((code, &found["pcp_epoch_secs"], &found["is_connected"]), (0, &Value::Null, &true.into()));
    assert!(server.with_core(|core| core.counts.of(Kind::NatPmpAddress)) > 0);
}
