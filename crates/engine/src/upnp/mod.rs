//! The UPnP-IGD driver: search, description, actions.
//!
//! `search` and `devices` find devices and read their descriptions, `discovery` ties them together; `service` has what
//! is known of each service; `task` makes entries, by `walk` and `action`; `deletion` deletes them; `entry_checks`
//! checks that they are kept; `pinholes`, `looks` and `closing` do this for the firewall of IPv6; `calls` are what the command asks besides; `exchange` carries all of this over HTTP.

mod action;
mod calls;
mod closing;
mod deletion;
mod devices;
mod discovery;
mod entry_checks;
mod exchange;
mod looks;
mod pinholes;
mod search;
mod service;
mod task;
mod walk;

use super::driver::{Driver, Key, Notice, RequestKind, Rung, ServiceId, Slot};
use super::io::{Cx, ExchangeId, Output, Protocol, Suggestion, TcpEnd};
use super::ledger::Ledger;
use super::protocols::{GRACE, SILENCE};
use super::reason::Reason;
use super::timers::Timers;
use crate::log::log;
use crate::ordered::{Map, Word};
use crate::time::Time;
pub use action::{Action, ExchangeError, Outcome, code};
pub use devices::{Device, DeviceState, NamedService};
use plum_wire::http::{self, Reply, Url};
use plum_wire::soap;
pub use search::may_answer;
pub use service::Service;

use calls::Call;
use deletion::Deletion;
use devices::Devices;
use entry_checks::EntryChecks;
use exchange::{Exchanges, Finished, Job, Request};
pub(crate) use exchange::{MAX_OPEN, WIDTH};
use pinholes::{OpeningState, Pinholes};
use search::{Search, Sockets};
use service::{Services, Trial, is_usable};
use std::collections::LinkedList;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use task::{Task, TaskState};

/// How long a service on another device that held mappings is used without waiting for the end of the search.
const TRUST_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The timeout of an action that leaves no unknown entry behind.
const SHORT_TIMEOUT: Duration = Duration::from_secs(2);

/// The network in which the gateway is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Next hop toward the internet; `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// Our address toward the gateway.
    pub local: IpAddr,
    /// The index of the interface with this address; 0: not known.
    pub interface: u32,
    /// The gateway was named by PLUM_GATEWAY: no other device is asked.
    pub named: bool,
}

impl Network {
    /// Whether pinholes are opened in it, rather than ports mapped.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.local.is_ipv6()
    }
}

/// The timers of the driver. Of those due at the same time, the one with the lower word comes first.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// When the next round of the search is sent, or the search ends.
    Search,
    /// When a deletion stops waiting for an earlier request.
    Deletion(Slot),
    /// When a walk sends its next request in the pace.
    Walk(TaskId),
    /// When an entry is to be checked.
    EntryCheck(TaskId),
    /// When the next check is sent.
    EntryCheckTurn,
    /// When several services stop waiting for each other's status.
    Settle,
    /// When doubted devices are searched for again.
    Doubt,
    /// When the gateway is searched by IPv4, if nothing has answered by IPv6.
    Ipv4Search,
}

impl Word for Rung {
    fn word(self) -> u64 {
        self.service().map_or(0, |service| 1 + u64::from(service.0))
    }
}

impl Word for Slot {
    fn word(self) -> u64 {
        self.rung.word() << 40 | self.key.word() << 16 | u64::from(self.port)
    }
}

impl Word for Timer {
    fn word(self) -> u64 {
        match self {
            Timer::Search => (0, 0),
            Timer::Deletion(slot) => (1, slot.word()),
            Timer::EntryCheck(id) => (2, id.word()),
            Timer::EntryCheckTurn => (3, 0),
            Timer::Settle => (4, 0),
            Timer::Doubt => (5, 0),
            Timer::Walk(id) => (6, id.word()),
            Timer::Ipv4Search => (7, 0),
        }
        .word()
    }
}

/// Identifies a task by its service and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TaskId {
    rung: Rung,
    key: Key,
}

impl TaskId {
    /// The task that makes an entry.
    fn of(slot: Slot) -> TaskId {
        TaskId { rung: slot.rung, key: slot.key }
    }

    /// Its entry at an external port (0: chosen by the gateway).
    fn slot(self, port: u16) -> Slot {
        Slot { rung: self.rung, key: self.key, port }
    }

    /// The other mapping of ours that has, or may have, an external port.
    fn other_owner(self, ledger: &Ledger, port: u16) -> Option<Key> {
        ledger.owner(self.rung.service()?, self.key.transport, port).filter(|&owner| owner != self.key)
    }
}

impl Word for TaskId {
    fn word(self) -> u64 {
        self.slot(0).word()
    }
}

