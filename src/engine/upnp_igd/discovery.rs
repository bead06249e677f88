//! From the search to the service in use: sends searches, follows up their answers, takes the best service.

use super::device::{Choice, Discovery, Found};
use super::exchange::{Done, Job};
use super::port::Quirks;
use super::search::{self, Search, SearchSocket};
use super::watch::ExternalAddress;
use super::{Control, Timer, UpnpIgd};
use crate::engine::io::Cx;
use crate::log::log;
use crate::time::Time;
use crate::wire::ssdp;
use std::net::SocketAddr;
use std::time::Duration;

/// How long after the first usable description others are waited for.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(250);

impl UpnpIgd {
    /// A race begins, or begins anew: searches for gateways. A service in use that mappings of ours hang on stays
    /// as it is, and nothing is sent ([`check`](UpnpIgd::check) looks after it); anything else that was found is
    /// forgotten.
    pub fn search(&mut self, cx: &mut Cx<'_>) {
        self.resting = false;
        if self.network.is_none() || (self.control.is_some() && !self.mappings.is_empty()) {
            self.resume(cx);
            return;
        }
        self.control = None;
        self.hang_up(cx, &Job::is_control);
        self.exchanges.drop_queued(&Job::is_control);
        self.external = ExternalAddress::default();
        self.forget_devices(cx);
        self.searched_at = cx.now;
        self.search = match self.socket {
            SearchSocket::Failed => Search::Over,
            SearchSocket::Unopened | SearchSocket::Open => Search::Active { rounds: 0 },
        };
        if self.search != Search::Over {
            self.timers.set(Timer::SearchEnd, search::end_at(cx.now, self.discover_timeout));
            self.send_searches(cx);
        }
        self.settle(cx);
    }

    /// Another protocol has won: nothing more is sent to find things out. What has answered is remembered, and
    /// the first `map`, or the next `search`, goes on from there.
    pub fn rest(&mut self, cx: &mut Cx<'_>) {
        self.resting = true;
        self.timers.cancel(Timer::Search);
        self.exchanges.drop_queued(&|job| matches!(job, Job::Describe { .. }));
        self.settle(cx);
    }

    /// The search socket is open at this address, or could not be opened.
    pub fn handle_opened(&mut self, cx: &mut Cx<'_>, local: Option<SocketAddr>) {
        if local.is_none() {
            self.socket = SearchSocket::Failed;
            self.search = Search::Over;
            self.timers.cancel(Timer::Search);
            self.timers.cancel(Timer::SearchEnd);
        } else {
            self.socket = SearchSocket::Open;
            if matches!(self.search, Search::Active { rounds: 0 }) {
                self.timers.set(Timer::SearchEnd, search::end_at(cx.now, self.discover_timeout));
                self.send_searches(cx);
            }
        }
        self.settle(cx);
    }

    /// A datagram came on the search socket.
    pub fn handle_datagram(&mut self, cx: &mut Cx<'_>, from: SocketAddr, bytes: &[u8]) {
        let Some(network) = self.network else { return };
        let Ok(ssdp::Message::Reply(headers)) = ssdp::parse(bytes) else {
            log!(Verbose, "UPnP-IGD: datagram of {from} is no answer to a search");
            return;
        };
        if !search::may_answer(&network, from.ip()) {
            log!(Verbose, "UPnP-IGD: answer of {from} is not of this network");
            return;
        }
        let Some(location) = search::location(&network, from.ip(), &headers.location) else {
            log!(Debug, "UPnP-IGD: {from} names a description that is not its own");
            return;
        };
        if self.control.is_some() || self.search == Search::Idle {
            return;
        }
        let rounds = self.search.rounds();
        let found = self.discovery.found(from.ip(), network.gateway, location, &headers, rounds);
        if let Found::Fetch { device, stranger } = found
            && !self.resting
        {
            self.fetch(device, stranger);
        }
        self.settle(cx);
    }

