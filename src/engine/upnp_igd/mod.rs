//! UPnP-IGD: search, description, actions.
//!
//! `search` finds devices, `device` reads their descriptions and chooses a service, `mapping` makes
//! entries through it by way of `port` and `action`, `removal` removes them, `watch` looks after what is
//! there; `exchange` carries all of this over HTTP, four exchanges at once.

#![forbid(unsafe_code)]

mod action;
mod device;
mod discovery;
mod exchange;
mod mapping;
mod port;
mod removal;
mod search;
mod watch;

#[cfg(test)]
mod tests;

use super::driver::{Key, Notice, Status};
use super::io::{Cx, ExchangeId, Output, TcpEnd};
use super::timers::Timers;
use crate::log::log;
use crate::ordered::{Map, Word};
use crate::time::Time;
use crate::wire::http::{self, Url};
use crate::wire::igd::WanService;
use crate::wire::soap;
pub use device::preference;

use action::{Action, Answer, code};
use device::{Discovery, Identity};
use exchange::{Done, Exchanges, Job, LONGEST_EXCHANGE, Trouble};
use mapping::Mapping;
use port::Quirks;
use search::{Search, SearchSocket};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use watch::{ExternalAddress, Watch};

/// The longest device description that is read, head and all.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// The longest reply to an action that is read, head and all.
const MAX_REPLY_BYTES: usize = 1 << 16;
/// HTTP statuses of a server that has no such control URL: Not Found, Method Not Allowed, Gone.
const NOT_FOUND: [u16; 3] = [404, 405, 410];
/// After a control URL did not answer, how long nothing is asked of it.
const HOLD_TIMEOUT: Duration = Duration::from_millis(250);
/// How long to wait before the control URL is asked again when the system had nothing to make a connection of.
const STARVED_HOLD: Duration = Duration::from_secs(1);

/// The network that the gateway is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Next hop toward the internet; `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// Our address on the way there.
    pub local: IpAddr,
    /// The gateway was named by PLUM_GATEWAY: nobody else is asked.
    pub named: bool,
}

/// What the driver waits for. Of those due at the same time the first here comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// When to give an exchange up.
    Exchange(ExchangeId),
    /// When to give an attempt to make a mapping up.
    Mapping(Key),
    /// When to say that a deletion is not answered.
    Notice(Key),
    /// When to send the next round of searches.
    Search,
    /// When to say that no gateway has answered.
    SearchEnd,
    /// When to take a service without waiting for more descriptions.
    Settle,
    /// When to ask the control URL again after it did not answer.
    Hold,
    /// When to look at the next mapping.
    Check,
    /// When to look at a lease.
    Lease,
    /// When to tell the core of a notification that came too soon after the last.
    Recheck,
}

impl Word for Timer {
    fn word(self) -> u64 {
        match self {
            Timer::Exchange(id) => (0, id.word()),
            Timer::Mapping(key) => (1, key.word()),
            Timer::Notice(key) => (2, key.word()),
            Timer::Search => (3, 0),
            Timer::SearchEnd => (4, 0),
            Timer::Settle => (5, 0),
            Timer::Hold => (6, 0),
            Timer::Check => (7, 0),
            Timer::Lease => (8, 0),
            Timer::Recheck => (9, 0),
        }
        .word()
    }
}

/// The service in use.
#[derive(Clone, Debug)]
struct Control {
    url: Url,
    service_type: String,
    kind: WanService,
    identity: Identity,
    quirks: Quirks,
}

/// The UPnP-IGD driver; see [`super::driver`] for what it shares with the others.
///
/// Its own order of calls: `start`(UpnpIgd::start), then [`handle_opened`](UpnpIgd::handle_opened) once
/// `Socket::Ssdp` is open, and `search`(UpnpIgd::search) before or after that.
#[derive(Debug)]
pub struct UpnpIgd {
    discover_timeout: Duration,
    mapping_timeout: Duration,
    network: Option<Network>,
    socket: SearchSocket,
    search: Search,
    /// When the search was asked for.
    searched_at: Time,
    /// Another protocol has won: nothing more is found out than what is known.
    resting: bool,
    discovery: Discovery,
    control: Option<Control>,
    /// The control URL that was lost last, until one has answered.
    suspect: Option<Url>,
    /// The control URL that was lost last for not knowing its service, until one has made a mapping.
    misfit: Option<Url>,
    /// Since when the control URL does not answer.
    trouble_since: Option<Time>,
    /// When the control URL answered last.
    answered_at: Time,
    external: ExternalAddress,
    mappings: Map<Key, Mapping>,
    /// An external port of ours has become free, that another mapping of ours may wait for.
    ports_freed: bool,
    watch: Watch,
    exchanges: Exchanges,
    timers: Timers<Timer>,
    notices: VecDeque<Notice>,
    /// The status that the core knows.
    told_status: Status,
}

