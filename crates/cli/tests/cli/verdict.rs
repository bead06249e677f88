//! `plum probe` says what the library would do: each verdict is held against a trial mapping of the library's.

use super::harness::{gateway, order, plum_at, run, table};
use plum_gateway::core::{Action, Igd, Kind, Reply};
use plum_gateway::server::Server;
use serde_json::Value;

/// What `--json` says, and the exit code.
fn probe(server: &Server, words: &str) -> (i32, Value) {
    let (code, output, errors) = run(plum_at(server, &format!("probe --json {words}")));
    assert_eq!(errors, "");
    (code, serde_json::from_str(&output).expect("it is JSON"))
}

fn without_upnp() -> Server {
    Server::start_on_own_address(|config| config.gateway.igd = None).expect("a gateway on loopback")
}

/// The gateway answers no request of these kinds.
fn silence(server: &Server, kinds: &'static [Kind]) {
    server.with_core(|core| {
        core.add_script(move |request| match kinds.contains(&request.kind) {
            true => Reply::nothing(),
            false => Reply::usual(),
        });
    });
}

const PCP_MAPS: &[Kind] = &[Kind::PcpMap, Kind::PcpDelete];
const NATPMP_MAPS: &[Kind] = &[Kind::NatPmpMap, Kind::NatPmpDelete];
const ALL_MAPS: &[Kind] = &[Kind::PcpMap, Kind::PcpDelete, Kind::NatPmpMap, Kind::NatPmpDelete];

/// What a NAT before the server is to PCP (RFC 6887 §7.4). On a busy machine the library asks by NAT-PMP before PCP is answered, so
/// NAT-PMP grants nothing; it answers all other requests.
fn mismatch(server: &Server) {
    for kind in ["pcp-announce", "pcp-map", "pcp-delete"] {
        order(server, &format!("refuse {kind} 12"));
    }
    silence(server, &[Kind::NatPmpMap]);
}

/// The gateway grants nothing by a protocol that comes after this one in the library's order before it was asked for a mapping by this
/// one. The library asks by the next protocol after 250 ms of silence, and takes the first grant; a busy gateway is as silent.
fn grant_in_order(server: &Server, protocol: &str) {
    let upnp = [Kind::Soap(Action::AddPortMapping), Kind::Soap(Action::AddAnyPortMapping)];
    let (first, later) = match protocol {
        "PCP" => (Kind::PcpMap, [&upnp[..], &[Kind::NatPmpMap]].concat()),
        "NAT-PMP" => (Kind::NatPmpMap, upnp.to_vec()),
        _ => return,
    };
    server.with_core(|core| {
        let mut is_asked = false;
        core.add_script(move |request| {
            is_asked |= request.kind == first;
            match !is_asked && later.contains(&request.kind) {
                true => Reply::nothing(),
                false => Reply::usual(),
            }
        });
    });
}

/// The verdict names the protocol by which the library maps; returns what was found without a trial.
#[track_caller]
fn check(server: &Server, protocol: &str) -> Value {
    let (code, found) = probe(server, "--timeout 4s");
    assert_eq!((code, &found["protocol"]), (0, &protocol.into()), "{found}");
    assert_eq!(found["choice"]["protocol"], protocol);
    assert_eq!(table(server), [""; 0]);
    assert_eq!(
        server.with_core(|core| core.counts.pcp_map + core.counts.natpmp_map),
        0,
        "nothing was mapped"
    );
    grant_in_order(server, protocol);
    let (code, tried) = probe(server, "--try-map");
    let mapping = &tried["mapping"];
    assert_eq!(
        (code, &mapping["status"], &mapping["protocol"]),
        (0, &"made".into(), &protocol.into()),
        "{tried}"
    );
    found
}

/// Nothing is mapped, neither by the verdict nor by the library; returns what was found without a trial.
#[track_caller]
fn check_none(server: &Server, verdict: &str) -> Value {
    let (code, found) = probe(server, "--timeout 4s");
    assert_eq!((code, &found["verdict"], &found["protocol"]), (1, &verdict.into(), &Value::Null), "{found}");
    let (code, tried) = probe(server, "--try-map --timeout 8s");
    assert_eq!((code, &tried["mapping"]["status"]), (1, &"failed".into()), "{tried}");
    assert_eq!(tried["verdict"], verdict);
    found
}