    /// Sends a round of searches, unless a gateway has answered, and sets the time of the next.
    pub(super) fn send_searches(&mut self, cx: &mut Cx<'_>) {
        let (Some(network), SearchSocket::Open, Search::Active { rounds }) =
            (self.network, self.socket, self.search)
        else {
            return;
        };
        if self.control.is_none() && !self.discovery.is_at_work() {
            let lost = self.suspect.as_ref().map(|url| url.address.ip().to_canonical());
            search::send_round(cx, &network, lost);
        }
        self.search = Search::Active { rounds: rounds + 1 };
        if let Some(wait) = search::wait_after(cx, rounds) {
            self.timers.set(Timer::Search, cx.now + wait);
        }
    }

    /// Goes on with what was left lying when another protocol had won.
    pub(super) fn resume(&mut self, cx: &mut Cx<'_>) {
        self.resting = false;
        let waiting: Vec<_> = self.discovery.outstanding().collect();
        for (device, stranger) in waiting {
            self.fetch(device, stranger);
        }
        self.choose(cx);
        self.settle(cx);
    }

    /// Forgets all devices but the service in use.
    pub(super) fn forget_devices(&mut self, cx: &mut Cx<'_>) {
        self.hang_up(cx, &|job| !job.is_control());
        self.exchanges.drop_queued(&|job| !job.is_control());
        self.discovery = Discovery::default();
        for timer in [Timer::Settle, Timer::Search, Timer::SearchEnd] {
            self.timers.cancel(timer);
        }
    }

    /// By when the discovery has to be done; one that comes to life late has as much time again.
    pub(super) fn discovery_ends_at(&self, now: Time) -> Time {
        let ends_at = self.searched_at + self.discover_timeout;
        if ends_at > now { ends_at } else { now + self.discover_timeout }
    }

    fn fetch(&mut self, device: usize, stranger: bool) {
        let job = |stranger| Job::Describe { device, stranger };
        if [true, false].into_iter().any(|stranger| self.exchanges.opened_at(job(stranger)).is_some()) {
            return;
        }
        if !stranger {
            // The gateway has named now what had to wait among the strangers.
            self.exchanges.drop_queued(&|queued| queued == job(true));
        }
        let turn = self.exchanges.turn();
        self.exchanges.enqueue(job(stranger), turn);
    }

    pub(super) fn handle_description(&mut self, cx: &mut Cx<'_>, device: usize, stranger: bool, done: &Done) {
        if self.discovery.described(cx.now, device, done) && !self.resting {
            self.fetch(device, stranger);
        }
        if let Some(first_at) = self.discovery.first_described_at {
            self.timers.set(Timer::Settle, (first_at + SETTLE_TIMEOUT).max(cx.now));
        }
        self.choose(cx);
    }

    /// Takes a service, or asks the candidates whether they work.
    pub(super) fn choose(&mut self, cx: &mut Cx<'_>) {
        while self.control.is_none() && !self.resting {
            let settled =
                self.discovery.first_described_at.is_some_and(|first_at| cx.now >= first_at + SETTLE_TIMEOUT);
            match self.discovery.choose(settled, self.suspect.as_ref()) {
                Choice::Wait => return,
                Choice::Probe(index) => {
                    self.discovery.probing(index);
                    for job in [Job::ProbeStatus(index), Job::ProbeAddress(index)] {
                        let turn = self.exchanges.turn();
                        self.exchanges.enqueue(job, turn);
                    }
                }
                Choice::Take(index) => return self.take(cx, index),
            }
        }
    }

    fn take(&mut self, cx: &mut Cx<'_>, index: usize) {
        let (Some(candidate), Some(identity)) =
            (self.discovery.candidate(index), self.discovery.identity(index))
        else {
            return;
        };
        log!(Debug, "UPnP-IGD: {:?} at {}{}", candidate.kind, candidate.url.address, candidate.url.path);
        self.control = Some(Control {
            url: candidate.url.clone(),
            service_type: candidate.service_type.clone(),
            kind: candidate.kind,
            identity: identity.clone(),
            quirks: Quirks::default(),
        });
        self.exchanges.reset_width();
        let address = self.discovery.probed_external_address(index);
        self.forget_devices(cx);
        self.search = Search::Idle;
        match address {
            Some(address) => {
                self.external.set(cx.now, address);
            }
            None => self.ask_address(),
        }
        self.continue_mappings(cx);
    }
}
