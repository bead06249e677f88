//! Why `plum map` could not map a port, and what is odd about where it did: sentences, exit codes, JSON.

use super::harness::{gateway, order, plum_at, run, run_for_lines};
use serde_json::{Value, json};
use std::thread;

fn object(output: &str) -> Value {
    serde_json::from_str(output).unwrap_or_else(|_| panic!("one object: {output}"))
}

/// What a gateway answers, how it is asked, and the exit code, JSON code and advice that follow.
type Cause = (&'static [&'static str], &'static str, i32, &'static str, &'static str);

const CAUSES: [Cause; 10] = [
    (
        &["refuse pcp-map 2", "refuse natpmp-map 2", "refuse AddPortMapping 606"],
        "",
        5,
        "not-allowed",
        "allow it in its settings",
    ),
    (
        &["refuse pcp-map 8", "refuse natpmp-map 4", "refuse AddPortMapping 728"],
        "",
        6,
        "no-room",
        "plum list shows them",
    ),
    (&["refuse pcp-map 10", "silence natpmp", "close ssdp"], "", 6, "no-room", "plum list shows them"),
    (
        &["refuse pcp-map 7", "refuse natpmp-map 3", "refuse AddPortMapping 501"],
        "",
        7,
        "wan-down",
        "look at its cable",
    ),
    (&["refuse pcp-map 12", "close ssdp"], "", 8, "nat-between", "make the one in between an access point"),
    (&["refuse pcp-map 2", "silence natpmp", "close ssdp"], "", 11, "left-over", "within two hours"),
    (
        &["refuse pcp-map 11", "silence natpmp", "close ssdp"],
        "",
        12,
        "port-taken",
        "name another external port",
    ),
    (&["refuse AddPortMapping 718"], "--protocol upnp", 12, "port-taken", "name another external port"),
    (&["refuse http-description 404"], "--protocol upnp", 13, "no-description", "restart it"),
    (&["refuse pcp-map 200", "silence natpmp", "close ssdp"], "", 1, "refused", "-vv shows what it answers"),
];

#[test]
fn each_cause_has_its_own_sentence_advice_and_codes() {
    // At the same time, because the command waits for gateways that are silent.
    thread::scope(|scope| {
        for cause in CAUSES {
            scope.spawn(move || check_cause(cause));
        }
    });
}

fn check_cause((orders, options, code, reason, advice): Cause) {
    let server = gateway();
    orders.iter().for_each(|command| order(&server, command));
    let (ended, output, errors) = run(plum_at(&server, &format!("map 8080 --json {options}")));
    let object = object(&output);
    assert_eq!((ended, &object["reason"]), (code, &json!(reason)), "{orders:?}: {output}");
    let told = object["advice"].as_str().expect("advice");
    assert!(told.contains(advice), "{orders:?}: {told}");
    assert!(
        object["message"].as_str().is_some_and(|message| message.contains('(')),
        "what was said: {output}"
    );
    assert!(object["next_try_in_secs"].as_u64().is_some(), "{output}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("plum: ") && errors.contains(told), "{errors}");
    // Another port helps against one of them alone.
    assert_eq!(errors.contains("another external port"), reason == "port-taken", "{errors}");
}

#[test]
fn the_manual_page_and_the_documentation_have_every_cause() {
    let (code, help, _) = run(super::harness::plum("map --help"));
    assert_eq!(code, 0);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = super::others::manual_page("plum-map");
    let section = page.split("WHY A PORT IS NOT MAPPED").nth(1).expect("the section");
    let documented = include_str!("../../../../docs/troubleshooting.md");
    let rows: Vec<Vec<&str>> = documented
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for row in &rows {
        let [reason, code, words, advice] = row[..] else { panic!("{row:?}") };
        let entry = format!("{words} (exit code {code}): {advice}.");
        let reason = reason.trim_matches('`');
        assert!(section.contains(&format!("{reason}\n{entry}")), "{reason}: {entry}\n{section}");
        assert!(
            code.parse().is_ok_and(|number: u8| number < 5) || help.contains(&format!("{code} ")),
            "{help}"
        );
    }
    assert_eq!(
        rows.len(),
        section.matches("(exit code ").count(),
        "every one of the page is in the documentation"
    );
    assert!(help.contains("9 a firewall of this machine lets no request out"), "{help}");
}

/// External addresses that the internet does not reach, in JSON and in words.
const UNREACHED: [(&str, &str, &str); 5] = [
    ("100.64.1.2", "carrier-nat", "belongs to the provider's carrier-grade NAT"),
    ("192.168.7.2", "private", "so another NAT stands between the gateway and the internet"),
    ("10.0.0.2", "private", "so another NAT stands between the gateway and the internet"),
    ("172.31.0.2", "private", "so another NAT stands between the gateway and the internet"),
    ("169.254.7.2", "link-local", "is a link-local address"),
];

#[test]
fn an_external_address_that_the_internet_does_not_reach_is_said() {
    for (address, reach, says) in UNREACHED {
        let server = gateway();
        order(&server, &format!("set external-address {address}"));
        let (code, output, _) = run_for_lines(2, plum_at(&server, "map 8080"));
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], format!("8080/tcp mapped {address}:8080 by PCP"));
        assert!(lines[1].starts_with(&format!("8080/tcp note: {address} ")), "{output}");
        assert!(lines[1].contains(says) && lines[1].contains(": "), "{output}");
        assert_eq!((code, lines[2]), (0, "8080/tcp removed"));

        let (_, output, _) = run_for_lines(1, plum_at(&server, "map 8080 --json"));
        let mapped = object(output.lines().next().expect("an object"));
        assert_eq!(mapped["reachable_from"], reach);
        assert!(mapped["notes"][0].as_str().is_some_and(|note| note.contains(says)), "{output}");
    }
}

#[test]
fn another_port_than_the_wished_one_is_said() {
    let server = gateway();
    order(&server, "set assigned-port +10");
    let (_, output, _) = run_for_lines(2, plum_at(&server, "map 8080:9000"));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "8080/tcp mapped 203.0.113.7:9010 by PCP",
            "8080/tcp note: the external port is 9010, because 9000 was not to be had"
        ]
    );
    let (_, output, _) = run_for_lines(1, plum_at(&server, "map 8080 --json"));
    let mapped = object(output.lines().next().expect("an object"));
    let ports = ["suggested_external_port", "external_port"].map(|name| mapped[name].as_u64());
    assert_eq!(ports, [Some(8080), Some(8090)]);
}

#[test]
fn time_that_is_over_before_an_answer_is_said() {
    // A gateway that has refused by one protocol has answered.
    for pcp in ["silence pcp", "refuse pcp-map 2"] {
        let server = gateway();
        [pcp, "silence natpmp", "silence ssdp"].iter().for_each(|command| order(&server, command));
        let (code, output, errors) = run(plum_at(&server, "map 8080 --for 300ms"));
        let gateway = server.address();
        let says =
            format!("the gateway {gateway} has not made the mapping yet, and the time of --for is over");
        assert_eq!(code, 4);
        assert!(output.starts_with(&format!("8080/tcp failed: {says}: ")), "{output}");
        assert!(errors.starts_with(&format!("plum: {says}: ")), "{errors}");
    }
}
