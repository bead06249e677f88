//! Datagrams and routes: sockets are opened and closed as the machine says, what arrives is handed over.

use crate::script::{Input, Scripted, Seen};
use crate::{LOOPBACK, PATIENCE, closed_port, create, open, peer, send};
use plum_engine::io::{Output, Route, Socket};
use plum_runtime::worker::Command;
use plum_testkit::namespace;
use socket2::SockRef;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

#[test]
fn carries_datagrams_both_ways() {
    let (gateway, address) = peer();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Opened(socket, Some(_)) => reaction.output(send(*socket, address, b"request")),
        _ => {}
    });
    worker.send(create(0));
    let local = worker.expect(|seen| match seen {
        Seen::Input(Input::Opened(Socket::Pcp, local)) => Some(local.expect("it can be opened")),
        _ => None,
    });
    assert_eq!(local.ip(), LOOPBACK);
    let mut buffer = [0; 100];
    let (len, from) = gateway.recv_from(&mut buffer).expect("the request");
    assert_eq!((&buffer[..len], from), (&b"request"[..], local));
    // A connected socket hears its peer only.
    let (stranger, _) = peer();
    stranger.send_to(b"forged", local).unwrap();
    gateway.send_to(b"reply", local).unwrap();
    let bytes = worker.expect(|seen| match seen {
        Seen::Input(Input::Datagram(Socket::Pcp, from, bytes)) if *from == address => Some(bytes.clone()),
        Seen::Input(Input::Datagram(..)) => panic!("{seen:?}"),
        _ => None,
    });
    assert_eq!(bytes, b"reply");
}

#[test]
fn an_unconnected_socket_hears_anyone() {
    let (one, first) = peer();
    let (two, second) = peer();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Ssdp, None)),
        Input::Opened(..) => {
            reaction.output(send(Socket::Ssdp, first, b"search"));
            reaction.output(send(Socket::Ssdp, second, b"search"));
        }
        _ => {}
    });
    worker.send(create(0));
    for (socket, address) in [(one, first), (two, second)] {
        let (len, from) = socket.recv_from(&mut [0; 100]).expect("the search");
        assert_eq!(len, 6);
        socket.send_to(b"found", from).unwrap();
        worker.expect_input(&Input::Datagram(Socket::Ssdp, address, b"found".to_vec()));
    }
}

#[test]
fn a_listener_gets_its_group() {
    let worker = Scripted::start(|_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.output(open(Socket::Announcements, None));
        }
    });
    worker.send(create(0));
    let group = SocketAddr::from(([224, 0, 0, 1], 5350));
    worker.expect_input(&Input::Opened(Socket::Announcements, Some(group)));
    let (gateway, address) = peer();
    SockRef::from(&gateway).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    gateway.send_to(b"announce", group).unwrap();
    worker.expect_input(&Input::Datagram(Socket::Announcements, address, b"announce".to_vec()));
}

#[test]
fn says_when_a_socket_cannot_be_opened() {
    let worker = Scripted::start(|_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            // TEST-NET-3: not ours.
            let local = IpAddr::from([203, 0, 113, 7]);
            reaction.output(Output::Open { socket: Socket::Ssdp, local, interface: 1, remote: None });
        }
    });
    worker.send(create(0));
    worker.expect_input(&Input::Opened(Socket::Ssdp, None));
}

#[test]
fn a_socket_that_is_closed_or_replaced_is_heard_no_more() {
    let (gateway, address) = peer();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Destroy(_) => {
            reaction.output(Output::Close { socket: Socket::Pcp });
            // Dropped: there is no such socket now.
            reaction.output(send(Socket::Pcp, address, b"lost"));
        }
        Input::Opened(..) => reaction.output(send(Socket::Pcp, address, b"request")),
        _ => {}
    });
    let mut buffer = [0; 100];
    let mut ports = Vec::new();
    for id in 0..3 {
        worker.send(create(id));
        ports.push(gateway.recv_from(&mut buffer).expect("a request").1);
    }
    // Each of a socket of its own, of which one is left.
    gateway.send_to(b"late", ports[0]).unwrap();
    gateway.send_to(b"late", ports[1]).unwrap();
    gateway.send_to(b"reply", ports[2]).unwrap();
    let bytes = worker.expect(|seen| match seen {
        Seen::Input(Input::Datagram(_, _, bytes)) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(bytes, b"reply");
    worker.send(Command::Destroy(2));
    worker.expect_input(&Input::Destroy(2));
    worker.send(create(3));
    let (len, from) = gateway.recv_from(&mut buffer).expect("a request");
    assert_eq!(&buffer[..len], b"request");
    assert!(!ports.contains(&from));
}

#[test]
fn reports_a_closed_port() {
    let closed = closed_port();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::NatPmp, Some(closed))),
        Input::Opened(..) => reaction.output(send(Socket::NatPmp, closed, b"request")),
        _ => {}
    });
    worker.send(create(0));
    worker.expect_input(&Input::Refused(Socket::NatPmp));
}

#[test]
fn a_datagram_that_meets_an_earlier_ones_error_is_sent_nevertheless() {
    let address = closed_port();
    let (report, reported) = crossbeam_channel::unbounded();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Opened(..) => {
            reaction.output(send(Socket::Pcp, address, b"one"));
            // What is decided on its answer comes between the two.
            reaction.output(Output::LookUpRoute { toward: Some(LOOPBACK) });
        }
        Input::Route(_) => {
            let socket = UdpSocket::bind(address).expect("the port is still free");
            report.send(socket).unwrap();
            reaction.output(send(Socket::Pcp, address, b"two"));
        }
        _ => {}
    });
    worker.send(create(0));
    let gateway = reported.recv_timeout(PATIENCE).expect("the gateway is up");
    worker.expect_input(&Input::Refused(Socket::Pcp));
    gateway.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 100];
    let len = gateway.recv(&mut buffer).expect("the second datagram");
    assert_eq!(&buffer[..len], b"two");
}

#[test]
fn looks_up_routes() {
    let worker = Scripted::start(|_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.output(Output::LookUpRoute { toward: Some(LOOPBACK) });
        }
    });
    worker.send(create(0));
    let interface = namespace::index("lo");
    worker.expect_input(&Input::Route(Some(Route { gateway: None, local: LOOPBACK, interface })));
}
