//! `plum probe` before gateways of all kinds.

use super::harness::{LONG, dead_gateway, gateway, order, plum_at, run, table};
use super::terminal::{GREEN, contains_style, end, watch};
use plum_gateway::core::{Igd, Kind, Reply, WanKind};
use plum_gateway::server::Server;
use serde_json::Value;
use std::time::Duration;

/// How long nobody may answer, in tests in which nobody does.
const SHORT: &str = "--timeout 2s";

/// What `--json` says, and the exit code.
fn probe(server: &Server, words: &str) -> (i32, Value) {
    let (code, output, errors) = run(plum_at(server, &format!("probe --json {words}")));
    assert_eq!(errors, "");
    assert_eq!(output.lines().count(), 1, "{output}");
    (code, serde_json::from_str(&output).expect("it is JSON"))
}

/// What is said to people.
fn told(server: &Server, words: &str) -> String {
    let (_, output, errors) = run(plum_at(server, &format!("probe {words}")));
    assert_eq!(errors, "");
    assert!(!output.contains('\u{1b}'), "no colours but on a terminal: {output:?}");
    output
}

fn statuses(found: &Value) -> [&str; 3] {
    ["pcp", "natpmp", "upnp"].map(|protocol| found[protocol]["status"].as_str().expect("a status"))
}

fn without_upnp(orders: &[&str]) -> Server {
    let server =
        Server::start_on_own_address(|config| config.gateway.igd = None).expect("a gateway on loopback");
    orders.iter().for_each(|command| order(&server, command));
    server
}

fn upnp_only(igd: &Igd) -> Server {
    let server = Server::start_on_own_address(|config| config.gateway.igd = Some(igd.clone()))
        .expect("a gateway on loopback");
    order(&server, "close pcp");
    order(&server, "close natpmp");
    server
}

#[test]
fn finds_all_protocols_and_changes_nothing() {
    let server = gateway();
    let (code, found) = probe(&server, "");
    assert_eq!((code, statuses(&found)), (0, ["answered"; 3]));
    assert_eq!(found["verdict"], "ready");
    let ipv6 = (&found["ipv6"]["state"], &found["ipv6_verdict"]["verdict"]);
    assert_eq!(
        ipv6,
        (&"other-family".into(), &"not-asked".into()),
        "the gateway that is named is one of IPv4"
    );
    assert_eq!((&found["protocol"], &found["external_address"]), (&"PCP".into(), &"203.0.113.7".into()));
    let way = &found["way"];
    assert_eq!((&way["interface"], &way["internal_address"]), (&"lo".into(), &"127.0.0.1".into()));
    assert_eq!(way["gateway"], server.address().to_string());
    assert_eq!(found["pcp"]["version"], 2);
    assert_eq!(found["natpmp"]["external_address"], "203.0.113.7");
    let device = &found["upnp"]["devices"][0];
    let names = ["friendly_name", "manufacturer", "model_name"].map(|name| &device[name]);
    assert_eq!(names, ["Simulated gateway", "plum-gateway", "Simulated gateway"]);
    assert_eq!(device["igd_version"], 1);
    let service = &device["services"][0];
    assert_eq!((&service["name"], &service["is_chosen"]), (&"WANIPConnection:1".into(), &true.into()));
    assert_eq!(service["control_url"], format!("http://{}/ctl/0", server.http_address()));
    assert_eq!((&service["connection_status"], &service["nat_enabled"]), (&"Connected".into(), &true.into()));
    for took in [&found["pcp"], &found["natpmp"], &found["upnp"], service].map(|what| &what["took_ms"]) {
        assert!(took.as_f64().is_some_and(|millis| millis > 0.0), "{took}");
    }
    server.with_core(|core| {
        let changes = [Kind::PcpMap, Kind::PcpDelete, Kind::NatPmpMap, Kind::NatPmpDelete];
        // The program asks for the deletion of what is not there, to see whether requests for mappings are answered.
        let is_sent = changes.map(|kind| core.counts.of(kind) > 0);
        assert_eq!(is_sent, [false, true, false, true], "a busy gateway is asked several times");
        assert_eq!(core.complaints().collect::<Vec<_>>(), [""; 0]);
        assert!(core.table().is_empty());
    });
}

