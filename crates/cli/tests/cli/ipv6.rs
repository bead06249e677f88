//! IPv6, in a network of its own: the gateway is on this machine, and named.

use super::harness::{LONG, Running, order, plum, run};
use super::terminal::end;
use plum_gateway::core::{Kind, Reply};
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::{DEPRECATED, add_ipv6_network, ip, is_inside, wait_for_ipv6_address};
use rexpect::session::spawn_command;
use rustix::process::Signal;
use serde_json::Value;
use std::net::Ipv6Addr;

/// The name of a test of this file, as the harness knows it.
macro_rules! here {
    ($test:ident) => {
        concat!("ipv6::", stringify!($test))
    };
}

/// A machine with an IPv6 address on a cable whose gateway answers nothing, and a gateway at ::1.
pub fn network() -> Server {
    add_ipv6_network("lan1", "2600::17");
    let mut config = Config::at(Ipv6Addr::LOCALHOST);
    config.gateway = config.gateway.with_ipv6(Ipv6Addr::LOCALHOST);
    Server::start(config).expect("a gateway on ::1")
}

fn pinholes(server: &Server) -> usize {
    server.with_core(|core| core.pinholes().len())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_pinhole_is_open_until_ctrl_c() {
    if !is_inside(here!(a_pinhole_is_open_until_ctrl_c)) {
        return;
    }
    let server = network();
    for words in ["map 8080 --gateway ::1 --ipv6", "map 8080 --gateway ::1 --ipv6=2600::17"] {
        let running = Running::start(plum(words));
        assert_eq!(running.line(), "8080/tcp mapped [2600::17]:8080 by PCP");
        assert_eq!(pinholes(&server), 1);
        running.signal(Signal::INT);
        let (status, rest, errors) = running.end();
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
        assert_eq!((&rest[..], pinholes(&server)), (&["8080/tcp removed by IPv6".to_owned()][..], 0));
    }

    let running = Running::start(plum("map 8080/udp --gateway ::1 --ipv6 --json"));
    let mapped = json(&running.line());
    let names = ["event", "transport", "family", "external_address"].map(|name| &mapped[name]);
    assert_eq!(names, ["mapped", "udp", "ipv6", "2600::17"]);
    assert_eq!((&mapped["external_port"], &mapped["internal_port"]), (&8080.into(), &8080.into()));
    running.signal(Signal::INT);
    running.end();
}

#[test]
fn a_pinhole_has_a_row_on_a_terminal() {
    if !is_inside(here!(a_pinhole_has_a_row_on_a_terminal)) {
        return;
    }
    let _server = network();
    let millis = u64::try_from(LONG.as_millis()).expect("it fits");
    let command = plum("map 8080 --both --gateway ::1");
    let mut session = spawn_command(command, Some(millis)).expect("the program runs on a terminal");
    session.exp_string("8080/tcp    mapped   [2600::17]:8080       PCP").expect("the pinhole");
    session.send_control('c').expect("the terminal takes it");
    session.exp_string("8080/tcp    removed by IPv6").expect("it is removed");
    assert_eq!(end(session).0, 1, "the gateway that is named is none of IPv4");
}

#[test]
fn a_pinhole_that_cannot_be_says_why() {
    if !is_inside(here!(a_pinhole_that_cannot_be_says_why)) {
        return;
    }
    let reason = |words: &str| {
        let (code, output, errors) = run(plum(&format!("map 8080 --json {words}")));
        assert!(!errors.is_empty(), "{output}");
        (code, json(&output)["reason"].as_str().expect("a reason").to_owned())
    };
    ip("link set lo up");
    assert_eq!(reason("--ipv6"), (3, "no-ipv6-route".into()));
    let _server = network();
    for (address, word) in
        [("2600::18", "not-our-address"), ("::1", "not-reachable"), ("fe80::1", "not-reachable")]
    {
        assert_eq!(reason(&format!("--ipv6={address}")), (1, word.into()));
    }
    assert_eq!(reason("--discover-timeout 300ms"), (3, "no-network".into()), "there is no IPv4");
    assert_eq!(reason("--ipv6 --gateway 192.168.1.1"), (1, "other-family".into()));
    ip("addr del 2600::17/64 dev lan1");
    assert_eq!(reason("--ipv6"), (3, "no-ipv6-address".into()));
}

#[test]
fn probe_says_what_there_is_by_ipv6() {
    if !is_inside(here!(probe_says_what_there_is_by_ipv6)) {
        return;
    }
    let server = network();
    ip("addr add 2600::99/64 dev lan1 nodad preferred_lft 0");
    wait_for_ipv6_address("lan1", "26000000000000000000000000000099", DEPRECATED);
    assert_eq!(plum::local_address(), "2600::17".parse().ok(), "there is no IPv4 route");

    let (code, output, _) = run(plum("probe --json --gateway ::1 --timeout 2s"));
    let found = json(&output);
    assert_eq!((code, &found["verdict"], &found["way"]), (0, &"ipv6-only".into(), &Value::Null));
    assert_eq!((&found["protocol"], &found["external_address"]), (&"PCP".into(), &"2600::17".into()));
    let ipv6 = &found["ipv6"];
    let names = ["state", "interface", "address", "reason", "gateway"].map(|name| &ipv6[name]);
    assert_eq!(names, ["asked", "lan1", "2600::17", "stable", "::1"]);
    assert_eq!((&ipv6["pcp"]["version"], &ipv6["pcp"]["is_usable"]), (&2.into(), &true.into()));
    let addresses = ipv6["addresses"].as_array().expect("an array");
    let deprecated = addresses.iter().find(|known| known["is_deprecated"] == true).expect("the other");
    assert_eq!((addresses.len(), &deprecated["address"]), (2, &"2600::99".into()));

    order(&server, "silence pcp");
    let (code, output, _) = run(plum("probe -v --timeout 500ms"));
    assert_eq!(code, 3, "{output}");
    for line in
        ["IPv6       2600::17 on lan1 (stable)", "           not 2600::99 (deprecated)", "Gateway    fe80::1"]
    {
        assert!(output.lines().any(|known| known == line), "{line}: {output}");
    }
    assert!(
        output.contains("This machine has no IPv4 route; by IPv6, the gateway fe80::1 answers neither"),
        "{output}"
    );
    assert_eq!(pinholes(&server), 0, "nothing was opened");
}

#[test]
fn a_pinhole_to_a_unique_local_address_has_its_caveat() {
    if !is_inside(here!(a_pinhole_to_a_unique_local_address_has_its_caveat)) {
        return;
    }
    let _server = network();
    ip("addr add fd00::17/64 dev lan1 nodad");
    wait_for_ipv6_address("lan1", "fd00", 0);
    ip("addr del 2600::17/64 dev lan1");
    let (code, output, _) = run(plum("probe --gateway ::1"));
    assert_eq!(code, 0, "{output}");
    assert!(
        output
            .contains("IPv6 pinholes by PCP, to fd00::17.\nNobody on the internet reaches this unique local"),
        "{output}"
    );
    // What the gateway grants shows that.
    let (code, output, _) = run(plum("map 8080 --ipv6 --gateway ::1"));
    assert_eq!(code, 1);
    assert!(output.contains("not a global IPv6 address (fd00::17)"), "{output}");
}

#[test]
fn probe_says_what_the_firewall_allows() {
    if !is_inside(here!(probe_says_what_the_firewall_allows)) {
        return;
    }
    let server = network();
    order(&server, "close pcp");
    let found = |commands: &[&str]| {
        commands.iter().for_each(|command| order(&server, command));
        let (code, output, _) = run(plum("probe --json --gateway ::1 --timeout 1s"));
        let found = json(&output);
        let told = ["firewall_enabled", "inbound_pinhole_allowed"]
            .map(|name| found["ipv6"]["firewall"][name].as_bool());
        let verdict = found["ipv6_verdict"]["verdict"].as_str().expect("a verdict").to_owned();
        (code, told, verdict, found["protocol"].as_str().map(str::to_owned))
    };
    assert_eq!(found(&[]), (0, [Some(true); 2], "ready".into(), Some("UPnP-IGD".into())));
    let forbidden = found(&["set inbound-pinhole-allowed off"]);
    assert_eq!(forbidden, (1, [Some(true), Some(false)], "not-allowed".into(), None));
    let off = found(&["set firewall-enabled off"]);
    assert_eq!(off, (0, [Some(false); 2], "direct".into(), Some("direct".into())));
    order(&server, "no-faults");
    order(&server, "close pcp");
    let (code, output, _) = run(plum("map 8080 --gateway ::1 --ipv6 --for 1s"));
    let lines = "8080/tcp mapped [2600::17]:8080 by UPnP-IGD\n8080/tcp removed by IPv6\n";
    assert_eq!((code, output.as_str(), pinholes(&server)), (0, lines, 0));
}

#[test]
fn probe_says_what_the_library_would_do_by_ipv6() {
    if !is_inside(here!(probe_says_what_the_library_would_do_by_ipv6)) {
        return;
    }
    let server = network();
    let found = |words: &str| {
        let (code, output, _) = run(plum(&format!("probe --json --gateway ::1 {words}")));
        let found = json(&output);
        let tried =
            ["status", "protocol"].map(|name| found["ipv6"]["mapping"][name].as_str().map(str::to_owned));
        let verdict = found["ipv6_verdict"].clone();
        (code, found["protocol"].as_str().map(str::to_owned), tried, verdict)
    };
    let pcp = Some("PCP".to_owned());
    let (code, protocol, tried, _) = found("--try-map");
    assert_eq!((code, &protocol, tried), (0, &pcp, [Some("made".to_owned()), pcp.clone()]));

    // PCP answers ANNOUNCE, and no request for a pinhole.
    server.with_core(|core| {
        core.add_script(|request| match request.kind {
            Kind::PcpMap | Kind::PcpDelete => Reply::nothing(),
            _ => Reply::usual(),
        });
    });
    let upnp = Some("UPnP-IGD".to_owned());
    let (code, protocol, ..) = found("--timeout 4s");
    assert_eq!((code, &protocol), (0, &upnp));
    let (code, protocol, tried, _) = found("--try-map");
    assert_eq!((code, &protocol, tried), (0, &upnp, [Some("made".to_owned()), upnp.clone()]));

    server.with_core(|core| core.clear_scripts());
    for kind in ["pcp-announce", "pcp-map", "pcp-delete"] {
        order(&server, &format!("refuse {kind} 12"));
    }
    order(&server, "close ssdp");
    order(&server, "silence ssdp");
    let (code, protocol, _, verdict) = found("--timeout 2s");
    assert_eq!((code, protocol, &verdict["verdict"]), (1, None, &"refused".into()));
    let message = verdict["message"].as_str().expect("words");
    assert!(message.starts_with("an address translator stands between"), "{message}");
    assert_eq!(pinholes(&server), 0);
}

#[test]
fn address_is_that_of_this_machine_by_ipv6() {
    if !is_inside(here!(address_is_that_of_this_machine_by_ipv6)) {
        return;
    }
    ip("link set lo up");
    let (code, output, errors) = run(plum("address --ipv6"));
    assert_eq!((code, output.as_str()), (3, ""));
    assert!(errors.contains("no IPv6 route"), "{errors}");
    let _server = network();
    assert_eq!(run(plum("address --ipv6")), (0, "2600::17\n".into(), String::new()));
    let (code, output, errors) = run(plum("address --ipv6 --json"));
    let found = json(&output);
    assert_eq!((code, errors.as_str(), &found["external_address"]), (0, "", &"2600::17".into()));
    assert_eq!((&found["protocol"], &found["scope"]), (&"direct".into(), &"public".into()));
    ip("addr del 2600::17/64 dev lan1");
    ip("addr add fd00::17/64 dev lan1");
    wait_for_ipv6_address("lan1", "fd00", 0);
    let (code, output, errors) = run(plum("address --ipv6"));
    assert_eq!((code, output.as_str()), (0, "fd00::17\n"));
    assert!(errors.contains("no global address"), "{errors}");
}
