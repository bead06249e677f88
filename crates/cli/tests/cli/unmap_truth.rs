//! `plum unmap` claims what was seen, whatever gateways say.

use super::harness::{gateway, order, plum_at, run, table};
use super::unmap::left_behind;
use plum_gateway::core::{Action, Kind, Protocol, Reply, TableEntry, Transport};
use plum_gateway::server::Server;
use serde_json::Value;
use std::time::Duration;

/// An entry of this machine, made by UPnP.
pub fn insert(server: &Server, external_port: u16, internal_port: u16) {
    server.with_core(|core| {
        core.table_mut().insert(TableEntry {
            transport: Transport::Tcp,
            external_port,
            internal: ([127, 0, 0, 1], internal_port).into(),
            made_by: Protocol::Upnp,
            nonce: None,
            description: "left".into(),
            granted_at: Duration::ZERO,
            expires_at: None,
        });
    });
}

fn answer(server: &Server, kind: Kind, reply: impl Fn() -> Reply + Send + 'static) {
    server.with_core(|core| {
        core.add_script(move |request| if request.kind == kind { reply() } else { Reply::usual() });
    });
}

#[test]
fn success_by_natpmp_does_not_hide_what_pcp_has_mapped() {
    let server = left_behind("8080:18080");
    order(&server, "close ssdp");
    answer(&server, Kind::NatPmpDelete, || Reply::usual().without_effect());
    let (code, output, errors) = run(plum_at(&server, "unmap 8080"));
    let says = "8080/tcp is still mapped by PCP: only the program that made the mapping can remove it by PCP; it ends with its lifetime, within some hours\n";
    assert_eq!((code, output.as_str(), errors.as_str()), (1, says, ""));
    assert_eq!(table(&server), ["Tcp 18080 -> 8080"]);
    let (_, output, _) = run(plum_at(&server, "unmap 8080 --json"));
    let told: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!((&told["outcome"], &told["pcp"]), (&"still-mapped".into(), &"present".into()));
    assert_eq!((&told["nat_pmp"], &told["upnp"]), (&"absent".into(), &"no-answer".into()));
}

