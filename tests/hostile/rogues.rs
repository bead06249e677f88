//! Hosts that answer searches as gateways of their own, beside the true gateway or without one.

use crate::harness::{
    GATEWAY_HTTP, Harness, Piece, ROGUE, Server, Speech, WAN, at_once, bare_harness, ip, millis, page, secs,
    service, silence, soap, upnp_harness,
};
use crate::world::{EXTERNAL, LOCAL, START};
use plum_engine::io::Socket;
use plum_gateway::core::Times;
use plum_gateway::odd;
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, SocketAddr};

/// A host that answers every search before the gateway does, beside an honest gateway.
pub fn beside(host: IpAddr, answer: impl FnMut(&str) -> Speech + 'static) -> Harness {
    let mut harness = upnp_harness();
    harness.serve(SocketAddr::new(host, 80), Server::Answers(Box::new(answer)));
    harness.answers_with(SocketAddr::new(host, 1900), &format!("http://{host}:80/x"));
    harness
}

/// How many actions rogues were asked for.
fn posts(harness: &mut Harness) -> usize {
    harness.wire(|wired| wired.requests.iter().filter(|(_, text)| text.starts_with("POST")).count())
}

#[test]
fn a_device_on_this_machine_is_one_elsewhere() {
    // A daemon for tests, or a proxy. The true gateway, which is slower, comes first.
    for is_gateway_there in [true, false] {
        let mut harness = upnp_harness();
        harness.gateway().faults.closed.ssdp = !is_gateway_there;
        harness.gateway().faults.delay = millis(900);
        let at = SocketAddr::new(LOCAL, 80);
        harness.answers_with(at, "http://192.168.1.100:80/x");
        harness.serve_answers(at, service("198.51.100.66".into()));
        let id = harness.create(Tcp, 8000);
        if is_gateway_there {
            harness.assert_made_by_the_gateway(id, secs(6));
            assert_eq!(harness.events(id).len(), 1);
        } else {
            assert!(
                harness.runs_until(secs(2), |harness| harness.is_success(id)),
                "{:?}",
                harness.timeline(id)
            );
            assert!(harness.timeline(id)[0].0 >= START + millis(1200));
        }
    }
}

