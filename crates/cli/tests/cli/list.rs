//! `plum list`.

use super::harness::{LONG, Running, dead_gateway, gateway, order, plum_at, run};
use super::terminal::{GREEN, contains_style, end, watch};
use plum_gateway::core::{Action, Igd, Kind, Protocol, Reply, TableEntry, Transport, WanKind};
use plum_gateway::server::Server;
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

pub fn insert(server: &Server, transport: Transport, external_port: u16, internal: &str, description: &str) {
    let internal: SocketAddr = internal.parse().expect("an address");
    let (description, made_by) = (description.to_owned(), Protocol::Script);
    server.with_core(|core| {
        core.table_mut().insert(TableEntry {
            transport,
            external_port,
            internal,
            made_by,
            nonce: None,
            description,
            granted_at: std::time::Duration::ZERO,
            expires_at: None,
        });
    });
}

#[test]
fn shows_every_mapping_in_order_and_marks_its_own() {
    let server = gateway();
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "web");
    insert(&server, Transport::Udp, 70, "192.0.2.78:70", "");
    let running = Running::start(plum_at(&server, "map 8080:18080"));
    running.line();
    let (code, output, errors) = run(plum_at(&server, "list"));
    assert_eq!((code, errors.as_str()), (0, ""));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "EXTERNAL   LEADS TO                       ENDS IN     DESCRIPTION");
    assert_eq!(lines[1], "70/udp     192.0.2.78:70                  never");
    assert_eq!(lines[2], "9000/tcp   192.0.2.77:80                  never       web");
    assert!(lines[3].starts_with("18080/tcp  127.0.0.1:8080 (this machine)  "), "{output}");
    assert!(lines[3].contains("1 h 59 min") || lines[3].contains("2 h 00 min"), "{output}");
    assert_eq!(lines.len(), 4);

    let (code, output, _) = run(plum_at(&server, "list --json"));
    let listed: Value = serde_json::from_str(&output).expect("it is JSON");
    assert_eq!((code, &listed["gateway"]), (0, &server.address().to_string().into()));
    assert_eq!((&listed["service"], &listed["incomplete"]), (&"WANIPConnection:1".into(), &Value::Null));
    let mappings = listed["mappings"].as_array().expect("mappings");
    let ports: Vec<_> = mappings.iter().map(|mapping| &mapping["external_port"]).collect();
    assert_eq!(ports, [70, 9000, 18080]);
    assert_eq!(mappings[1]["internal_client"], "192.0.2.77");
    assert_eq!((&mappings[1]["description"], &mappings[1]["transport"]), (&"web".into(), &"TCP".into()));
    assert_eq!((&mappings[1]["lease_left_secs"], &mappings[1]["enabled"]), (&0.into(), &true.into()));
    assert_eq!(
        (&mappings[1]["is_this_machine"], &mappings[2]["is_this_machine"]),
        (&false.into(), &true.into())
    );
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
}

#[test]
fn empty_table_is_told_as_one() {
    let (code, output, _) = run(plum_at(&gateway(), "list"));
    assert_eq!(code, 0);
    assert!(output.starts_with("The gateway \"Simulated gateway\" at 127."), "{output}");
    assert!(output.ends_with(" has no mappings.\n") && output.lines().count() == 1, "{output}");
}

