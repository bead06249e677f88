//! `plum address`: the external address, for scripts.

use super::harness::{dead_gateway, gateway, order, plum_at, run, table};
use plum_gateway::core::{Igd, Kind, Reply};
use plum_gateway::server::Server;
use serde_json::Value;
use std::collections::BTreeSet;

fn address(server: &Server, words: &str) -> (i32, String, String) {
    run(plum_at(server, &format!("address {words}")))
}

fn json(server: &Server) -> Value {
    let (code, output, errors) = address(server, "--json");
    assert_eq!((code, errors.as_str(), output.lines().count()), (0, "", 1), "{output}");
    serde_json::from_str(&output).expect("it is JSON")
}

fn without_upnp(orders: &[&str]) -> Server {
    let server =
        Server::start_on_own_address(|config| config.gateway.igd = None).expect("a gateway on loopback");
    orders.iter().for_each(|command| order(&server, command));
    server
}

/// How many sockets have sent requests of a kind. (On a busy machine, requests are repeated.)
fn askers(server: &Server, kind: Kind) -> usize {
    server.with_core(|core| {
        let of_kind = core.counts.received.iter().filter(|received| received.kind == kind);
        of_kind.map(|received| received.from).collect::<BTreeSet<_>>().len()
    })
}

const FOUND: &str = "203.0.113.7\n";

#[test]
fn is_printed_alone_after_one_request_of_natpmp() {
    let server = gateway();
    assert_eq!(address(&server, ""), (0, FOUND.into(), String::new()));
    assert_eq!(askers(&server, Kind::NatPmpAddress), 1);
    server.with_core(|core| {
        assert_eq!(core.counts.pcp_map + core.counts.natpmp_map, 0, "nothing was mapped");
    });
    let found = json(&server);
    assert_eq!((&found["external_address"], &found["scope"]), (&"203.0.113.7".into(), &"public".into()));
    assert_eq!(
        (&found["protocol"], &found["gateway"]),
        (&"NAT-PMP".into(), &server.address().to_string().into())
    );
    assert!(found["took_ms"].as_f64().is_some_and(|millis| millis > 0.0));
}

#[test]
fn is_told_by_upnp_where_natpmp_is_silent_or_closed_or_says_nothing() {
    for commands in
        [&["silence natpmp", "silence pcp"][..], &["close natpmp", "close pcp"], &["refuse natpmp-address 3"]]
    {
        let server = gateway();
        commands.iter().for_each(|command| order(&server, command));
        // A command that is refused waits a while for UPnP, so the refusal must not come long before the search is answered.
        server.with_core(|core| {
            let mut is_searched = false;
            core.add_script(move |request| {
                is_searched |= request.kind == Kind::SsdpSearch;
                match request.kind {
                    Kind::NatPmpAddress | Kind::PcpAnnounce if !is_searched => Reply::nothing(),
                    _ => Reply::usual(),
                }
            });
        });
        assert_eq!(address(&server, ""), (0, FOUND.into(), String::new()), "{commands:?}");
        assert_eq!(json(&server)["protocol"], "UPnP-IGD");
    }
}

#[test]
fn takes_a_mapping_for_a_moment_where_pcp_alone_is_spoken() {
    for natpmp in ["pcp-only", "silence natpmp"] {
        let server = without_upnp(&[natpmp]);
        assert_eq!(address(&server, ""), (0, FOUND.into(), String::new()), "{natpmp}");
        assert_eq!(json(&server)["protocol"], "PCP");
        assert_eq!(table(&server), [""; 0]);
        assert_eq!(askers(&server, Kind::PcpMap), 2, "one a run");
    }
    let server = without_upnp(&["pcp-only", "refuse pcp-map 2"]);
    let (code, output, errors) = address(&server, "--timeout 4s");
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains("speaks PCP alone") && errors.contains("NOT_AUTHORIZED"), "{errors}");
}

#[test]
fn one_that_nobody_reaches_is_printed_with_a_warning() {
    let server = gateway();
    for (external, scope, words) in
        [("100.64.1.2", "carrier-nat", "carrier-grade NAT"), ("192.168.178.20", "private", "another NAT")]
    {
        order(&server, &format!("set external-address {external}"));
        let (code, output, errors) = address(&server, "");
        assert_eq!((code, output), (0, format!("{external}\n")));
        assert!(errors.starts_with(&format!("plum: {external} is")) && errors.contains(words), "{errors}");
        let (_, output, errors) = address(&server, "--json");
        let found: Value = serde_json::from_str(&output).expect("it is JSON");
        assert_eq!((&found["scope"], errors.is_empty()), (&scope.into(), false));
    }
}

#[test]
fn without_one_nothing_is_printed() {
    let mut igd = Igd::default();
    igd.services[0].status = "Disconnected".into();
    let server = Server::start_on_own_address(|config| config.gateway.igd = Some(igd.clone()))
        .expect("a gateway on loopback");
    order(&server, "refuse natpmp-address 3");
    let (code, output, errors) = address(&server, "");
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(errors.contains("its internet connection is down"), "{errors}");
    let (code, output, errors) = address(&without_upnp(&["refuse natpmp-address 3"]), "");
    assert_eq!((code, output.as_str()), (1, ""), "{errors}");

    let (code, output, errors) = address(&dead_gateway(), "--timeout 700ms");
    assert_eq!((code, output.as_str()), (3, ""));
    assert!(errors.contains("does not answer"), "{errors}");
}
