//! Sockets at an address of ours, on the link that is wanted.

use crate::far_side::FarSide;
use crate::hosts::host_behind;
use crate::{OURS, add_ipv6_cable, v6, wait_for};
use mio::Interest;
use plum_runtime::net::tcp::{Incoming, Tcp};
use plum_runtime::net::udp::{Received, Udp};
use plum_runtime::net::{self, Uplink};
use plum_testkit::namespace::{index, ip, is_inside};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};

#[test]
fn a_socket_at_an_address_that_is_gone_says_so() {
    if !is_inside("sockets::a_socket_at_an_address_that_is_gone_says_so") {
        return;
    }
    add_ipv6_cable("lan");
    let (lan, peer) = (index("lan"), SocketAddr::new(v6("fe80::1").into(), 5351));
    let gone = v6("2600:0:0:7::99");
    let errors = [
        Udp::connected(gone.into(), lan, peer, &Uplink::default()).map(drop).unwrap_err(),
        Udp::unconnected(gone.into(), lan, 2, &Uplink::default()).map(drop).unwrap_err(),
        Tcp::connect_from(gone, lan, peer, &Uplink::default()).map(drop).unwrap_err(),
        // With its interface.
        Udp::connected(v6("fe80::2").into(), 99, peer, &Uplink::default()).map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(net::is_address_gone(&error), "{error:?}");
    }
    let taken = TcpListener::bind((v6(OURS), 0)).unwrap();
    let other = TcpListener::bind(taken.local_addr().unwrap()).unwrap_err();
    assert!(!net::is_address_gone(&other), "{other:?}");
}

/// Two links to hosts that both have fe80::1, which listen for TCP and UDP at this port.
const PORT: u16 = 5351;

/// fe80::1, of whatever link.
fn their_link_local() -> SocketAddr {
    SocketAddr::new(v6("fe80::1").into(), PORT)
}

/// Waits for a datagram: its bytes, and its sender.
fn receive(udp: &mut Udp) -> (Vec<u8>, SocketAddr, u32) {
    let (mut buffer, mut found) = ([0; 100], None);
    wait_for(udp, Interest::READABLE, "a datagram arrives", |udp| match udp.receive(&mut buffer) {
        Received::Datagram { len, from, interface } => {
            found = Some((buffer[..len].to_vec(), from, interface));
            true
        }
        Received::Empty => false,
        other => panic!("{other:?}"),
    });
    found.expect("a datagram")
}

/// Takes one datagram there, and answers with `answer` and the sender's address.
fn answer_by_udp(far: &FarSide, answer: &'static str) {
    // Bound, or it would answer from its other address.
    let here = || SocketAddrV6::new(v6("fe80::1"), PORT, 0, index("far"));
    let socket = far.run(move || UdpSocket::bind(here()).expect("a socket"));
    std::thread::spawn(move || {
        let (_, from) = socket.recv_from(&mut [0; 100]).expect("a datagram");
        socket.send_to(format!("{answer} {}", from.ip()).as_bytes(), from).expect("sends");
    });
}

/// The same for a connection.
fn answer_by_tcp(far: &FarSide, answer: &'static str) {
    let listener = far.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).expect("a listener"));
    std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0; 5]).expect("five octets");
        stream.write_all(format!("{answer} {}", from.ip()).as_bytes()).expect("sends");
    });
}

#[test]
fn udp_reaches_the_link_local_address_of_the_named_link() {
    if !is_inside("sockets::udp_reaches_the_link_local_address_of_the_named_link") {
        return;
    }
    let links = [("one", "2600:0:0:1::2", "2600:0:0:1::1"), ("two", "2600:0:0:2::2", "2600:0:0:2::1")];
    let far = links.map(|(name, ours, theirs)| host_behind(name, ours, theirs));
    // Each source on each link: what decides is the interface.
    for far in &far {
        far.run(|| ip("-6 route add default via fe80::2 dev far"));
    }
    for (link, (name, _, _)) in links.iter().enumerate() {
        for (_, source, _) in links {
            answer_by_udp(&far[link], name);
            let mut udp =
                Udp::connected(v6(source).into(), index(name), their_link_local(), &Uplink::default())
                    .expect("a socket");
            assert_eq!(udp.local_addr().unwrap().ip(), v6(source));
            udp.send(their_link_local(), b"hello").result.expect("sends");
            let (bytes, _, _) = receive(&mut udp);
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("{name} {source}"));
        }
    }
}

#[test]
fn tcp_reaches_the_link_local_address_of_the_named_link() {
    if !is_inside("sockets::tcp_reaches_the_link_local_address_of_the_named_link") {
        return;
    }
    let links = [("one", "2600:0:0:1::2", "2600:0:0:1::1"), ("two", "2600:0:0:2::2", "2600:0:0:2::1")];
    let far = links.map(|(name, ours, theirs)| host_behind(name, ours, theirs));
    for (far, (name, source, _)) in far.iter().zip(links) {
        answer_by_tcp(far, name);
        let mut tcp = Tcp::connect_from(v6(source), index(name), their_link_local(), &Uplink::default())
            .expect("begins");
        let is_established = |tcp: &mut Tcp| tcp.established().expect("connects").is_some();
        wait_for(&mut tcp, Interest::WRITABLE, "it is connected", is_established);
        assert_eq!(tcp.established().unwrap().map(|local| local.ip()), Some(v6(source).into()));
        assert_eq!(tcp.write(b"hello").unwrap(), 5);
        let (mut text, mut buffer) = (Vec::new(), [0; 100]);
        wait_for(&mut tcp, Interest::READABLE, "an answer", |tcp| {
            loop {
                match tcp.read(&mut buffer).expect("reads") {
                    Incoming::Data(len) => text.extend_from_slice(&buffer[..len]),
                    Incoming::Empty => return false,
                    Incoming::Closed => return true,
                }
            }
        });
        assert_eq!(String::from_utf8(text).unwrap(), format!("{name} {source}"));
    }
}

