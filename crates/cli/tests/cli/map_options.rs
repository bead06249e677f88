//! The options of `plum map` that say what the mappings are to be like.

use super::harness::{LONG, Running, dead_gateway, gateway, order, plum, plum_at, run, run_for_lines, table};
use plum_gateway::core::Kind;
use plum_gateway::server::Server;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The gateway refuses this internal port by every protocol.
fn refuse(server: &Server, port: u16) {
    for refusal in ["pcp-map 2", "natpmp-map 2", "AddPortMapping 606"] {
        order(server, &format!("refuse {refusal} port {port}"));
    }
}

/// The lifetimes that the gateway was asked for.
fn asked(server: &Server, kind: Kind) -> Vec<Option<u32>> {
    server.with_core(|core| {
        let of_kind = core.counts.received.iter().filter(|received| received.kind == kind);
        of_kind.map(|received| received.lifetime).collect()
    })
}

/// Whether a point in time is so far away, but for what this test takes.
fn is_in(text: &str, span: Duration) -> bool {
    let at = humantime::parse_rfc3339(text).expect("a point in time");
    let left = at.duration_since(SystemTime::now()).expect("it is to come");
    left <= span && left + LONG > span
}

fn object(line: &str) -> Value {
    serde_json::from_str(line).expect("an object")
}

#[test]
fn leaves_what_it_has_mapped_and_says_until_when() {
    let server = gateway();
    let (code, output, errors) = run(plum_at(&server, "map 8080 6881/udp:16881 --lifetime 1h --leave"));
    assert_eq!((code, errors.as_str()), (0, ""));
    let mut lines: Vec<&str> = output.lines().collect();
    lines[..2].sort_unstable();
    assert_eq!(
        lines[..2],
        ["6881/udp mapped 203.0.113.7:16881 by PCP", "8080/tcp mapped 203.0.113.7:8080 by PCP"]
    );
    for (line, port) in lines[2..].iter().zip(["8080/tcp", "6881/udp"]) {
        let until = line.strip_prefix(&format!("{port} stays until ")).expect("it stays");
        assert!(is_in(until, Duration::from_secs(3600)), "{line}");
    }
    assert_eq!(lines.len(), 4, "{output}");
    assert_eq!(table(&server), ["Tcp 8080 -> 8080", "Udp 16881 -> 6881"]);
    assert_eq!(asked(&server, Kind::PcpMap), [Some(3600); 2]);
}

#[test]
fn what_is_left_has_an_object() {
    for (lifetime, protocol) in [(Some(600), "PCP"), (None, "UPnP-IGD")] {
        let server = gateway();
        let words = format!("map 8080 --json --leave --lifetime {}s", lifetime.unwrap_or(0));
        let (code, output, _) = run(plum_at(&server, &words));
        let [mapped, left] = &output.lines().map(object).collect::<Vec<_>>()[..] else { panic!("{output}") };
        assert_eq!((code, &mapped["event"], &mapped["protocol"]), (0, &json!("mapped"), &json!(protocol)));
        let (at, secs) = (&left["expires_at"], &left["expires_in_secs"]);
        match lifetime {
            Some(lifetime) => {
                assert!(is_in(at.as_str().expect("a text"), Duration::from_secs(lifetime)), "{left}");
                let secs = secs.as_u64().expect("a number");
                assert!((lifetime - LONG.as_secs()..=lifetime).contains(&secs), "{left}");
            }
            None => assert_eq!((at, secs), (&Value::Null, &Value::Null)),
        }
        assert_eq!(
            *left,
            json!({
                "event": "left", "transport": "tcp", "internal_port": 8080, "family": "ipv4",
                "expires_in_secs": secs, "expires_at": at,
            })
        );
        assert_eq!(table(&server), ["Tcp 8080 -> 8080"]);
    }
}

#[test]
fn a_lifetime_of_zero_is_a_mapping_of_upnp_that_stays() {
    for option in ["--lifetime 0", "--lease 0"] {
        let server = gateway();
        let (code, output, _) = run(plum_at(&server, &format!("map 8080 --leave {option}")));
        let says = "8080/tcp mapped 203.0.113.7:8080 by UPnP-IGD\n8080/tcp stays until it is removed, or the gateway ends it\n";
        assert_eq!((code, output.as_str()), (0, says));
        assert!(server.with_core(|core| core.table().iter().all(|entry| entry.expires_at.is_none())));
    }
}

#[test]
fn the_gateway_has_the_last_word_on_the_lifetime() {
    let server = gateway();
    order(&server, "set max-lifetime 120");
    let (code, output, _) = run(plum_at(&server, "map 8080 --leave --lifetime 1h"));
    let until = output.trim_end().rsplit(' ').next().expect("words");
    assert!(code == 0 && is_in(until, Duration::from_secs(120)), "{output}");
}