/// The UPnP-IGD driver.
#[derive(Debug, Default)]
pub struct Upnp {
    network: Option<Network>,
    /// Whether the search socket is open; `None`: not known yet.
    is_open: Option<bool>,
    sockets: Sockets,
    search: Search,
    /// The gateway by IPv4, once the search by IPv6 has found nothing.
    ipv4_gateway: Option<IpAddr>,
    /// No mapping waits any more: nothing more is discovered.
    resting: bool,
    /// Firewall control is sought for pinholes that PCP does not delete.
    is_sought: bool,
    devices: Devices,
    services: Services,
    /// Services on other devices that held our mappings, and when.
    trusted: Map<Rung, Time>,
    /// Why the search may have found nothing, other than silence.
    trouble: Option<Reason>,
    /// How many searches for doubted devices were sent, and when the last.
    doubt_searches: usize,
    doubted_at: Option<Time>,
    tasks: Map<TaskId, Task>,
    pinholes: Pinholes,
    deletions: Map<Slot, Deletion>,
    /// How many entries were deleted.
    deleted: u32,
    entry_checks: EntryChecks,
    exchanges: Exchanges,
    /// The calls that are not answered yet, and the replies to those that are.
    calls: Vec<Call>,
    replies: Vec<(u32, Result<Reply, ExchangeError>)>,
    timers: Timers<Timer>,
    notices: LinkedList<Notice>,
}

impl Upnp {
    /// Starts at another gateway or network, or none: forgets everything, without notices.
    pub fn start(&mut self, cx: &mut Cx, network: Option<Network>) {
        self.exchanges.discard(cx, true, |_| true);
        // Keeps the exchanges for their last id: a late input must not hit a new exchange.
        let exchanges = std::mem::take(&mut self.exchanges);
        *self = Upnp { network, exchanges, ..Upnp::default() };
    }

    /// The ids of its exchanges follow this number.
    pub(crate) fn number_exchanges_from(&mut self, number: u64) {
        self.exchanges.number_from(number);
    }

    /// Whether pinholes are opened, rather than ports mapped.
    fn is_ipv6(&self) -> bool {
        self.network.is_some_and(|network| network.is_ipv6())
    }

    /// Whether a rung is on the gateway; a service that is no longer known counts as such.
    pub fn is_rung_on_gateway(&self, rung: Rung) -> bool {
        self.services.get(rung).is_none_or(|service| service.on_gateway)
    }

    /// Whether the gateway's own device has answered: it has services, or its description is slow.
    pub fn is_there(&self, now: Time) -> bool {
        let is_slow = self.search.since.is_some_and(|since| now >= since + GRACE);
        self.services.count(true) > 0 || is_slow && self.devices.list.iter().any(Device::is_pending_gateway)
    }

    /// Whether the mappings of a rung use the external address of PCP or NAT-PMP, because the service reports none.
    pub fn borrows_address(&self, rung: Rung) -> bool {
        let service = rung.service().and_then(|_| self.services.get(rung));
        service.is_some_and(|service| service.on_gateway && !service.address.last.is_some_and(is_usable))
    }

    /// Whether two services are on one host, which may keep one table for both.
    pub fn share_host(&self, one: ServiceId, other: ServiceId) -> bool {
        self.host(one).is_some() && self.host(one) == self.host(other)
    }

    /// The host of a service.
    pub fn host(&self, id: ServiceId) -> Option<IpAddr> {
        self.services.get(Rung::Upnp(id)).map(|service| service.host())
    }

    /// The host of an exchange.
    pub fn host_of(&self, exchange: ExchangeId) -> Option<IpAddr> {
        self.exchanges.host_of(exchange).map(|address| address.to_canonical())
    }

    /// The devices that have answered, in the order of their answers.
    pub fn devices(&self) -> &[Device] {
        &self.devices.list
    }

    /// The services that can be asked, in the order in which they were found.
    pub fn services(&self) -> &[Service] {
        &self.services.list
    }

    /// Searches cannot be sent, for this reason.
    pub fn handle_trouble(&mut self, _cx: &mut Cx, reason: Reason) {
        self.trouble = Some(reason);
    }

    /// A connection is established; `local`: our address on it.
    pub fn handle_tcp_connected(&mut self, cx: &mut Cx, exchange: ExchangeId, local: SocketAddr) {
        let is_ours = cx.config.source.is_none_or(|source| local.ip() == source.address);
        if !is_ours {
            // The gateway would open the pinhole of another address.
            if let Some(done) = self.exchanges.fail(cx, exchange, ExchangeError::OtherSource) {
                self.handle_done(cx, done);
            }
            return self.settle(cx);
        }
        let Some((job, url)) = self.exchanges.connected(exchange, local) else { return };
        match self.request(cx, job, &url, local.ip().to_canonical()) {
            Some(bytes) => cx.output(Output::Write { exchange, bytes }),
            None => self.exchanges.discard(cx, true, |other| other == job),
        }
        self.settle(cx);
    }