impl UpnpIgd {
    /// A driver that has nothing to do yet. `discover_timeout` bounds the finding of a gateway, `mapping_timeout`
    /// each mapping and each exchange of its own.
    pub fn new(discover_timeout: Duration, mapping_timeout: Duration) -> UpnpIgd {
        UpnpIgd {
            discover_timeout,
            mapping_timeout,
            network: None,
            socket: SearchSocket::Unopened,
            search: Search::Idle,
            searched_at: Time::ZERO,
            resting: false,
            discovery: Discovery::default(),
            control: None,
            suspect: None,
            misfit: None,
            trouble_since: None,
            answered_at: Time::ZERO,
            external: ExternalAddress::default(),
            mappings: Map::new(),
            ports_freed: false,
            watch: Watch::default(),
            exchanges: Exchanges::default(),
            timers: Timers::default(),
            notices: VecDeque::new(),
            told_status: Status::Unknown,
        }
    }

    /// A new gateway or network, or none: forgets everything, mappings and open requests too (no notice comes for
    /// those).
    pub fn start(&mut self, cx: &mut Cx<'_>, network: impl Into<Option<Network>>) {
        self.exchanges.hang_up(cx, &|_| true);
        self.exchanges.drop_queued(&|_| true);
        let network = network.into().map(|network| Network {
            gateway: network.gateway.map(|address| address.to_canonical()),
            local: network.local.to_canonical(),
            named: network.named,
        });
        let exchanges = std::mem::take(&mut self.exchanges);
        *self = UpnpIgd {
            network,
            // Its ids go on: a late input about an exchange of before must not hit a new one.
            exchanges,
            told_status: self.told_status,
            ..UpnpIgd::new(self.discover_timeout, self.mapping_timeout)
        };
        self.settle(cx);
    }

    /// Whether the entry of a key is being removed still.
    pub fn is_deletion_open(&self, key: Key) -> bool {
        self.mappings.get(&key).is_some_and(|mapping| matches!(mapping.goal, mapping::Goal::Remove { .. }))
    }

    /// How UPnP-IGD stands at this gateway.
    pub fn status(&self) -> Status {
        if self.control.is_some() {
            return Status::Up;
        }
        if self.discovery.is_at_work() {
            return Status::Working;
        }
        match self.search {
            Search::Over => Status::Out,
            Search::Idle | Search::Active { .. } => Status::Unknown,
        }
    }

    /// Whether the service in use is on another device than the gateway.
    pub fn is_elsewhere(&self) -> bool {
        let gateway = self.network.and_then(|network| network.gateway);
        self.control.as_ref().is_some_and(|control| Some(control.url.address.ip().to_canonical()) != gateway)
    }