#[test]
fn a_rogue_beside_a_gateway_that_speaks_upnp_gets_no_mapping() {
    // Also one that is a program of this very machine.
    for host in [ROGUE, LOCAL] {
        let mut harness = beside(host, service("198.51.100.66".into()));
        let id = harness.create(Tcp, 8000);
        harness.assert_made_by_the_gateway(id, secs(1));
        harness.run_for(secs(10_000));
        assert_eq!(harness.events(id).len(), 1);
        assert_eq!(posts(&mut harness), 0, "it was asked nothing");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_rogue_beside_a_gateway_that_takes_its_second_gets_no_mapping() {
    // MX 1 allows a second; the rogue answers at once.
    for late in [300, 600, 1000] {
        let mut harness = beside(ROGUE, service("198.51.100.66".into()));
        odd::own_description_comes_late(harness.gateway(), millis(late));
        let id = harness.create(Tcp, 8000);
        harness.assert_made_by_the_gateway(id, secs(2));
        harness.run_for(secs(10_000));
        assert_eq!(harness.events(id).len(), 1, "{late} ms: {:?}", harness.timeline(id));
        assert_eq!(posts(&mut harness), 0, "{late} ms: the rogue was asked");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_rogue_that_has_a_mapping_loses_it_to_the_gateway_at_the_next_recheck() {
    // Later than anybody waits for; the last is one that answers no search for a while.
    for late in [1300, 2000, 5000, 400_000] {
        let mut harness = beside(ROGUE, service("198.51.100.66".into()));
        match late {
            400_000 => harness.gateway().faults.silence.ssdp = Times::Always,
            _ => odd::own_description_comes_late(harness.gateway(), millis(late)),
        }
        let id = harness.create(Tcp, 8000);
        harness.run_until(|harness| harness.is_success(id));
        assert_eq!(harness.success(id).map(|told| told.1), Some(ip("198.51.100.66")), "{late} ms");
        if late == 400_000 {
            harness.run_for(millis(late));
            harness.gateway().faults.silence.ssdp = Times::Never;
        }
        let is_home = |harness: &Harness| harness.success(id).is_some_and(|told| told.1 == EXTERNAL);
        assert!(harness.runs_until(secs(310), is_home), "{late} ms: {:?}", harness.timeline(id));
        let asked = posts(&mut harness);
        harness.run_for(secs(10_000));
        assert!(is_home(&harness), "{late} ms: {:?}", harness.timeline(id));
        assert!(posts(&mut harness) <= asked + 2, "{late} ms: the rogue is asked for more than the deletion");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_device_elsewhere_that_held_mappings_lets_no_other_stranger_in_before_the_search_is_over() {
    let other = SocketAddr::new(ip("192.168.1.67"), 80);
    let mut harness = bare_harness();
    harness.answers_with(other, "http://192.168.1.67:80/x");
    harness.serve_answers(other, service("198.51.100.67".into()));
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(id));
    // It has no description any more; when it has one again, there is another device, which looks better.
    let known = harness.act(|wired, _| std::mem::take(&mut wired.answers));
    harness.serve_answers(other, |_| at_once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    assert!(harness.runs_until(secs(7000), |harness| harness.is_failure(id)), "{:?}", harness.timeline(id));
    harness.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
    let mut usual = service("198.51.100.66".into());
    harness.serve_answers(SocketAddr::new(ROGUE, 80), move |request| match request.contains("GetStatusInfo") {
        true => page(soap(&format!(
            "<u:GetStatusInfoResponse xmlns:u=\"{WAN}\"><NewConnectionStatus>Connected</NewConnectionStatus>\
             </u:GetStatusInfoResponse>"
        ))),
        false => usual(request),
    });
    harness.act(|wired, _| wired.answers.extend(known));
    harness.serve_answers(other, service("198.51.100.67".into()));
    assert!(harness.runs_until(secs(20), |harness| harness.is_success(id)), "{:?}", harness.timeline(id));
    assert_eq!(
        harness.success(id).map(|told| told.1),
        Some(ip("198.51.100.67")),
        "{:?}",
        harness.timeline(id)
    );
    harness.assert_ends();
}

#[test]
fn a_location_on_the_gateway_is_fetched_from_the_gateway_whoever_names_it() {
    // A gateway with several addresses may answer from another one than that of the route.
    let mut harness = upnp_harness();
    harness.gateway().faults.silence.ssdp = Times::Always;
    harness.answers_with(SocketAddr::new(ip("192.168.1.2"), 1900), "http://192.168.1.1:5000/rootDesc.xml");
    let id = harness.create(Tcp, 8000);
    harness.assert_made_by_the_gateway(id, millis(100));
    assert!(harness.connected_to().iter().all(|&to| to == GATEWAY_HTTP));
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn a_rogue_beside_a_gateway_that_speaks_nothing_is_believed_and_asked_only_of_itself() {
    // By UPnP alone it cannot be told from a gateway with an address of its own.
    for host in [ROGUE, LOCAL] {
        let mut harness = bare_harness();
        harness.answers_with(SocketAddr::new(host, 1900), &format!("http://{host}:80/x"));
        harness.serve_answers(SocketAddr::new(host, 80), service("198.51.100.66".into()));
        let id = harness.create(Tcp, 8000);
        harness.run_until(|harness| harness.is_success(id));
        assert_eq!(harness.success(id).map(|told| told.1), Some(ip("198.51.100.66")));
        assert!(harness.connected_to().iter().all(|&to| to == SocketAddr::new(host, 80)));
        harness.assert_ends();
    }
}

/// A server with a name that tells what it does.
type Named = (&'static str, fn() -> Server);

/// A host that claims to be a gateway and then keeps one waiting, or refuses.
fn tarpits() -> [Named; 6] {
    fn drips() -> Speech {
        let bytes = std::iter::once(b"HTTP/1.1 200 OK\r\nX: ".to_vec()).chain(std::iter::repeat(vec![b'x']));
        Box::new(bytes.map(|bytes| (millis(500), Piece::Bytes(bytes))))
    }
    fn actions_get(reply: fn() -> Speech) -> Server {
        let mut usual = service(String::new());
        Server::Answers(Box::new(move |request| match request.starts_with("GET") {
            true => usual(request),
            false => reply(),
        }))
    }
    [
        ("takes no connection", || Server::NeverAccepts),
        ("says nothing", || Server::Answers(Box::new(|_| silence()))),
        ("drips", || Server::Answers(Box::new(|_| drips()))),
        ("has a description alone", || actions_get(silence)),
        ("has a description and drips", || actions_get(drips)),
        ("refuses", || actions_get(|| at_once("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))),
    ]
}

#[test]
fn a_stranger_that_keeps_one_waiting_holds_up_neither_failure_nor_the_next_search() {
    for (what, server) in tarpits() {
        let mut harness = upnp_harness();
        harness.gateway().faults.silence.ssdp = Times::Always;
        harness.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
        harness.serve(SocketAddr::new(ROGUE, 80), server());
        let id = harness.create(Tcp, 8000);
        // The search, and as long again where there is a description.
        assert!(
            harness.runs_until(secs(5), |harness| harness.is_failure(id)),
            "{what}: {:?}",
            harness.timeline(id)
        );
        // Four rounds, each of six to the gateway and to all.
        let searches = harness.sent_from(Socket::Ssdp).len();
        assert!((48..=60).contains(&searches), "{what}: {searches} searches");
        // After 5 s, 10 s, and so on.
        harness.run_for(secs(80));
        let more = harness.sent_from(Socket::Ssdp).len() - searches;
        assert!(more >= 4 * 12, "{what}: {more} more searches");
        harness.gateway().faults.silence.ssdp = Times::Never;
        let is_home = |harness: &Harness| harness.success(id).is_some_and(|told| told.1 == EXTERNAL);
        assert!(harness.runs_until(secs(310), is_home), "{what}: {:?}", harness.timeline(id));
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn strangers_that_refuse_everything_cost_few_searches() {
    let mut harness = bare_harness();
    harness.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
    let refuses = tarpits()[5].1;
    harness.serve(SocketAddr::new(ROGUE, 80), refuses());
    for port in 8000..8100 {
        harness.create(Tcp, port);
    }
    harness.run_for(secs(3600));
    // After 5, 10, 20, 40, 80 and 160 s, then every five minutes; each of six to the gateway and to all.
    let rounds = harness.sent_from(Socket::Ssdp).len() / 12;

    assert!((10..=30).contains(&rounds), "{rounds} rounds");
    harness.assert_ends();
}