#[test]
fn tells_people_the_same_in_aligned_lines() {
    let output = told(&gateway(), "");
    let lines: Vec<&str> = output.lines().collect();
    let begins = ["Interface  lo", "Internal   127.0.0.1", "Gateway    127."];
    assert!(lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{output}");
    for begin in [
        "PCP        version 2, up 0 s  ",
        "NAT-PMP    external address 203.0.113.7, up 0 s  ",
        "UPnP-IGD   \"Simulated gateway\" at 127.",
        "           WANIPConnection:1 Connected, 203.0.113.7  ",
    ] {
        let line = lines.iter().find(|line| line.starts_with(begin)).expect("the line is there");
        assert!(line.ends_with(" ms") && line.len() == 73, "{line:?} is of the right length");
    }
    let [.., verdict, advice] = lines[..] else { panic!("{output}") };
    assert_eq!(verdict, "Ports can be mapped by PCP: the external address is 203.0.113.7.");
    assert!(advice.contains("--try-map makes sure"), "{advice}");
    assert!(!output.contains("/ctl/0"));
    let details = told(&gateway(), "-v");
    assert!(details.contains("/ctl/0, NAT on") && details.contains("/rootDesc.xml"), "{details}");
}

#[test]
fn asks_by_all_protocols_at_the_same_time() {
    let server = gateway();
    ["silence pcp", "silence natpmp", "silence ssdp"].iter().for_each(|command| order(&server, command));
    let (code, found) = probe(&server, "");
    assert_eq!((code, statuses(&found)), (3, ["silent"; 3]));
    let asked = [Kind::PcpAnnounce, Kind::NatPmpAddress, Kind::SsdpSearch].map(|kind| {
        let times = server.with_core(|core| core.counts.times(kind));
        assert!(times.len() >= 4, "{kind:?} was repeated: {times:?}");
        times[0]
    });
    // One after the other they would begin 3.75 s apart.
    let gap = *asked.iter().max().expect("three") - *asked.iter().min().expect("three");
    assert!(gap < Duration::from_secs(3), "{asked:?}");
}

#[test]
fn tells_pcp_from_natpmp() {
    let server = without_upnp(&["pcp-only"]);
    let (code, found) = probe(&server, SHORT);
    assert_eq!((code, statuses(&found)), (0, ["answered", "answered", "silent"]));
    assert_eq!((&found["protocol"], &found["natpmp"]["result"]), (&"PCP".into(), &Value::Null));
    assert_eq!(found["external_address"], Value::Null);
    let output = told(&server, SHORT);
    assert!(output.contains("NAT-PMP    not spoken (the answer is PCP's)"), "{output}");
    assert!(output.contains("--try-map"), "{output}");

    let server = without_upnp(&["natpmp-only"]);
    let (code, found) = probe(&server, SHORT);
    assert_eq!((code, &found["protocol"]), (0, &"NAT-PMP".into()));
    assert_eq!(found["pcp"]["version"], 0);
    assert!(told(&server, SHORT).contains("PCP        not spoken (the answer is of version 0)"));
}

#[test]
fn a_trial_mapping_tells_the_external_address_and_is_removed() {
    let server = without_upnp(&["pcp-only"]);
    let (code, found) = probe(&server, &format!("--try-map {SHORT}"));
    assert_eq!((code, &found["external_address"]), (0, &"203.0.113.7".into()));
    let mapping = &found["mapping"];
    assert_eq!((&mapping["status"], &mapping["removed"]), (&"made".into(), &true.into()));
    assert_eq!(server.with_core(|core| core.counts.of(Kind::PcpMap)), 1);
    assert_eq!(table(&server), [""; 0]);

    order(&server, "refuse pcp-map 2");
    let (code, found) = probe(&server, "--try-map --timeout 3s");
    assert_eq!((code, &found["verdict"]), (1, &"refused".into()));
    assert_eq!(found["mapping"]["status"], "failed");
}

#[test]
fn finds_upnp_alone_where_the_other_ports_are_closed() {
    let (code, found) = probe(&upnp_only(&Igd::v2()), "");
    assert_eq!((code, statuses(&found)), (0, ["closed", "closed", "answered"]));
    assert_eq!(
        (&found["protocol"], &found["upnp"]["devices"][0]["igd_version"]),
        (&"UPnP-IGD".into(), &2.into())
    );
}

#[test]
fn shows_every_service_and_which_one_the_library_would_use() {
    let mut igd = Igd::with(1, &[WanKind::Ip1, WanKind::Ppp1]);
    igd.services[0].status = "Disconnected".into();
    let server = upnp_only(&igd);
    let (code, found) = probe(&server, "");
    assert_eq!(code, 0);
    let services = found["upnp"]["devices"][0]["services"].as_array().expect("services");
    let facts: Vec<_> = services.iter().map(|it| (&it["name"], &it["is_chosen"])).collect();
    assert_eq!(
        facts,
        [(&"WANIPConnection:1".into(), &false.into()), (&"WANPPPConnection:1".into(), &true.into())]
    );
    let output = told(&server, "");
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    let chosen =
        lines.iter().position(|line| line.contains("(libplum would use this one)")).expect("it is said");
    assert!(lines[chosen - 1].starts_with("WANPPPConnection:1 Connected, 203.0.113.7"), "{output}");
}

#[test]
fn says_what_to_do_where_nobody_answers() {
    let server = dead_gateway();
    let (code, found) = probe(&server, SHORT);
    assert_eq!((code, statuses(&found)), (3, ["closed", "closed", "silent"]));
    assert_eq!(found["verdict"], "no-answer");
    let output = told(&server, SHORT);
    let says =
        format!("The gateway {} answers none of PCP, NAT-PMP and UPnP.\nSwitch on UPnP", server.address());
    assert!(output.contains(&says), "{output}");
}

#[test]
fn says_so_where_the_gateway_is_behind_another_nat() {
    let server = gateway();
    for (address, verdict, says) in
        [("192.168.178.20", "double-nat", "outer box"), ("100.64.9.9", "carrier-nat", "Ask the provider")]
    {
        order(&server, &format!("set external-address {address}"));
        let (code, found) = probe(&server, "");
        assert_eq!(
            (code, &found["verdict"], &found["external_address"]),
            (0, &verdict.into(), &address.into())
        );
        assert!(told(&server, "").contains(says));
    }
}

#[test]
fn says_so_where_the_gateway_refuses_or_has_no_connection() {
    let server = without_upnp(&["refuse pcp-announce 2", "refuse pcp-delete 2", "refuse natpmp-address 2"]);
    let (code, found) = probe(&server, SHORT);
    assert_eq!((code, &found["verdict"]), (1, &"refused".into()));
    assert!(told(&server, SHORT).contains("PCP says NotAuthorized; NAT-PMP says NotAuthorized"));

    let mut igd = Igd::default();
    igd.services[0].status = "Connecting".into();
    let (code, found) = probe(&upnp_only(&igd), "");
    assert_eq!((code, &found["verdict"]), (1, &"not-connected".into()));
}

#[test]
fn a_gateway_that_maps_nothing_tells_its_address_all_the_same() {
    let server = gateway();
    let refusals = ["refuse pcp-map 2", "refuse natpmp-map 2", "refuse AddPortMapping 606"];
    refusals.iter().for_each(|command| order(&server, command));
    let output = told(&server, "--try-map");
    assert!(output.contains("External   203.0.113.7\n"), "{output}");
    let (code, found) = probe(&server, "--try-map");
    assert_eq!((code, &found["verdict"], &found["protocol"]), (1, &"refused".into(), &Value::Null));
    assert_eq!(found["external_address"], "203.0.113.7");
}

#[test]
fn notes_external_addresses_that_differ() {
    let server = gateway();
    order(&server, "set external-address-text 203.0.113.99");
    let output = told(&server, "");
    assert!(
        output.contains("Note: The external addresses differ (203.0.113.7 by NAT-PMP, 203.0.113.99"),
        "{output}"
    );
}

#[test]
fn what_a_gateway_calls_itself_does_not_reach_the_terminal_raw() {
    let igd =
        Igd { friendly_name: "\u{1b}]0;owned\u{7}\u{1b}[2Jevil\r\n\u{202e}\u{9b}x".into(), ..Igd::default() };
    let server = upnp_only(&igd);
    let output = told(&server, "-v");
    assert!(output.contains("evil"), "{output:?}");
    let is_foreign = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!output.chars().any(is_foreign), "{output:?}");
    let (_, found) = probe(&server, "");
    let name = found["upnp"]["devices"][0]["friendly_name"].as_str().expect("a name");
    assert!(!name.chars().any(|c| is_foreign(c) || c == '\n'), "{name:?}");
}

