//! `plum unmap` and what it leaves alone.

use super::harness::{Running, dead_gateway, gateway, order, plum_at, run, table};
use plum_gateway::core::{Action, Kind, Reply};
use plum_gateway::server::Server;
use rustix::process::Signal;
use std::time::Duration;

/// Mappings that a program has left behind.
pub fn left_behind(words: &str) -> Server {
    let server = gateway();
    let running = Running::start(plum_at(&server, &format!("map {words}")));
    running.line();
    running.signal(Signal::KILL);
    running.end();
    assert!(!table(&server).is_empty());
    server
}

#[test]
fn removes_by_external_port_what_upnp_has_made() {
    let server = left_behind("8080:18080 --protocol upnp");
    let (code, output, _) = run(plum_at(&server, "unmap 8080:18080 --protocol upnp"));
    assert_eq!(output, "8080/tcp removed by UPnP: the external port 18080 is free\n");
    assert_eq!(code, 0);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn removes_by_internal_port_what_natpmp_has_made() {
    let server = gateway();
    order(&server, "natpmp-only");
    let running = Running::start(plum_at(&server, "map 8080/udp:18080"));
    running.line();
    running.signal(Signal::KILL);
    running.end();
    assert_eq!(table(&server), ["Udp 18080 -> 8080"]);
    let (code, output, _) = run(plum_at(&server, "unmap 8080/udp --protocol pcp"));
    assert_eq!(output, "8080/udp is not mapped by NAT-PMP\n");
    assert_eq!(code, 0);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn what_is_not_mapped_is_no_failure() {
    let server = gateway();
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    assert_eq!(output, "8080/tcp is not mapped by UPnP\n");
    assert_eq!(code, 0);
}

#[test]
fn leaves_other_hosts_alone_unless_told_otherwise() {
    let server = gateway();
    order(&server, "occupy tcp 8080 192.0.2.77:80");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    assert!(output.contains("8080/tcp not removed: external port 8080 is mapped to 192.0.2.77"), "{output}");
    assert_eq!(code, 1);
    assert_eq!(table(&server), ["Tcp 8080 -> 80"]);
}

#[test]
fn says_that_pcp_mappings_are_their_makers() {
    let server = left_behind("8080");
    order(&server, "pcp-only");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol pcp"));
    assert!(output.starts_with("8080/tcp is still mapped by PCP: only the program that made"), "{output}");
    assert_eq!(code, 1);
    assert_eq!(table(&server), ["Tcp 8080 -> 8080"]);
}

#[test]
fn says_when_nobody_answers() {
    let server = dead_gateway();
    let (code, output, errors) = run(plum_at(&server, "unmap 8080 --timeout 300ms"));
    assert_eq!((code, output.as_str()), (3, ""));
    assert_eq!(errors, "plum: no gateway answers by UPnP, PCP or NAT-PMP (plum probe tells more)\n");
}

/// Scripts the replies to GetSpecificPortMappingEntry, by how often it was asked before.
fn script_looks(server: &Server, reply: impl Fn(u32) -> Reply + Send + 'static) {
    let mut asked = 0;
    server.with_core(|core| {
        core.add_script(move |request| match request.kind {
            Kind::Soap(Action::GetSpecificPortMappingEntry) => {
                asked += 1;
                reply(asked)
            }
            _ => Reply::usual(),
        });
    });
}

#[test]
fn what_the_gateway_says_does_not_reach_the_terminal_raw() {
    let envelope = |body: &str| format!("<s:Envelope><s:Body>{body}</s:Body></s:Envelope>");
    let server = gateway();
    order(&server, "occupy tcp 8080 192.0.2.77:80");
    let client = "192.0.2.77\u{202e}\u{1b}[31m";
    let entry = format!(
        "<u:GetSpecificPortMappingEntryResponse><NewInternalClient>{client}</NewInternalClient></u:GetSpecificPortMappingEntryResponse>"
    );
    let fault = "<s:Fault><detail><UPnPError><errorCode>606</errorCode><errorDescription>a\u{202e}b\u{2067}c</errorDescription></UPnPError></detail></s:Fault>";
    let (entry, fault) = (envelope(&entry), envelope(fault));
    script_looks(&server, move |asked| match asked {
        1 => Reply::bytes(entry.clone()),
        _ => Reply::http(500, fault.clone()),
    });
    for says in ["8080/tcp not removed: external port 8080 is mapped to 192.0.2.77", "(error 606: a b c)"] {
        let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
        let is_foreign = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2067}".contains(c);
        assert!(code == 1 && output.contains(says) && !output.contains(is_foreign), "{output:?}");
    }
}

#[test]
fn ends_in_time_and_says_what_was_not_done() {
    let server = gateway();
    // The third answer takes an hour.
    script_looks(&server, |asked| match asked {
        3 => Reply::usual().after(Duration::from_secs(3600)),
        _ => Reply::usual(),
    });
    let (code, output, errors) = run(plum_at(&server, "unmap 8001-8006 --protocol upnp --timeout 4s"));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((code, lines.len()), (4, 3), "{output}{errors}");
    assert!(
        lines[2].starts_with("8003/tcp may still be mapped by UPnP: ")
            && lines[2].contains("no answer in time"),
        "{output}"
    );
    assert_eq!(
        errors,
        "plum: the time was over: nothing was done about 8004/tcp and 2 more (--timeout gives more)\n"
    );
}

#[test]
fn who_is_silent_about_one_port_is_not_waited_for_with_each() {
    let server = gateway();
    order(&server, "silence natpmp");
    order(&server, "silence pcp");
    let (code, output, errors) = run(plum_at(&server, "unmap 8001-8100"));
    assert_eq!((code, output.lines().count()), (0, 100), "{errors}");
}

#[test]
fn a_gateway_that_answers_late_is_waited_for() {
    let server = gateway();
    order(&server, "natpmp-only");
    let running = Running::start(plum_at(&server, "map 8080/udp"));
    running.line();
    running.signal(Signal::KILL);
    running.end();
    order(&server, "set delay 1500ms");
    let (code, output, _) = run(plum_at(&server, "unmap 8080/udp --protocol pcp"));
    assert_eq!((code, output.as_str()), (0, "8080/udp is not mapped by NAT-PMP\n"));
}

#[test]
fn a_late_answer_to_one_deletion_is_not_that_to_the_next() {
    let server = gateway();
    order(&server, "natpmp-only");
    // Each deletion is sent twice by then, and answered twice.
    order(&server, "set delay 300ms");
    order(&server, "refuse natpmp-delete 2 port 8081");
    let (code, output, errors) = run(plum_at(&server, "unmap 8080 8081 --protocol pcp"));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "8080/tcp is not mapped by NAT-PMP", "{errors}");
    assert_eq!(
        lines[1], "8081/tcp may still be mapped by NAT-PMP: the gateway refuses by NAT-PMP: NotAuthorized",
        "{errors}"
    );
    assert_eq!(code, 1);
}

#[test]
fn a_gateway_that_keeps_a_deleted_mapping_for_a_minute_is_believed() {
    let server = gateway();
    order(&server, "natpmp-only");
    server.with_core(|core| {
        core.add_script(|request| match request.kind {
            // RFC 6886 §3.3: the lifetime of the reply.
            Kind::NatPmpDelete => Reply::edited(|bytes| bytes[12..16].copy_from_slice(&60u32.to_be_bytes())),
            _ => Reply::usual(),
        });
    });
    let (code, output, _) = run(plum_at(&server, "unmap 8080/udp --protocol pcp"));
    let line = "8080/udp is still mapped by NAT-PMP: the gateway keeps it for 60 s more\n";
    assert_eq!((code, output.as_str()), (1, line));
}