#[test]
fn what_pcp_has_mapped_is_removed_by_natpmp_where_they_share_a_table() {
    let server = left_behind("8080");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol pcp"));
    assert_eq!((code, output.as_str()), (0, "8080/tcp removed by NAT-PMP\n"));
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn what_pcp_has_mapped_is_removed_as_miniupnpd_allows() {
    let stays = "8080/tcp is still mapped by PCP: only the program that made the mapping can remove it by PCP; it ends with its lifetime, within some hours\n";
    for (words, code, says, left) in [
        ("8080", 0, "8080/tcp removed by UPnP: the external port 18080 is free\n", 0),
        ("8080:18080 --protocol pcp", 0, "8080/tcp removed by PCP\n", 0),
        // PCP takes a mapping over by its external port only.
        ("8080 --protocol pcp", 1, stays, 1),
    ] {
        let server = left_behind("8080:18080");
        order(&server, "set deletes-as-miniupnpd on");
        let (ended, output, _) = run(plum_at(&server, &format!("unmap {words}")));
        assert_eq!((ended, output.as_str(), table(&server).len()), (code, says, left), "{words}");
    }
}

#[test]
fn what_pcp_does_not_say_is_told_as_not_known() {
    let server = gateway();
    order(&server, "refuse pcp-delete 2");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol pcp"));
    let says = "8080/tcp may still be mapped by PCP: the gateway refuses by PCP (not authorized), and does not say whether a mapping of another program is there\n";
    assert_eq!((code, output.as_str(), table(&server).len()), (1, says, 0));
    // The second deletion is of a port that nothing uses.
    order(&server, "no-faults");
    order(&server, "refuse pcp-delete 8 1");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol pcp"));
    let says = "8080/tcp may still be mapped by PCP: the gateway refuses by PCP: NoResources\n";
    assert_eq!((code, output.as_str()), (1, says));
}

#[test]
fn a_takeover_by_pcp_that_is_not_undone_is_told() {
    let server = left_behind("8080");
    order(&server, "set deletes-as-miniupnpd on");
    // The first deletion is of the port, the second one of an unused port, the third one after NAT-PMP, the fourth one of what was
    // taken over.
    let mut asked = 0;
    server.with_core(|core| {
        core.add_script(move |request| match request.kind {
            Kind::PcpDelete => {
                asked += 1;
                if asked == 4 { Reply::code(8) } else { Reply::usual() }
            }
            _ => Reply::usual(),
        });
    });
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol pcp"));
    let says =
        "8080/tcp may still be mapped by PCP: its deletion by PCP was not confirmed; it ends within 120 s\n";
    assert_eq!((code, output.as_str(), table(&server).len()), (1, says, 1));
}

#[test]
fn what_was_never_mapped_is_not_mapped_and_stays_so() {
    for habit in ["off", "on"] {
        let server = gateway();
        order(&server, &format!("set deletes-as-miniupnpd {habit}"));
        let (code, output, errors) = run(plum_at(&server, "unmap 8080"));
        assert_eq!((code, errors.as_str()), (0, ""));
        assert_eq!(output, "8080/tcp is not mapped by UPnP, PCP or NAT-PMP\n");
        assert_eq!(table(&server), [""; 0]);
    }
}

#[test]
fn every_external_port_of_an_internal_one_is_removed_and_no_other() {
    let server = gateway();
    insert(&server, 18080, 8080);
    insert(&server, 18081, 8080);
    // The external port is the same as the internal one that is meant.
    insert(&server, 8080, 9090);
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    assert_eq!(output, "8080/tcp removed by UPnP: the external ports 18080 and 18081 are free\n");
    assert_eq!((code, table(&server)), (0, vec!["Tcp 8080 -> 9090".to_owned()]));
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    assert_eq!((code, output.as_str()), (0, "8080/tcp is not mapped by UPnP\n"));
    let (code, output, _) = run(plum_at(&server, "unmap 8080:8080 --protocol upnp"));
    let says = "8080/tcp not removed: external port 8080 is mapped to 127.0.0.1:9090, not to this port of this machine: --others removes it\n";
    assert_eq!((code, output.as_str(), table(&server).len()), (1, says, 1));
}

#[test]
fn a_removal_that_removes_nothing_is_seen() {
    let server = gateway();
    insert(&server, 18080, 8080);
    answer(&server, Kind::Soap(Action::DeletePortMapping), || Reply::usual().without_effect());
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --json --protocol upnp"));
    let told: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!((code, &told["outcome"], &told["upnp"]), (1, &"still-mapped".into(), &"present".into()));
    let message = told["message"].as_str().expect("a sentence");
    assert!(
        message.starts_with("8080/tcp is still mapped by UPnP: external port 18080: it stays"),
        "{message}"
    );
}

#[test]
fn a_gateway_without_a_list_is_asked_about_one_port_and_that_is_told() {
    let server = gateway();
    order(&server, "refuse GetGenericPortMappingEntry 606");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    let says = "8080/tcp is not mapped by UPnP (the external port 8080 is free; others are not known: error 606: Error 606)\n";
    assert_eq!((code, output.as_str()), (0, says));
}

#[test]
fn json_has_a_line_for_each_port() {
    let server = gateway();
    insert(&server, 18080, 8080);
    let (code, output, _) = run(plum_at(&server, "unmap 8080 8081/udp --json"));
    let told: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, told.len()), (0, 2));
    assert_eq!((&told[0]["outcome"], &told[1]["outcome"]), (&"removed".into(), &"not-mapped".into()));
    assert_eq!(told[0]["removed_external_ports"], serde_json::json!([18080]));
    assert_eq!((&told[1]["transport"], &told[1]["internal_port"]), (&"udp".into(), &8081.into()));
}

#[test]
fn time_that_is_over_before_all_have_answered_is_told() {
    let server = gateway();
    order(&server, "silence natpmp");
    order(&server, "close pcp");
    let (code, output, errors) = run(plum_at(&server, "unmap 8080 --timeout 2s"));
    // PCP is silent half of the time, so nothing is left for NAT-PMP.
    assert_eq!((code, output.as_str()), (4, "8080/tcp is not mapped by UPnP\n"));
    assert_eq!(errors, "plum: the time was over before every protocol had answered (--timeout gives more)\n");
}