#[test]
fn waits_for_a_slow_description_and_gives_up_a_stalled_one() {
    let server = upnp_only(&Igd::default());
    order(&server, "set dribble 100 5ms");
    assert_eq!(probe(&server, "").0, 0);
    order(&server, "set dribble off");
    order(&server, "set stall-after 200");
    let (code, found) = probe(&server, "--timeout 1s");
    assert_eq!((code, &found["verdict"]), (4, &"refused".into()));
    assert_eq!(found["unfinished"], "all UPnP devices had answered");
    let reason = found["upnp"]["unreadable"][0].as_str().expect("a reason");
    assert!(reason.contains("/rootDesc.xml: no answer in time"), "{reason}");
}

#[test]
fn says_what_it_had_no_time_for() {
    // PCP is there at once, UPnP would take hours.
    let server = gateway();
    order(&server, "set dribble 1 10s");
    let output = told(&server, "--timeout 1s --try-map");
    assert!(
        output.contains("The time was over before a mapping was tried: --timeout gives more."),
        "{output}"
    );
    // The protocols that answered are known all the same.
    assert_eq!(probe(&server, "--timeout 1s").0, 0);
    assert!(table(&server).is_empty());
}

#[test]
fn a_trial_has_the_time_that_is_left() {
    // Nobody answers to the trial.
    let server = without_upnp(&[]);
    server.with_core(|core| {
        core.add_script(|request| match request.kind {
            Kind::PcpMap | Kind::NatPmpMap => Reply::nothing(),
            _ => Reply::usual(),
        });
    });
    let (code, found) = probe(&server, "--timeout 1500ms --try-map");
    assert_eq!(found["mapping"]["status"], "failed");
    // The library gives up at about the time at which nobody waits for it any more: it says no, or says nothing.
    match code {
        1 => assert_eq!(found["unfinished"], Value::Null),
        _ => assert_eq!((code, &found["unfinished"]), (4, &"the mapping was made".into())),
    }
}