#[test]
fn searches_leave_by_the_named_link_and_answers_tell_theirs() {
    if !is_inside("sockets::searches_leave_by_the_named_link_and_answers_tell_theirs") {
        return;
    }
    let far = host_behind("one", OURS, "2600:0:0:7::1");
    let _other = host_behind("two", "2600:0:0:2::2", "2600:0:0:2::1");
    let (one, their_address) = (index("one"), SocketAddr::new(v6("2600:0:0:7::1").into(), 1900));
    // From our address to the group of the site, and from the link-local one to that of the link, and to fe80::1.
    for (local, to) in [(OURS, "ff05::c"), ("fe80::2", "ff02::c"), ("fe80::2", "fe80::1"), (OURS, "fe80::1")]
    {
        let listener = far.run(|| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 1900)).expect("a socket");
            let far = index("far");
            for group in ["ff02::c", "ff05::c"] {
                socket.join_multicast_v6(&v6(group), far).expect("joins");
            }
            socket
        });
        let mut udp = Udp::unconnected(v6(local).into(), one, 2, &Uplink::default()).expect("a socket");
        udp.send(SocketAddr::new(v6(to).into(), 1900), b"search").result.expect("sends");
        let (_, from) = listener.recv_from(&mut [0; 100]).expect("a search");
        assert_eq!(from.ip(), v6(local), "{to}");
        listener.send_to(b"answer", from).expect("answers");
        let (bytes, from, interface) = receive(&mut udp);
        assert_eq!((&bytes[..], interface), (&b"answer"[..], one));
        assert!(udp.is_on_link(from) && udp.is_on_link(their_address), "{from}");
    }
}

#[test]
fn who_is_behind_a_router_or_on_another_link_is_not_on_link() {
    if !is_inside("sockets::who_is_behind_a_router_or_on_another_link_is_not_on_link") {
        return;
    }
    ip("link set lo up");
    add_ipv6_cable("lan");
    let _other = host_behind("two", "2600:0:0:2::2", "2600:0:0:2::1");
    ip("-6 route add default via fe80::1 dev lan");
    let udp = Udp::unconnected(v6(OURS).into(), index("lan"), 2, &Uplink::default()).expect("a socket");
    let is_on_link =
        |text: &str, scope: u32| udp.is_on_link(SocketAddrV6::new(v6(text), 1900, 0, scope).into());
    assert!(is_on_link("2600:0:0:7::1", 0) && is_on_link(OURS, 0) && is_on_link("fe80::1", index("lan")));
    assert!(!is_on_link("2600:0:0:8::1", 0) && !is_on_link("2600:0:0:2::1", 0));
    assert!(!is_on_link("fe80::1", index("two")));
    assert!(!udp.is_on_link("10.1.0.1:1900".parse().unwrap()));
    // An address without a prefix: what is on-link, the router has said by routes alone.
    ip(&format!("-6 addr del {OURS}/64 dev lan"));
    ip(&format!("-6 addr add {OURS}/128 dev lan nodad"));
    assert!(!is_on_link("2600:0:0:7::1", 0));
    ip("-6 route add 2600:0:0:7::/64 dev lan");
    assert!(is_on_link("2600:0:0:7::1", 0));
}

#[test]
fn listeners_hear_their_group_on_their_link_beside_those_of_ipv4() {
    if !is_inside("sockets::listeners_hear_their_group_on_their_link_beside_those_of_ipv4") {
        return;
    }
    let far = [("one", OURS, "2600:0:0:7::1"), ("two", "2600:0:0:2::2", "2600:0:0:2::1")]
        .map(|(name, ours, theirs)| host_behind(name, ours, theirs));
    ip("addr add 10.1.0.2/24 dev one");
    for (group, v4, port) in [("ff02::1", [224, 0, 0, 1], 5350), ("ff02::c", [239, 255, 255, 250], 1900)] {
        let group = v6(group);
        let of_ipv4 =
            Udp::listening((v4, port).into(), [10, 1, 0, 2].into(), index("one")).expect("a listener");
        let listen = |name: &str, local: &str| {
            Udp::listening((group, port).into(), v6(local).into(), index(name)).expect("a listener")
        };
        let (mut one, mut two) = (listen("one", OURS), listen("two", "fe80::2"));
        let again = listen("one", "fe80::2");
        for (far, (udp, name)) in far.iter().zip([(&mut one, "one"), (&mut two, "two")]) {
            far.run(move || {
                let sender = UdpSocket::bind(SocketAddrV6::new(v6("fe80::1"), 0, 0, index("far")));
                sender.expect("a socket").send_to(b"hello", (group, port)).expect("sends");
            });
            let (bytes, from, interface) = receive(udp);
            assert_eq!(
                (&bytes[..], from.ip(), interface),
                (&b"hello"[..], v6("fe80::1").into(), index(name))
            );
            assert!(udp.is_on_link(from));
            assert_eq!(udp.receive(&mut [0; 100]), Received::Empty);
        }
        assert!(matches!(again.receive(&mut [0; 100]), Received::Datagram { .. }));
        assert_eq!(of_ipv4.receive(&mut [0; 100]), Received::Empty);
    }
}
