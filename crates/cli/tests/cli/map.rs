//! `plum map` where nobody watches: lines, JSON, signals, exit codes.

use super::harness::{
    LONG, Running, dead_gateway, gateway, lose_mappings, order, plum, plum_at, run, run_for_lines, table,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Instant;

#[test]
fn maps_until_a_signal_comes_and_removes_what_it_mapped() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let server = gateway();
        let running = Running::start(plum_at(&server, "map 8080 6881/udp:16881"));
        let mut lines = [running.line(), running.line()];
        lines.sort();
        assert_eq!(
            lines,
            ["6881/udp mapped 203.0.113.7:16881 by PCP", "8080/tcp mapped 203.0.113.7:8080 by PCP"]
        );
        assert_eq!(table(&server), ["Tcp 8080 -> 8080", "Udp 16881 -> 6881"]);
        running.signal(signal);
        let (status, rest, errors) = running.end();
        assert_eq!(rest, ["8080/tcp removed", "6881/udp removed"]);
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
        assert_eq!(table(&server), [""; 0]);
    }
}

#[test]
fn maps_ranges_and_both_transports() {
    let server = gateway();
    let (code, output, _) = run_for_lines(6, plum_at(&server, "map 7000-7002/both:9000"));
    assert_eq!(code, 0);
    for transport in ["tcp", "udp"] {
        for n in 0..3 {
            let line = format!("{}/{transport} mapped 203.0.113.7:{} by PCP\n", 7000 + n, 9000 + n);
            assert!(output.contains(&line), "{output}");
        }
    }
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn ends_after_its_time() {
    let server = gateway();
    let begun = Instant::now();
    let (code, output, errors) = run(plum_at(&server, "map 8080 --for 3s"));
    assert!(begun.elapsed().as_millis() >= 3000);
    assert_eq!(output, "8080/tcp mapped 203.0.113.7:8080 by PCP\n8080/tcp removed\n");
    assert_eq!((code, errors.as_str()), (0, ""));
}

#[test]
fn each_protocol_can_be_chosen() {
    for (protocol, faults, name) in
        [("any", &[][..], "PCP"), ("pcp", &["natpmp-only"][..], "NAT-PMP"), ("upnp", &[], "UPnP-IGD")]
    {
        let server = gateway();
        faults.iter().for_each(|fault| order(&server, fault));
        let words = format!("map 8080 --protocol {protocol} --gateway {}", server.address());
        let (code, output, _) = run_for_lines(1, plum(&words));
        assert_eq!(code, 0);
        assert!(output.starts_with(&format!("8080/tcp mapped 203.0.113.7:8080 by {name}\n")), "{output}");
    }
}

#[test]
fn the_option_comes_before_the_environment() {
    let (server, other) = (gateway(), dead_gateway());
    let (code, ..) = run_for_lines(1, plum_at(&other, &format!("map 8080 --gateway {}", server.address())));
    assert_eq!(code, 0);
}

#[test]
fn json_has_an_object_a_line() {
    let server = gateway();
    order(&server, "set lifetime 1000");
    let (code, output, _) = run_for_lines(1, plum_at(&server, "map 8080/udp --json"));
    assert_eq!(code, 0);
    let objects: Vec<Value> =
        output.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let [mapped, removed] = &objects[..] else { panic!("two objects: {output}") };
    let renews_in = mapped["renews_in_secs"].as_u64().expect("a number");
    let expires_in = mapped["expires_in_secs"].as_u64().expect("a number");
    // RFC 6887 §11.2.1: the first renewal comes between 1/2 and 5/8 of the lifetime, here less what this test takes.
    assert!((400..=625).contains(&renews_in) && (900..=1000).contains(&expires_in), "{output}");
    assert_eq!(
        *mapped,
        json!({
            "event": "mapped", "transport": "udp", "internal_port": 8080, "family": "ipv4",
            "external_address": "203.0.113.7", "external_port": 8080, "protocol": "PCP",
            "suggested_external_port": 8080, "reachable_from": "internet", "notes": [],
            "renews_in_secs": renews_in, "expires_in_secs": expires_in,
        })
    );
    assert_eq!(
        *removed,
        json!({
            "event": "removed", "transport": "udp", "internal_port": 8080, "family": "ipv4", "confirmed": true,
        })
    );
}

#[test]
fn both_families_are_told_apart() {
    let server = gateway();
    let (code, output, _) = run_for_lines(2, plum_at(&server, "map 8080 --both"));
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    // The gateway that is named has an IPv4 address.
    assert!(lines[0].starts_with("8080/tcp failed by IPv6: the gateway that is named"), "{output}");
    assert_eq!(lines[1..], ["8080/tcp mapped 203.0.113.7:8080 by PCP", "8080/tcp removed"]);
    assert_eq!(code, 1, "one of them failed");

    for words in ["map 8080 --json --ipv6", "map 8080 --json --ipv6=2600::17"] {
        let (code, output, errors) = run(plum_at(&server, words));
        let object: Value = serde_json::from_str(&output).expect("an object");
        assert_eq!(
            (code, &object["event"], &object["reason"]),
            (1, &"failed".into(), &"other-family".into())
        );
        assert_eq!((&object["family"], &object["internal_port"]), (&"ipv6".into(), &8080.into()));
        assert!(errors.contains("the gateway that is named has the other IP version"), "{errors}");
    }
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn json_has_the_reason_of_a_failure() {
    let server = dead_gateway();
    let (code, output, _) = run(plum_at(&server, "map 8080 --json"));
    assert_eq!(code, 3);
    let object: Value = serde_json::from_str(&output).expect("one object");
    assert_eq!((&object["event"], &object["reason"]), (&json!("failed"), &json!("no-answer")));
}

#[test]
fn without_a_gateway_it_says_what_to_do() {
    let server = dead_gateway();
    let (code, output, errors) = run(plum_at(&server, "map 8080 --discover-timeout 5s"));
    assert_eq!(code, 3);
    assert!(output.starts_with("8080/tcp failed: the gateway "), "{output}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with("plum: the gateway ") && errors.contains("switch on UPnP"), "{errors}");
}

#[test]
fn goes_on_with_what_can_be_mapped() {
    let server = gateway();
    for refusal in
        ["refuse pcp-map 2 port 81", "refuse natpmp-map 2 port 81", "refuse AddPortMapping 606 port 81"]
    {
        order(&server, refusal);
    }
    let running = Running::start(plum_at(&server, "map 80 81"));
    let mut lines = [running.line(), running.line()];
    lines.sort();
    assert_eq!(lines[0], "80/tcp mapped 203.0.113.7:80 by PCP");
    assert!(lines[1].starts_with("81/tcp failed: "), "{}", lines[1]);
    running.signal(Signal::INT);
    let (status, rest, _) = running.end();
    assert_eq!(rest, ["80/tcp removed"]);
    assert_eq!(status.code(), Some(1), "one could not be mapped");
}

#[test]
fn keeps_trying_if_told_to() {
    let server = dead_gateway();
    let running = Running::start(plum_at(&server, "map 8080 --keep-trying --recheck 100ms"));
    assert!(running.line().starts_with("8080/tcp failed: "));
    order(&server, "open all");
    // By whichever protocol was tried again first.
    let line = running.line();
    assert!(line.starts_with("8080/tcp mapped 203.0.113.7:8080 by "), "{line}");
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
}

#[test]
fn interrupted_before_anything_was_decided_is_130() {
    let server = gateway();
    for protocol in ["pcp", "natpmp", "ssdp"] {
        order(&server, &format!("silence {protocol} always"));
    }
    let running = Running::start(plum_at(&server, "map 8080"));
    assert!(server.wait_until(LONG, |core| core.counts.total() > 0), "it has asked");
    running.signal(Signal::INT);
    let (status, rest, _) = running.end();
    assert_eq!((status.code(), rest), (Some(130), vec![]));
}

#[test]
fn removal_that_is_not_confirmed_is_said() {
    let server = gateway();
    let running = Running::start(plum_at(&server, "map 8080"));
    running.line();
    order(&server, "silence pcp always");
    running.signal(Signal::TERM);
    let (status, rest, errors) = running.end();
    assert_eq!(rest, ["8080/tcp removed, not confirmed"]);
    assert_eq!(status.code(), Some(1));
    assert!(errors.starts_with("plum: the gateway did not confirm the removal"), "{errors}");
}

#[test]
fn a_loss_is_told_and_made_good() {
    for options in ["", "--json"] {
        let server = gateway();
        // So that the restart shows.
        order(&server, "set epoch 1000");
        let running = Running::start(plum_at(&server, &format!("map 8080 --recheck 100ms {options}")));
        running.line();
        // The loss is seen, and what would make it good is not believed.
        lose_mappings(&server);
        let line = running.line();
        match options {
            "" => assert_eq!(line, "8080/tcp lost, is being made again"),
            _ => {
                let lost: Value = serde_json::from_str(&line).expect("an object");
                let expected = json!({
                    "event": "lost", "transport": "tcp", "internal_port": 8080, "family": "ipv4",
                });
                assert_eq!(lost, expected);
            }
        }
        order(&server, "no-faults");
        assert!(running.line().contains("mapped"));
        assert_eq!(table(&server), ["Tcp 8080 -> 8080"]);
    }
}

#[cfg(target_os = "linux")] // elsewhere there is no /dev/full
#[test]
fn output_that_cannot_be_written_ends_it_and_removes_the_mappings() {
    let server = gateway();
    // Nothing can be written to it. (A pipe is without a reader for certain only while no other test starts a program.)
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let (status, _, errors) = Running::start_into(plum_at(&server, "map 8080"), full.into()).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn log_goes_to_standard_error() {
    let server = gateway();
    let (_, output, errors) = run_for_lines(1, plum_at(&server, "map 8080"));
    assert!(!output.contains("INFO") && errors.is_empty(), "{output}{errors}");
    let mut lengths = Vec::new();
    for option in ["-v", "-vv", "-vvv"] {
        let (code, output, errors) = run_for_lines(1, plum_at(&server, &format!("map 8080 {option}")));
        assert_eq!(code, 0);
        assert_eq!(output.lines().count(), 2, "{output}");
        assert!(errors.contains("INFO    mapping 0: made at 203.0.113.7:8080 by PCP"), "{errors}");
        let gateway = server.address();
        assert!(
            errors.contains(&format!("INFO    network: local address 127.0.0.1, gateway {gateway}\n")),
            "{errors}"
        );
        lengths.push(errors.len());
    }
    assert!(lengths.is_sorted() && lengths[0] < lengths[2]);
}

#[test]
fn a_gateway_of_ipv6_is_asked_for_no_list_and_no_removal() {
    for (words, says) in [
        ("list --gateway fd00::1", "pinholes for IPv6 cannot be listed"),
        ("unmap 80 --gateway [fe80::1%lo]:5351", "only the program that opened a pinhole"),
    ] {
        let (code, output, errors) = run(plum(words));
        assert_eq!((code, output.as_str()), (1, ""), "{words}: {errors}");
        assert!(errors.contains(says), "{words}: {errors}");
    }
}

#[test]
fn a_gateway_in_the_environment_that_is_none_is_a_usage_error() {
    for words in ["map 8080", "unmap 8080", "probe", "list"] {
        let mut command = plum(words);
        command.env("PLUM_GATEWAY", "somewhere");
        let (code, output, errors) = run(command);
        assert_eq!((code, output.as_str()), (2, ""), "{words}: {errors}");
        assert!(errors.contains("\"somewhere\" is no gateway"), "{words}: {errors}");
    }
}

#[test]
fn wrong_words_are_explained() {
    for (words, says) in [
        ("map", "PORT"),
        ("unmap 0", "is no port"),
        ("unmap --row 0/udp", "is no port"),
        ("map 0-5", "is no port"),
        ("map 0 --exact", "--exact needs a port"),
        ("map 0 --both", "for one IP version"),
        ("map 80/sctp", "none of tcp, udp, both"),
        ("map 80-70", "ends before it begins"),
        ("map 80 --for 0s", "longer than 0"),
        ("map 80 --for soon", "2h 30m"),
        ("map 80 --gateway somewhere", "is no gateway"),
        ("map 80 --gateway 255.255.255.255", "is no gateway"),
        ("probe --gateway [ff02::1]:5351", "is no gateway"),
        ("list --gateway 240.0.0.1", "is no gateway"),
        ("unmap 80 --gateway 224.0.0.1", "is no gateway"),
        ("map 80 80:81", "80/tcp is named twice"),
        ("map 80 --json --plain", "cannot be used with"),
        ("map 80 --both --ipv6", "cannot be used with"),
        ("map 80 --ipv6=192.168.1.5", "invalid"),
        ("map 80 --gateway fd00::1%eth0", "is no gateway"),
    ] {
        let (code, output, errors) = run(plum(words));
        assert_eq!((code, output.as_str()), (2, ""), "{words}");
        assert!(errors.contains(says), "{words}: {errors}");
    }
}