#[test]
fn a_location_on_another_host_is_fetched_from_the_one_that_names_it() {
    let (server, other) = (upnp_only(&Igd::default()), gateway());
    let port = server.http_address().port();
    order(&server, &format!("set location http://{}:{port}/rootDesc.xml", other.http_address().ip()));
    let (code, found) = probe(&server, SHORT);
    assert_eq!((code, statuses(&found)), (0, ["closed", "closed", "answered"]));
    let location = found["upnp"]["devices"][0]["location"].as_str();
    assert_eq!(location, Some(format!("http://{}/rootDesc.xml", server.http_address()).as_str()));
    assert_eq!(other.with_core(|core| core.counts.total()), 0);
}

#[test]
fn only_answers_of_the_gateway_count() {
    let server = without_upnp(&["set junk before"]);
    let (code, found) = probe(&server, SHORT);
    assert_eq!((code, statuses(&found)), (0, ["answered", "answered", "silent"]));
    order(&server, "set junk instead");
    assert_eq!(statuses(&probe(&server, SHORT).1), ["silent"; 3]);
    order(&server, "set junk none");
    order(&server, "set wrong-source 127.0.0.9");
    assert_eq!(statuses(&probe(&server, SHORT).1), ["silent"; 3]);
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let server = gateway();
    for words in ["probe --gateway nonsense", "probe --timeout 0s", "probe --timeout x", "probe 8080"] {
        let (code, output, errors) = run(plum_at(&server, words));
        assert_eq!((code, output.as_str()), (2, ""), "{words}");
        assert!(!errors.is_empty());
    }
}

#[test]
fn is_coloured_on_a_terminal_only_and_never_with_no_color() {
    let server = gateway();
    let (code, output) = end(watch(&server, "probe", &[]));
    assert_eq!(code, 0);
    assert!(output.contains(&format!("{GREEN}version 2")), "{output:?}");
    let (code, output) = end(watch(&server, "probe", &[("NO_COLOR", "1")]));
    assert_eq!(code, 0);
    assert!(output.contains("version 2") && !contains_style(&output), "{output:?}");
    assert!(server.wait_until(LONG, |core| core.table().is_empty()));
}
