//! The connections of all IPv6 engines: together they keep the limits of one. A host is an address on an interface.

use crate::io::{ExchangeId, Output, Source};
use crate::upnp::{MAX_OPEN, WIDTH};
use std::collections::LinkedList;
use std::net::{IpAddr, SocketAddr};

/// A host on a link.
type Host = (IpAddr, u32);

/// A connection that waits.
#[derive(Debug)]
struct Waiting {
    exchange: ExchangeId,
    to: SocketAddr,
    source: Source,
}

impl Waiting {
    fn host(&self) -> Host {
        (self.to.ip(), self.source.interface)
    }

    fn into_output(self) -> Output {
        Output::Connect { exchange: self.exchange, to: self.to, source: Some(self.source) }
    }
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Vec<(ExchangeId, Host)>,
    waiting: LinkedList<Waiting>,
    /// Hosts that have refused a connection beside those of others, and how many they take; until none is open.
    narrow: Vec<(Host, usize)>,
}

impl Connections {
    /// An engine connects. Returns the output if there is room; otherwise it waits.
    pub(super) fn connect(&mut self, exchange: ExchangeId, to: SocketAddr, source: Source) -> Option<Output> {
        self.waiting.push_back(Waiting { exchange, to, source });
        self.next()
    }

    /// An engine hangs up. Returns whether the connection was opened.
    pub(super) fn hang_up(&mut self, exchange: ExchangeId) -> bool {
        self.waiting = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter(|waiting| waiting.exchange != exchange)
            .collect();
        self.end(exchange)
    }

    /// A connection has ended. Returns whether it was known.
    pub(super) fn end(&mut self, exchange: ExchangeId) -> bool {
        let before = self.open.len();
        self.open.retain(|&(known, _)| known != exchange);
        let open = &self.open;
        self.narrow.retain(|&(host, _)| open.iter().any(|&(_, other)| other == host));
        self.open.len() < before
    }

    /// A connection has ended by itself. Some hosts take few at a time and refuse or reset the others: returns whether
    /// another engine has one open with this host, so that the next one waits for room.
    pub(super) fn is_crowded_out(&mut self, exchange: ExchangeId) -> bool {
        let ended = self.open.iter().find(|(known, _)| *known == exchange).map(|&(_, host)| host);
        self.end(exchange);
        let of_host = || self.open.iter().filter(|&&(_, host)| Some(host) == ended);
        let (Some(host), width) = (ended, of_host().count()) else { return false };
        if of_host().all(|(known, _)| known.engine() == exchange.engine()) {
            return false;
        }
        self.narrow.retain(|&(known, _)| known != host);
        self.narrow.push((host, width));
        true
    }

    /// The next connection for which there is room.
    pub(super) fn next(&mut self) -> Option<Output> {
        let mut passed = LinkedList::new();
        let mut found = None;
        while let Some(waiting) = self.waiting.pop_front() {
            let with_host = self.open.iter().filter(|(_, host)| *host == waiting.host()).count();
            let narrow = self.narrow.iter().find(|(host, _)| *host == waiting.host());
            let width = narrow.map_or(WIDTH, |&(_, width)| width);
            if found.is_none() && with_host < width && self.open.len() < MAX_OPEN {
                self.open.push((waiting.exchange, waiting.host()));
                found = Some(waiting.into_output());
            } else {
                passed.push_back(waiting);
            }
        }
        self.waiting = passed;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(connections: &mut Connections, number: u64, interface: u32) -> bool {
        let source = Source { address: "2600::1".parse().unwrap(), interface };
        let to = "[fe80::1]:5000".parse().unwrap();
        connections.connect(ExchangeId(number), to, source).is_some()
    }

    #[test]
    fn a_fifth_connection_with_one_host_waits() {
        let mut connections = Connections::default();
        assert!((1..=4).all(|number| connect(&mut connections, number, 2)));
        assert!(!connect(&mut connections, 5, 2));
        assert!(connect(&mut connections, 6, 3), "the same address on another link is another host");
        assert!(connections.end(ExchangeId(2)));
        let Some(Output::Connect { exchange, .. }) = connections.next() else { panic!("it waits for ever") };
        assert_eq!(exchange, ExchangeId(5));
        assert!(connections.next().is_none());
    }

    #[test]
    fn a_host_that_refuses_a_connection_beside_that_of_another_engine_gets_no_more() {
        let of = |engine: u64, number: u64| (engine << 40) + number;
        let mut connections = Connections::default();
        assert!([of(1, 1), of(1, 2), of(2, 1)].into_iter().all(|number| connect(
            &mut connections,
            number,
            2
        )));
        assert!(connections.is_crowded_out(ExchangeId(of(2, 1))));
        assert!(!connect(&mut connections, of(2, 2), 2), "it waits for room");
        assert!(connections.end(ExchangeId(of(1, 1))));
        assert!(connections.next().is_some());
        assert!(connections.end(ExchangeId(of(2, 2))));
        assert!(connections.end(ExchangeId(of(1, 2))));
        assert!((3..=6).all(|number| connect(&mut connections, of(1, number), 2)), "it is forgotten");
        assert!(!connections.is_crowded_out(ExchangeId(of(1, 6))), "the others are its own");
    }

    #[test]
    fn one_that_waits_may_be_given_up() {
        let mut connections = Connections::default();
        assert!((1..=4).all(|number| connect(&mut connections, number, 2)));
        assert!(!connect(&mut connections, 5, 2));
        assert!(!connections.hang_up(ExchangeId(5)), "it was never opened");
        assert!(connections.hang_up(ExchangeId(1)));
        assert!(connections.next().is_none());
    }
}