    /// What the core is to know, in order, until `None`.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// When to call [`handle_timeout`](UpnpIgd::handle_timeout), if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The time that [`poll_timeout`](UpnpIgd::poll_timeout) named has come (earlier calls do no harm).
    pub fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        while let Some(timer) = self.timers.pop_due(cx.now) {
            match timer {
                Timer::Exchange(id) => {
                    if let Some(done) = self.exchanges.timed_out(cx, id) {
                        self.handle_done(cx, done);
                    }
                }
                Timer::Mapping(key) => self.handle_mapping_timeout(cx, key),
                Timer::Notice(key) => self.handle_notice_timeout(cx, key),
                Timer::Search => self.send_searches(cx),
                Timer::SearchEnd => self.search = Search::Over,
                Timer::Settle => self.choose(cx),
                // Its only purpose is that `settle` looks again.
                Timer::Hold => {}
                Timer::Check => self.check_next(cx),
                Timer::Lease => self.look_at_lease(cx),
                Timer::Recheck => self.notify_recheck(cx),
            }
        }
        self.settle(cx);
    }

    /// A connection stands; `local` is our address on it.
    pub fn handle_tcp_connected(&mut self, cx: &mut Cx<'_>, exchange: ExchangeId, local: SocketAddr) {
        let Some((job, url)) = self.exchanges.connected(exchange, local) else { return };
        let url = url.clone();
        match self.request(job, &url, local.ip().to_canonical()) {
            Some(bytes) => cx.output(Output::Write { exchange, bytes }),
            None => {
                self.hang_up(cx, &|other| other == job);
                self.settle(cx);
            }
        }
    }

    /// Bytes came on a connection.
    pub fn handle_tcp_data(&mut self, cx: &mut Cx<'_>, exchange: ExchangeId, bytes: &[u8]) {
        if let Some(done) = self.exchanges.data(cx, exchange, bytes) {
            self.timers.cancel(Timer::Exchange(exchange));
            self.handle_done(cx, done);
            self.settle(cx);
        }
    }

    /// A connection ended from the other side, or never came to be.
    pub fn handle_tcp_end(&mut self, cx: &mut Cx<'_>, exchange: ExchangeId, end: TcpEnd) {
        if let Some(done) = self.exchanges.ended(exchange, end) {
            self.timers.cancel(Timer::Exchange(exchange));
            self.handle_done(cx, done);
            self.settle(cx);
        }
    }

    /// After every input: opens what there is room for, and tells the core where we stand.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        while std::mem::take(&mut self.ports_freed) {
            self.begin_waiting(cx);
        }
        while let Some(job) = self.exchanges.next(self.timers.get(Timer::Hold).is_some()) {
            let Some(url) = self.target(job) else { continue };
            let (timeout_at, max_bytes) = match job {
                Job::Describe { .. } => (self.discovery_ends_at(cx.now), MAX_DESCRIPTION_BYTES),
                Job::ProbeStatus(_) | Job::ProbeAddress(_) => {
                    (self.discovery_ends_at(cx.now).min(cx.now + self.mapping_timeout), MAX_REPLY_BYTES)
                }
                _ => (cx.now + self.mapping_timeout, MAX_REPLY_BYTES),
            };
            let timeout_at = timeout_at.min(cx.now + LONGEST_EXCHANGE);
            let id = self.exchanges.open(cx, job, url, max_bytes);
            self.timers.set(Timer::Exchange(id), timeout_at);
            self.handle_exchange_opened(cx, job);
        }
        let status = self.status();
        if status != self.told_status {
            log!(Debug, "UPnP-IGD: {status:?}");
            self.told_status = status;
            self.notices.push_back(Notice::StatusChanged);
            if status == Status::Out {
                self.give_up_waiting(cx);
            }
        }
    }

    /// Where a job goes; `None` when there is no such thing any more.
    fn target(&self, job: Job) -> Option<Url> {
        match job {
            Job::Describe { device, .. } => self.discovery.description_url(device).cloned(),
            Job::ProbeStatus(candidate) | Job::ProbeAddress(candidate) => {
                self.discovery.candidate(candidate).map(|candidate| candidate.url.clone())
            }
            Job::Address | Job::Remove(_) | Job::Make(_) | Job::Check(_) => {
                self.control.as_ref().map(|control| control.url.clone())
            }
        }
    }

    /// The request of a job, on a connection whose address on our side is `local`.
    fn request(&self, job: Job, url: &Url, local: IpAddr) -> Option<Vec<u8>> {
        let (action, service_type) = match job {
            Job::Describe { .. } => return Some(http::emit_get(url)),
            Job::ProbeStatus(index) => (Action::GetStatusInfo, self.candidate_type(index)?),
            Job::ProbeAddress(index) => (Action::GetExternalIpAddress, self.candidate_type(index)?),
            Job::Address => (Action::GetExternalIpAddress, self.service_type()?),
            Job::Remove(key) => (self.mappings.get(&key)?.removal_action(key)?, self.service_type()?),
            Job::Make(key) => (self.mappings.get(&key)?.attempt_action(local)?, self.service_type()?),
            Job::Check(key) => (self.mappings.get(&key)?.look_action(key)?, self.service_type()?),
        };
        log!(Verbose, "UPnP-IGD: {action:?}");
        let soap_action = soap::soap_action(service_type, action.name());
        Some(http::emit_post(url, &soap_action, &action.body(service_type)))
    }

    fn candidate_type(&self, index: usize) -> Option<&str> {
        self.discovery.candidate(index).map(|candidate| candidate.service_type.as_str())
    }

    fn service_type(&self) -> Option<&str> {
        self.control.as_ref().map(|control| control.service_type.as_str())
    }

    /// An exchange is over: hands it to whom it was for.
    fn handle_done(&mut self, cx: &mut Cx<'_>, done: Done) {
        let local = done.local;
        match done.job {
            Job::Describe { device, stranger } => {
                self.handle_description(cx, device, stranger, &done);
                return;
            }
            Job::ProbeStatus(index) => {
                self.discovery.probed_status(index, read(done.result));
                self.choose(cx);
                return;
            }
            Job::ProbeAddress(index) => {
                self.discovery.probed_address(index, read(done.result));
                self.choose(cx);
                return;
            }
            Job::Address | Job::Remove(_) | Job::Make(_) | Job::Check(_) => {}
        }
        let job = done.job;
        let opened_at = done.opened_at;
        let has_no_service = done.result.as_ref().is_ok_and(|reply| NOT_FOUND.contains(&reply.status));
        let answer = read(done.result);
        if self.is_misfit(job, &answer, has_no_service) {
            self.misfit = self.control.as_ref().map(|control| control.url.clone());
            self.lose_control(cx);
            return;
        }
        if self.is_required(job) && job != Job::Address && matches!(answer, Ok(Answer::Done(_))) {
            self.misfit = None;
        }
        if answer.is_ok() {
            self.trouble_since = None;
            self.suspect = None;
            self.answered_at = cx.now;
        }
        match job {
            Job::Address => self.handle_address(cx, &answer),
            Job::Remove(key) => self.handle_removal(cx, key, &answer, local),
            Job::Make(key) => self.handle_attempt(cx, key, &answer, local),
            Job::Check(key) => self.handle_check(cx, key, &answer, local),
            Job::Describe { .. } | Job::ProbeStatus(_) | Job::ProbeAddress(_) => {}
        }
        // Where others are answered meanwhile it is not the control URL's trouble.
        let others_are_answered = self.answered_at > opened_at;
        match answer {
            Err(Trouble::Refused | Trouble::Starved)
                if (others_are_answered || self.exchanges.has_established_control())
                    && self.exchanges.narrow() => {}
            Err(Trouble::TimedOut) if others_are_answered => {}
            // It says nothing of the control URL.
            Err(Trouble::Starved) => self.timers.set(Timer::Hold, cx.now + STARVED_HOLD),
            Err(Trouble::Refused | Trouble::TimedOut) => self.handle_trouble(cx, opened_at),
            Ok(_) | Err(Trouble::Broken) => {}
        }
    }

    /// Whether an answer shows that the service is not at the control URL any more: there is another gateway, or another
    /// description. Found again at the same place, it is believed.
    fn is_misfit(&self, job: Job, answer: &Result<Answer, Trouble>, has_no_service: bool) -> bool {
        let is_unknown = self.is_required(job) && matches!(answer, Ok(Answer::Error(code::INVALID_ACTION)));
        let url = self.control.as_ref().map(|control| &control.url);
        (is_unknown || has_no_service) && url.is_some() && url != self.misfit.as_ref()
    }

    /// WANIPConnection:1 §2.4 requires GetExternalIPAddress and AddPortMapping: a service that does not know them is none.
    fn is_required(&self, job: Job) -> bool {
        match job {
            Job::Address => true,
            Job::Make(key) => self.mappings.get(&key).is_some_and(Mapping::adds_by_number),
            _ => false,
        }
    }

    /// The control URL did not answer. What was under way at the first time counts once; the second time it is
    /// lost.
    fn handle_trouble(&mut self, cx: &mut Cx<'_>, opened_at: Time) {
        match self.trouble_since {
            None => {
                self.trouble_since = Some(cx.now);
                self.timers.set(Timer::Hold, cx.now + HOLD_TIMEOUT);
            }
            Some(since) if opened_at >= since => self.lose_control(cx),
            Some(_) => {}
        }
    }

    /// The control URL is lost, and with it what was asked of it.
    fn lose_control(&mut self, cx: &mut Cx<'_>) {
        let Some(control) = self.control.take() else { return };
        log!(Warn, "UPnP-IGD: {} does not answer any more", control.url.address);
        self.note_unanswered();
        self.hang_up(cx, &Job::is_control);
        self.exchanges.drop_queued(&Job::is_control);
        self.suspect = Some(control.url);
        self.trouble_since = None;
        self.timers.cancel(Timer::Hold);
        self.external = ExternalAddress::default();
        self.stop_checks();
        self.forget_devices(cx);
        self.search = Search::Idle;
        self.suspend_mappings(cx);
        self.notices.push_back(Notice::Lost);
    }

    fn hang_up(&mut self, cx: &mut Cx<'_>, unwanted: &dyn Fn(Job) -> bool) {
        for id in self.exchanges.hang_up(cx, unwanted) {
            self.timers.cancel(Timer::Exchange(id));
        }
    }
}

/// What a reply to an action says.
fn read(result: Result<http::Reply, Trouble>) -> Result<Answer, Trouble> {
    result.map(|reply| Answer::read(&reply))
}