#[test]
fn asks_the_service_that_the_library_would_use() {
    let mut igd = Igd::with(1, &[WanKind::Ip1, WanKind::Ppp1]);
    igd.services[0].status = "Disconnected".into();
    let server = Server::start_on_own_address(|config| config.gateway.igd = Some(igd.clone()))
        .expect("a gateway on loopback");
    let (code, output, _) = run(plum_at(&server, "list --json"));
    assert_eq!(code, 0);
    assert!(output.contains(r#""service":"WANPPPConnection:1""#), "{output}");
}

#[test]
fn gateway_without_upnp_is_told_as_it_is() {
    let server =
        Server::start_on_own_address(|config| config.gateway.igd = None).expect("a gateway on loopback");
    for server in [server, dead_gateway()] {
        let (code, output, errors) = run(plum_at(&server, "list --timeout 500ms"));
        assert_eq!((code, output.as_str()), (3, ""));
        assert!(
            errors.starts_with(&format!("plum: the gateway {} does not answer by UPnP", server.address()))
        );
        assert!(errors.contains("PCP and NAT-PMP have no list") && errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn refusal_and_silence_in_between_are_told() {
    let server = gateway();
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "web");
    order(&server, "refuse GetGenericPortMappingEntry 606");
    let (code, output, errors) = run(plum_at(&server, "list"));
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.starts_with("plum: the gateway does not show its mappings: error 606"), "{errors}");
    order(&server, "no-faults");
    order(&server, "refuse GetGenericPortMappingEntry 501");
    let (code, output, _) = run(plum_at(&server, "list"));
    assert_eq!(code, 0);
    assert!(output.contains("There may be more: the gateway says no more than error 501."), "{output}");
}

#[test]
fn reads_replies_that_promise_more_than_they_have_as_the_library_does() {
    let server = gateway();
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "web");
    order(&server, "set keep-open on");
    order(&server, "set framing too-long 10");
    let (code, output, errors) = run(plum_at(&server, "list"));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(output.contains("192.0.2.77:80") && output.lines().count() == 2, "{output}");
}

/// Scripts the reply to each index of the table, from 0 on.
pub fn script_entries(server: &Server, reply: impl Fn(u32) -> Reply + Send + 'static) {
    let mut index = 0;
    server.with_core(|core| {
        core.add_script(move |request| match request.kind {
            Kind::Soap(Action::GetGenericPortMappingEntry) => {
                index += 1;
                reply(index - 1)
            }
            _ => Reply::usual(),
        });
    });
}

#[test]
fn a_list_that_does_not_go_on_ends_in_time_and_is_told_as_incomplete() {
    let server = gateway();
    for port in 9000..9005 {
        insert(&server, Transport::Tcp, port, "192.0.2.77:80", "web");
    }
    // The fourth entry takes an hour.
    let hour = Duration::from_secs(3600);
    script_entries(&server, move |index| match index % 4 {
        3 => Reply::usual().after(hour),
        _ => Reply::usual(),
    });
    let (code, output, errors) = run(plum_at(&server, "list --timeout 4s"));
    assert_eq!((code, errors.as_str(), output.lines().count()), (4, "", 5), "{output}");
    let last = output.lines().last().expect("lines");
    assert!(last.starts_with("The list is not complete: the entry of index 3 did not come: "), "{output}");
    assert!(last.ends_with(": no answer in time."), "{output}");
    let (code, output, _) = run(plum_at(&server, "list --timeout 4s --json"));
    let listed: Value = serde_json::from_str(&output).expect("it is JSON");
    assert_eq!((code, listed["mappings"].as_array().map(Vec::len)), (4, Some(3)));
    assert!(listed["incomplete"].as_str().is_some_and(|why| why.contains("no answer in time")), "{output}");
}

#[test]
fn a_list_is_bounded_as_a_whole_however_fast_each_entry_comes() {
    let server = gateway();
    for port in 1..=5000 {
        insert(&server, Transport::Tcp, port, "192.0.2.77:80", "web");
    }
    // All of them would take minutes.
    script_entries(&server, |_| Reply::usual().after(Duration::from_millis(100)));
    let (code, output, _) = run(plum_at(&server, "list --timeout 3s"));
    assert_eq!(code, 4);
    assert!(output.contains("The list is not complete: the entry of index "), "{output}");
}

#[test]
fn a_gateway_that_begins_to_drip_is_given_up_in_time() {
    let server = gateway();
    for port in 9000..9010 {
        insert(&server, Transport::Tcp, port, "192.0.2.77:80", "web");
    }
    script_entries(&server, |_| Reply::usual().after(Duration::from_millis(200)));
    let running = Running::start(plum_at(&server, "list --timeout 4s"));
    let entries = Kind::Soap(Action::GetGenericPortMappingEntry);
    assert!(server.wait_until(LONG, |core| core.counts.of(entries) > 0));
    order(&server, "set dribble 1 500ms");
    let (status, lines, errors) = running.end();
    let last = lines.last().expect("what has come before");
    assert_eq!(status.code(), Some(4), "{errors}");
    assert!(last.starts_with("The list is not complete: ") && last.ends_with("no answer in time."), "{last}");
}

#[test]
fn what_others_call_their_mappings_does_not_reach_the_terminal_raw() {
    let igd = Igd { friendly_name: "\u{1b}[2J".into(), ..Igd::default() };
    let server = Server::start_on_own_address(|config| config.gateway.igd = Some(igd.clone()))
        .expect("a gateway on loopback");
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "\u{1b}]0;owned\u{7}name\r\n\u{202e}\u{9b}x");
    for words in ["list", "list --json"] {
        let (_, output, _) = run(plum_at(&server, words));
        let is_foreign = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(output.contains("name") && !output.chars().any(is_foreign), "{output:?}");
        assert_eq!(output.lines().count(), if words == "list" { 2 } else { 1 });
    }
    let fault = "<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>606</errorCode><errorDescription>not \u{202e}allowed\u{2028}\
                 </errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>";
    script_entries(&server, move |_| Reply::http(500, fault));
    let (code, _, errors) = run(plum_at(&server, "list"));
    assert_eq!(
        (code, errors.trim_end()),
        (1, "plum: the gateway does not show its mappings: error 606: not  allowed")
    );
}

#[test]
fn own_mappings_are_coloured_on_a_terminal() {
    let server = gateway();
    insert(&server, Transport::Tcp, 9000, "127.0.0.1:80", "web");
    let (code, output) = end(watch(&server, "list", &[]));
    assert_eq!(code, 0);
    assert!(output.contains(&format!("{GREEN}9000/tcp")), "{output:?}");
    let (_, output) = end(watch(&server, "list", &[("NO_COLOR", "1")]));
    assert!(output.contains("9000/tcp") && !contains_style(&output), "{output:?}");
}
