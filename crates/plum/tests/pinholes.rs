//! Pinholes by the Rust API, in a network of its own with a simulated gateway.
#![cfg(target_os = "linux")]

mod harness;

use harness::{LONG, external, next, order};
use plum::{Builder, Change, Mapping, Protocol, Request};
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::{add_ipv6_network, is_inside};
use std::net::{IpAddr, Ipv6Addr};

fn network() -> Server {
    add_ipv6_network("lan", "2600::17");
    let mut config = Config::at(Ipv6Addr::LOCALHOST);
    config.gateway = config.gateway.with_ipv6(Ipv6Addr::LOCALHOST);
    Server::start(config).expect("a gateway at ::1")
}

fn pinholes(server: &Server) -> usize {
    server.with_core(|core| core.pinholes().len())
}

#[test]
fn a_pinhole_is_open_from_the_grant_to_the_end_of_the_session_by_each_protocol() {
    if !is_inside("a_pinhole_is_open_from_the_grant_to_the_end_of_the_session_by_each_protocol") {
        return;
    }
    let server = network();
    for protocol in [Protocol::Pcp, Protocol::UpnpIgd] {
        let session =
            Builder::new().gateway(IpAddr::V6(Ipv6Addr::LOCALHOST)).start().expect("a session starts");
        let mut events = session.events();
        let tcp = session.map(Request::tcp(8080).ipv6()).expect("it can be asked for");
        let granted = external("[2600::17]:8080", protocol);
        assert_eq!(tcp.wait(LONG).expect("it is made"), granted);
        assert_eq!(next(&mut events, &tcp), Change::Mapped(granted));
        let udp = session.map(Request::udp(8081).ipv6_address("2600::17".parse().expect("an address")));
        let udp = udp.expect("it can be asked for");
        assert_eq!(udp.wait(LONG).expect("it is made"), external("[2600::17]:8081", protocol));
        assert_eq!([&tcp, &udp].map(Mapping::is_ipv6), [true; 2]);
        assert_eq!(pinholes(&server), 2);

        assert!(tcp.remove());
        assert_eq!(pinholes(&server), 1);
        let closed = session.close().expect("it ends");
        assert_eq!((closed.removed.len(), closed.unconfirmed.len(), pinholes(&server)), (1, 0, 0));
        order(&server, "close pcp");
    }
}
