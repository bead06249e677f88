//! A simulated gateway and a session of its own for each test.
#![allow(
    dead_code,
    clippy::disallowed_types,
    reason = "no test uses all of it; tests wait by the clock, and no child of a fork takes their locks"
)]

use plum::{Builder, Change, Events, External, Mapping, Protocol, Request, Session};
use plum_gateway::control::carry_out;
use plum_gateway::core::TableEntry;
use plum_gateway::server::Server;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Whatever has not happened after this long never will.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn gateway() -> Server {
    Server::start_on_own_address(|_| {}).expect("a gateway on loopback")
}

pub(crate) fn order(server: &Server, command: &str) {
    server.with_core(|core| carry_out(core, command)).expect("a command of the gateway's");
}

pub(crate) fn builder(server: &Server) -> Builder {
    Builder::new().gateway(server.address())
}

pub(crate) fn session(server: &Server) -> Session {
    builder(server).start().expect("a session")
}

pub(crate) fn map(session: &Session, request: Request) -> Mapping {
    session.map(request).expect("a mapping can be asked for")
}

pub(crate) fn external(text: &str, protocol: Protocol) -> External {
    External::new(text.parse().expect("an address"), protocol)
}

/// The internal ports of what the gateway has mapped.
pub(crate) fn table(server: &Server) -> Vec<u16> {
    server.with_core(|core| core.table().iter().map(|entry: &TableEntry| entry.internal.port()).collect())
}

pub(crate) fn map_all(session: &Session, ports: RangeInclusive<u16>) -> Vec<Mapping> {
    let mappings: Vec<Mapping> = ports.map(|port| map(session, Request::udp(port))).collect();
    for mapping in &mappings {
        mapping.wait(LONG).expect("it is made");
    }
    mappings
}

pub(crate) fn wait_until_empty(server: &Server) {
    assert!(server.wait_until(LONG, |core| core.table().is_empty()), "the gateway's mappings are removed");
}

/// The next event of this mapping.
pub(crate) fn next(events: &mut Events, mapping: &Mapping) -> Change {
    let event = events.next_within(LONG).expect("something happens");
    assert_eq!(event.mapping, mapping.id());
    event.change
}

/// The next external address and port of a mapping that was lost: its loss is an event, or was replaced by the newer one.
pub(crate) fn made_again(events: &mut Events, mapping: &Mapping) -> Change {
    let mut event = events.next_within(LONG).expect("something happens");
    let is_lost = event.change == Change::Pending || event.missed > 0;
    if event.change == Change::Pending {
        event = events.next_within(LONG).expect("something happens");
    }
    assert!(is_lost && event.mapping == mapping.id());
    event.change
}

/// Waits for what the worker does after its gateway has answered.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "it never came to pass");
        std::thread::sleep(Duration::from_millis(1));
    }
}