    /// Data was received on a connection.
    pub fn handle_tcp_data(&mut self, cx: &mut Cx, exchange: ExchangeId, bytes: &[u8]) {
        if let Some(done) = self.exchanges.data(cx, exchange, bytes) {
            self.handle_done(cx, done);
            self.settle(cx);
        }
    }

    /// The peer closed a connection, or it was never established.
    pub fn handle_tcp_end(&mut self, cx: &mut Cx, exchange: ExchangeId, end: TcpEnd) {
        if let Some(done) = self.exchanges.ended(cx, exchange, end) {
            self.handle_done(cx, done);
        }
        self.settle(cx);
    }

    /// To be called after every input: opens waiting exchanges. The deadline of a mapping starts with its first
    /// connection, even if that fails.
    fn settle(&mut self, cx: &mut Cx) {
        for job in self.exchanges.open_queued(cx) {
            if let Job::Walk(id) | Job::Pinhole(id) = job {
                // A device other than the gateway's that has granted nothing delays FAILURE no longer than silence
                // does.
                let service = self.services.get(id.rung);
                let is_known = service.is_some_and(|s| s.on_gateway || s.trial == Trial::Works);
                let most = if is_known { Duration::MAX } else { SILENCE };
                let within = cx.config.mapping_timeout.min(most);
                self.notices.push_back(Notice::Sent { key: id.key, within });
            }
        }
    }

    /// The request of a job, on a connection from `local`. Records in the ledger what it may do to the gateway's table.
    fn request(&mut self, cx: &mut Cx, job: Job, url: &Url, local: IpAddr) -> Option<Vec<u8>> {
        let action = match job {
            Job::Describe(..) => return Some(http::emit_get(url)),
            Job::Status(_) => Action::new("GetStatusInfo", None),
            Job::Address(_) => Action::new("GetExternalIPAddress", None),
            Job::Walk(id) => self.walk_action(cx, id, local)?,
            Job::LateAny(_) => return None,
            Job::Pinhole(id) => self.pinhole_action(cx, id)?,
            Job::Firewall(_) => Action::new("GetFirewallStatus", None),
            Job::DeleteEntry(slot) => self.deletion_action(cx, slot)?,
            Job::CheckEntry(slot) => Action::read_entry(slot.key.transport, slot.port),
            Job::Call(_, number) => self.call_of(number)?.action.clone(),
        };
        let of = if let Job::Call(_, number) = job { self.call_of(number)?.of.as_ref() } else { None };
        let service_type = match of {
            Some(common) => &common.service_type,
            None => &self.services.get(job.rung()?)?.named.service_type,
        };
        log!(Verbose, "UPnP-IGD: calls {} at {}", action.name, url.address);
        let soap_action = soap::soap_action(service_type, action.name);
        Some(http::emit_post(url, &soap_action, &action.body(service_type)))
    }

    /// Queues a request to a service.
    fn enqueue(&mut self, job: Job, timeout: Duration) {
        let Some(service) = job.rung().and_then(|id| self.services.get(id)) else { return };
        self.exchanges.enqueue(job, service.named.url.clone(), timeout);
    }

    /// Handles a finished exchange by its job.
    fn handle_done(&mut self, cx: &mut Cx, done: Finished) {
        if let Some(number) = done.request.job.device() {
            return self.handle_description(cx, number, done);
        }
        let Finished { request: Request { job, url, timeout, .. }, local, result } = done;
        let outcome = Outcome::read(&result);
        self.note_health(cx, job, &url, &outcome);
        let is_wanted = match job {
            Job::Walk(id) => self.tasks.get(&id).is_some_and(|task| task.state == TaskState::Asks),
            Job::Pinhole(id) => {
                let opening = self.pinholes.openings.get(&id);
                opening.is_some_and(|opening| opening.state == OpeningState::Asks)
            }
            Job::LateAny(_) => false,
            // Its URL is not the service's.
            Job::Call(_, number) => self.call_of(number).is_some_and(|call| call.of.is_none()),
            _ => true,
        };
        let is_failure = matches!(outcome, Outcome::Status(_) | Outcome::Failed(_));
        let service = job.rung().and_then(|rung| self.services.get(rung));
        if is_failure && is_wanted && service.is_some_and(|service| service.named.url != url) {
            // The service has another URL by now.
            return self.enqueue(job, timeout);
        }
        // Without a connection our address on it is not needed.
        let client = local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        match job {
            Job::Describe(..) => {}
            Job::Call(_, number) => {
                self.calls.retain(|call| call.number != number);
                self.replies.push((number, result));
            }
            Job::Status(id) => self.handle_status(cx, id, &outcome),
            Job::Address(id) => self.handle_address(cx, id, &outcome),
            Job::Walk(id) => self.handle_walk(cx, id, &outcome, client),
            Job::LateAny(id) => self.handle_late_any(cx, id, &outcome),
            Job::Pinhole(id) => self.handle_pinhole(cx, id, &outcome),
            Job::Firewall(id) => self.handle_firewall(cx, id, &outcome),
            Job::DeleteEntry(slot) => self.handle_deletion(cx, slot, &outcome, client),
            Job::CheckEntry(slot) => self.handle_entry(cx, slot, &outcome, client),
        }
    }

