//! Hosts that answer searches as gateways of their own, beside the true gateway or without one.

use crate::stage::{
    GATEWAY_HTTP, Piece, ROGUE, Server, Speech, Stage, WAN, at_once, bare_stage, ip, millis, page, secs,
    service, silence, soap, upnp_stage,
};
use crate::world::{EXTERNAL, LOCAL, START};
use plum_engine::io::Socket;
use plum_gateway::core::Times;
use plum_gateway::odd;
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, SocketAddr};

/// A host that answers every search before the gateway does, beside an honest gateway.
pub fn beside(host: IpAddr, answer: impl FnMut(&str) -> Speech + 'static) -> Stage {
    let mut stage = upnp_stage();
    stage.serve(SocketAddr::new(host, 80), Server::Answers(Box::new(answer)));
    stage.answers_with(SocketAddr::new(host, 1900), &format!("http://{host}:80/x"));
    stage
}

/// How many actions rogues were asked for.
fn posts(stage: &mut Stage) -> usize {
    stage.wire(|wired| wired.requests.iter().filter(|(_, text)| text.starts_with("POST")).count())
}

#[test]
fn a_device_on_this_machine_is_one_elsewhere() {
    // A daemon for tests, or a proxy. The true gateway, which is slower, comes first.
    for is_gateway_there in [true, false] {
        let mut stage = upnp_stage();
        stage.gateway().faults.closed.ssdp = !is_gateway_there;
        stage.gateway().faults.delay = millis(900);
        let at = SocketAddr::new(LOCAL, 80);
        stage.answers_with(at, "http://192.168.1.100:80/x");
        stage.serve_answers(at, service("198.51.100.66".into()));
        let id = stage.create(Tcp, 8000);
        if is_gateway_there {
            stage.assert_made_by_the_gateway(id, secs(6));
            assert_eq!(stage.events(id).len(), 1);
        } else {
            assert!(stage.runs_until(secs(2), |stage| stage.is_success(id)), "{:?}", stage.timeline(id));
            assert!(stage.timeline(id)[0].0 >= START + millis(1200));
        }
    }
}