#[test]
fn a_mapping_that_is_kept_up_asks_for_the_lifetime_too() {
    let server = gateway();
    let (code, ..) = run_for_lines(1, plum_at(&server, "map 8080 --lifetime 90s"));
    assert_eq!((code, asked(&server, Kind::PcpMap)), (0, vec![Some(90)]));
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn what_can_be_mapped_is_left_beside_what_cannot() {
    let server = gateway();
    refuse(&server, 81);
    let (code, output, _) = run(plum_at(&server, "map 80 81 --leave"));
    assert_eq!(code, 1, "one could not be mapped");
    assert!(output.contains("81/tcp failed: ") && output.contains("\n80/tcp stays until "), "{output}");
    assert_eq!(table(&server), ["Tcp 80 -> 80"]);

    let (code, output, errors) = run(plum_at(&dead_gateway(), "map 80 --leave"));
    assert_eq!(code, 3);
    assert!(!output.contains("stays") && errors.starts_with("plum: the gateway "), "{output}{errors}");
}

#[test]
fn interrupted_before_all_is_decided_it_leaves_nothing() {
    let server = gateway();
    refuse(&server, 81);
    let running = Running::start(plum_at(&server, "map 80 81 --leave --keep-trying"));
    let mut lines = [running.line(), running.line()];
    lines.sort();
    assert_eq!(lines[0], "80/tcp mapped 203.0.113.7:80 by PCP");
    running.signal(Signal::INT);
    let (status, rest, _) = running.end();
    assert_eq!((status.code(), rest), (Some(1), vec!["80/tcp removed".to_owned()]));
    assert_eq!(table(&server), [""; 0]);
}

#[cfg(target_os = "linux")] // elsewhere there is no /dev/full
#[test]
fn nothing_is_left_that_could_not_be_told() {
    let server = gateway();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let (status, ..) = Running::start_into(plum_at(&server, "map 8080 --leave"), full.into()).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn pcp_and_nat_pmp_can_be_chosen_apart() {
    for (protocol, name, other) in [("pcp-only", "PCP", "natpmp"), ("nat-pmp", "NAT-PMP", "pcp")] {
        let server = gateway();
        let (code, output, _) = run_for_lines(1, plum_at(&server, &format!("map 80 --protocol {protocol}")));
        assert_eq!(code, 0);
        assert!(output.starts_with(&format!("80/tcp mapped 203.0.113.7:80 by {name}\n")), "{output}");
        let counts = server.with_core(|core| core.counts.clone());
        let asked_otherwise = match other {
            "pcp" => counts.pcp_map + counts.pcp_announce,
            _ => counts.natpmp_map + counts.natpmp_address,
        };
        assert_eq!((asked_otherwise, counts.ssdp_search), (0, 0));
    }
}

#[test]
fn ports_have_a_name_in_the_table_of_upnp() {
    let server = gateway();
    let mut command = plum_at(&server, "map 80 81/udp --protocol upnp --description");
    command.arg("Photos & <more>");
    let running = Running::start(command);
    let _ = [running.line(), running.line()];
    let (code, listed, _) = run(plum_at(&server, "list"));
    assert_eq!((code, listed.matches("Photos & <more>").count()), (0, 2), "{listed}");
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), [""; 0]);

    let long = "x".repeat(64);
    for bad in ["", "a\tb", "\u{1b}[31m", &long] {
        let mut command = plum_at(&server, "map 80 --description");
        command.arg(bad);
        let (code, output, errors) = run(command);
        assert_eq!((code, output.as_str()), (2, ""), "{bad:?}");
        assert!(errors.contains("is no description") && !errors.contains('\u{1b}'), "{errors}");
    }
}

#[test]
fn wrong_options_are_explained() {
    for (words, says) in [
        ("--lifetime 0 --ipv6", "pinholes for IPv6 end within a day"),
        ("--lifetime 0 --both", "pinholes for IPv6 end within a day"),
        ("--lifetime 0 --protocol pcp", "only UPnP has mappings without end"),
        ("--lifetime 0 --protocol nat-pmp", "only UPnP has mappings without end"),
        ("--lifetime 137years", "136 years"),
        ("--lifetime soon", "2h 30m"),
        ("--leave --for 1h", "cannot be used with"),
        ("--protocol nat-pmp --ipv6", "NAT-PMP opens no pinholes"),
    ] {
        let (code, output, errors) = run(plum(&format!("map 80 {words}")));
        assert_eq!((code, output.as_str()), (2, ""), "{words}");
        assert!(errors.contains(says), "{words}: {errors}");
    }
}