    /// Ends one exchange that has timed out. A late reply to AddAnyPortMapping is still read.
    fn pop_timed_out(&mut self, cx: &mut Cx) -> Option<Finished> {
        let tasks = &self.tasks;
        let goes_on = |job: Job| match job {
            Job::Walk(id) => {
                tasks.get(&id).is_some_and(|task| task.walk.adds() == Some(0)).then_some(Job::LateAny(id))
            }
            _ => None,
        };
        self.exchanges.pop_timed_out(cx, goes_on, cx.config.mapping_timeout)
    }
}

impl Driver for Upnp {
    fn map(&mut self, cx: &mut Cx, key: Key, rung: Rung, suggestion: Suggestion, request_kind: RequestKind) {
        let id = TaskId { rung, key };
        match self.is_ipv6() {
            true => self.open_pinhole(cx, id, suggestion.lifetime_secs, request_kind),
            false => self.make(cx, id, suggestion, request_kind),
        }
        if request_kind == RequestKind::Retry {
            // After the request, which takes its turn in the pace first.
            self.search_again(cx);
        }
        self.settle(cx);
    }

    fn leave(&mut self, cx: &mut Cx, key: Key, rung: Rung) {
        let id = TaskId { rung, key };
        match self.is_ipv6() {
            true => self.leave_pinhole(cx, id),
            false => self.leave_task(cx, id),
        }
        self.settle(cx);
    }

    fn delete(&mut self, cx: &mut Cx, slot: Slot, awaited: bool) {
        self.delete_entry(cx, slot, awaited);
        self.settle(cx);
    }

    fn probe(&mut self, cx: &mut Cx) {
        self.find(cx);
        self.settle(cx);
    }

    fn rest(&mut self, cx: &mut Cx) {
        let is_needed = !self.deletions.is_empty() || self.is_firewall_control_sought();
        if is_needed || std::mem::replace(&mut self.resting, true) {
            return;
        }
        // Devices that have answered are remembered.
        self.search.rounds = None;
        self.exchanges.discard(cx, false, |job| job.device().is_some() || matches!(job, Job::Status(_)));
        if self.services.list.is_empty() {
            // The protocol has to be found when it is needed.
            cx.protocols.doubt(Protocol::UpnpIgd);
        }
    }

    fn recheck(&mut self, cx: &mut Cx, in_use: bool) {
        self.exchanges.widen();
        match self.is_ipv6() {
            true if in_use => self.recheck_pinholes(cx),
            false if in_use => self.recheck_entries(cx),
            _ => {}
        }
        self.settle(cx);
    }

    fn handle_timeout(&mut self, cx: &mut Cx) {
        while let Some(done) = self.pop_timed_out(cx) {
            self.handle_done(cx, done);
        }
        while let Some(timer) = self.timers.pop_due(cx.now) {
            match timer {
                Timer::Search => self.search_on(cx),
                Timer::Deletion(slot) => self.ask_for_deletion(cx, slot),
                Timer::Walk(id) if self.is_ipv6() => self.take_pinhole_turn(cx, id),
                Timer::Walk(id) => self.take_walk_turn(cx, id),
                Timer::EntryCheck(id) => self.check_entry(cx, id),
                Timer::EntryCheckTurn if self.is_ipv6() => self.take_look_turn(cx),
                Timer::EntryCheckTurn => self.take_check_turn(cx),
                Timer::Settle => self.notices.push_back(Notice::Changed),
                Timer::Doubt => self.search_doubted(cx),
                Timer::Ipv4Search => self.begin_ipv4_search(cx),
            }
        }
        self.settle(cx);
    }

    fn poll_timeout(&self) -> Option<Time> {
        [self.timers.next(), self.exchanges.next_timeout()].into_iter().flatten().min()
    }

    fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }
}