#[test]
fn a_nat_before_the_server_leaves_neither_pcp_nor_natpmp() {
    let server = without_upnp();
    mismatch(&server);
    let found = check_none(&server, "refused");
    assert!(found["message"].as_str().expect("words").starts_with("Another NAT stands between"), "{found}");
    assert_eq!(
        found["natpmp"]["external_address"], "203.0.113.7",
        "it answers, and would map a port of that NAT"
    );
}

#[test]
fn a_nat_before_the_server_leaves_upnp_with_a_note() {
    let server = gateway();
    mismatch(&server);
    let found = check(&server, "UPnP-IGD");
    let notes = found["notes"].as_array().expect("notes");
    assert!(
        notes.iter().any(|note| note.as_str().is_some_and(|note| note.contains("another NAT"))),
        "{found}"
    );
}

#[test]
fn pcp_whose_map_requests_stay_unanswered_is_not_used() {
    let server = gateway();
    silence(&server, PCP_MAPS);
    let found = check(&server, "NAT-PMP");
    assert_eq!((&found["pcp"]["result"], &found["pcp"]["map_result"]), (&"Success".into(), &Value::Null));
}

#[test]
fn upnp_is_used_where_all_other_map_requests_stay_unanswered() {
    let server = gateway();
    silence(&server, ALL_MAPS);
    check(&server, "UPnP-IGD");
}

#[test]
fn natpmp_whose_map_requests_stay_unanswered_is_not_used() {
    let server = without_upnp();
    order(&server, "natpmp-only");
    silence(&server, NATPMP_MAPS);
    let found = check_none(&server, "refused");
    assert!(found["message"].as_str().expect("words").contains("NAT-PMP: no answer"), "{found}");
}

#[test]
fn a_protocol_that_refuses_to_map_is_not_used() {
    let server = gateway();
    for kind in ["pcp-map", "pcp-delete"] {
        order(&server, &format!("refuse {kind} 4"));
    }
    let found = check(&server, "NAT-PMP");
    assert_eq!(found["choice"]["failures"][0]["protocol"], "PCP");
}

#[test]
fn a_refusal_to_delete_what_is_not_there_says_nothing_about_mappings() {
    // miniupnpd refuses so (2.3.1: NOT_AUTHORIZED, 2.3.11: NO_RESOURCES).
    for code in [2, 8] {
        let server = gateway();
        order(&server, &format!("refuse pcp-delete {code} 1"));
        check(&server, "PCP");
    }
    let server = gateway();
    order(&server, "close pcp");
    order(&server, "refuse natpmp-delete 2 1");
    check(&server, "NAT-PMP");
}

#[test]
fn a_server_that_knows_no_announce_may_map() {
    let server = gateway();
    silence(&server, &[Kind::PcpAnnounce]);
    let found = check(&server, "PCP");
    assert_eq!((&found["pcp"]["result"], &found["pcp"]["map_result"]), (&Value::Null, &"Success".into()));
}

#[test]
fn a_connection_that_is_down_by_the_gateways_own_word_is_the_verdict() {
    let mut igd = Igd::default();
    igd.services[0].status = "Unconfigured".into();
    let server = Server::start_on_own_address(|config| config.gateway.igd = Some(igd.clone()))
        .expect("a gateway on loopback");
    order(&server, "natpmp-only");
    for words in ["", "--try-map"] {
        let (code, found) = probe(&server, words);
        assert_eq!(
            (code, &found["verdict"], &found["protocol"]),
            (1, &"not-connected".into(), &"NAT-PMP".into()),
            "{found}"
        );
        let message = found["message"].as_str().expect("words");
        assert!(
            message.contains("WANIPConnection:1: Unconfigured") && message.contains("by NAT-PMP"),
            "{found}"
        );
    }
}