#[test]
fn a_rogue_beside_a_gateway_that_speaks_upnp_gets_no_mapping() {
    // Also one that is a program of this very machine.
    for host in [ROGUE, LOCAL] {
        let mut stage = beside(host, service("198.51.100.66".into()));
        let id = stage.create(Tcp, 8000);
        stage.assert_made_by_the_gateway(id, secs(1));
        stage.run_for(secs(10_000));
        assert_eq!(stage.events(id).len(), 1);
        assert_eq!(posts(&mut stage), 0, "it was asked nothing");
        stage.assert_ends();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_rogue_beside_a_gateway_that_takes_its_second_gets_no_mapping() {
    // MX 1 allows a second; the rogue answers at once.
    for late in [300, 600, 1000] {
        let mut stage = beside(ROGUE, service("198.51.100.66".into()));
        odd::own_description_comes_late(stage.gateway(), millis(late));
        let id = stage.create(Tcp, 8000);
        stage.assert_made_by_the_gateway(id, secs(2));
        stage.run_for(secs(10_000));
        assert_eq!(stage.events(id).len(), 1, "{late} ms: {:?}", stage.timeline(id));
        assert_eq!(posts(&mut stage), 0, "{late} ms: the rogue was asked");
        stage.assert_ends();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_rogue_that_has_a_mapping_loses_it_to_the_gateway_at_the_next_recheck() {
    // Later than anybody waits for; the last is one that answers no search for a while.
    for late in [1300, 2000, 5000, 400_000] {
        let mut stage = beside(ROGUE, service("198.51.100.66".into()));
        match late {
            400_000 => stage.gateway().faults.silence.ssdp = Times::Always,
            _ => odd::own_description_comes_late(stage.gateway(), millis(late)),
        }
        let id = stage.create(Tcp, 8000);
        stage.run_until(|stage| stage.is_success(id));
        assert_eq!(stage.success(id).map(|told| told.1), Some(ip("198.51.100.66")), "{late} ms");
        if late == 400_000 {
            stage.run_for(millis(late));
            stage.gateway().faults.silence.ssdp = Times::Never;
        }
        let is_home = |stage: &Stage| stage.success(id).is_some_and(|told| told.1 == EXTERNAL);
        assert!(stage.runs_until(secs(310), is_home), "{late} ms: {:?}", stage.timeline(id));
        let asked = posts(&mut stage);
        stage.run_for(secs(10_000));
        assert!(is_home(&stage), "{late} ms: {:?}", stage.timeline(id));
        assert!(posts(&mut stage) <= asked + 2, "{late} ms: the rogue is asked for more than the deletion");
        stage.assert_ends();
        stage.assert_nothing_left();
    }
}

#[test]
fn a_device_elsewhere_that_held_mappings_lets_no_other_stranger_in_before_the_search_is_over() {
    let other = SocketAddr::new(ip("192.168.1.67"), 80);
    let mut stage = bare_stage();
    stage.answers_with(other, "http://192.168.1.67:80/x");
    stage.serve_answers(other, service("198.51.100.67".into()));
    let id = stage.create(Tcp, 8000);
    stage.run_until(|stage| stage.is_success(id));
    // It has no description any more; when it has one again, there is another device, which looks better.
    let known = stage.act(|wired, _| std::mem::take(&mut wired.answers));
    stage.serve_answers(other, |_| at_once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    assert!(stage.runs_until(secs(7000), |stage| stage.is_failure(id)), "{:?}", stage.timeline(id));
    stage.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
    let mut usual = service("198.51.100.66".into());
    stage.serve_answers(SocketAddr::new(ROGUE, 80), move |request| match request.contains("GetStatusInfo") {
        true => page(soap(&format!(
            "<u:GetStatusInfoResponse xmlns:u=\"{WAN}\"><NewConnectionStatus>Connected</NewConnectionStatus>\
             </u:GetStatusInfoResponse>"
        ))),
        false => usual(request),
    });
    stage.act(|wired, _| wired.answers.extend(known));
    stage.serve_answers(other, service("198.51.100.67".into()));
    assert!(stage.runs_until(secs(20), |stage| stage.is_success(id)), "{:?}", stage.timeline(id));
    assert_eq!(stage.success(id).map(|told| told.1), Some(ip("198.51.100.67")), "{:?}", stage.timeline(id));
    stage.assert_ends();
}

#[test]
fn a_location_on_the_gateway_is_fetched_from_the_gateway_whoever_names_it() {
    // A gateway with several addresses may answer from another one than that of the route.
    let mut stage = upnp_stage();
    stage.gateway().faults.silence.ssdp = Times::Always;
    stage.answers_with(SocketAddr::new(ip("192.168.1.2"), 1900), "http://192.168.1.1:5000/rootDesc.xml");
    let id = stage.create(Tcp, 8000);
    stage.assert_made_by_the_gateway(id, millis(100));
    assert!(stage.connected_to().iter().all(|&to| to == GATEWAY_HTTP));
    stage.assert_ends();
    stage.assert_nothing_left();
}

#[test]
fn a_rogue_beside_a_gateway_that_speaks_nothing_is_believed_and_asked_only_of_itself() {
    // By UPnP alone it cannot be told from a gateway with an address of its own.
    for host in [ROGUE, LOCAL] {
        let mut stage = bare_stage();
        stage.answers_with(SocketAddr::new(host, 1900), &format!("http://{host}:80/x"));
        stage.serve_answers(SocketAddr::new(host, 80), service("198.51.100.66".into()));
        let id = stage.create(Tcp, 8000);
        stage.run_until(|stage| stage.is_success(id));
        assert_eq!(stage.success(id).map(|told| told.1), Some(ip("198.51.100.66")));
        assert!(stage.connected_to().iter().all(|&to| to == SocketAddr::new(host, 80)));
        stage.assert_ends();
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
        let mut stage = upnp_stage();
        stage.gateway().faults.silence.ssdp = Times::Always;
        stage.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
        stage.serve(SocketAddr::new(ROGUE, 80), server());
        let id = stage.create(Tcp, 8000);
        // The search, and as long again where there is a description.
        assert!(stage.runs_until(secs(5), |stage| stage.is_failure(id)), "{what}: {:?}", stage.timeline(id));
        // Four rounds, each of six to the gateway and to all.
        let searches = stage.sent_from(Socket::Ssdp).len();
        assert!((48..=60).contains(&searches), "{what}: {searches} searches");
        // After 5 s, 10 s, and so on.
        stage.run_for(secs(80));
        let more = stage.sent_from(Socket::Ssdp).len() - searches;
        assert!(more >= 4 * 12, "{what}: {more} more searches");
        stage.gateway().faults.silence.ssdp = Times::Never;
        let is_home = |stage: &Stage| stage.success(id).is_some_and(|told| told.1 == EXTERNAL);
        assert!(stage.runs_until(secs(310), is_home), "{what}: {:?}", stage.timeline(id));
        stage.assert_ends();
        stage.assert_nothing_left();
    }
}

#[test]
fn strangers_that_refuse_everything_cost_few_searches() {
    let mut stage = bare_stage();
    stage.answers_with(SocketAddr::new(ROGUE, 1900), "http://192.168.1.66:80/x");
    let refuses = tarpits()[5].1;
    stage.serve(SocketAddr::new(ROGUE, 80), refuses());
    for port in 8000..8100 {
        stage.create(Tcp, port);
    }
    stage.run_for(secs(3600));
    // After 5, 10, 20, 40, 80 and 160 s, then every five minutes; each of six to the gateway and to all.
    let rounds = stage.sent_from(Socket::Ssdp).len() / 12;

    assert!((10..=30).contains(&rounds), "{rounds} rounds");
    stage.assert_ends();
}
