//! HTTP exchanges: one request and its reply on a TCP connection of its own. A few are open at once with each host; the
//! rest waits in queues.

use super::TaskId;
use super::action::ExchangeError;
use super::devices::NamedBy;
use crate::driver::{Rung, Slot};
use crate::io::{Cx, ExchangeId, Output, TcpEnd};
use crate::ordered::Map;
use crate::schedule::PACKETS_AN_EXCHANGE;
use crate::time::Time;
use plum_wire::http::{Reply, ReplyReader, Rest, Url};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The longest device description that is read, with its header.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// The longest reply to an action that is read, with its header.
const MAX_REPLY_BYTES: usize = 1 << 16;
/// Exchanges open at once with a host: miniupnpd listens with a backlog of 5 and drops further connections.
pub(crate) const WIDTH: usize = 4;
/// Exchanges open at once in all: tarpits of the local network must not use up the machine's connections.
pub(crate) const MAX_OPEN: usize = 16;
/// Exchanges open at once for descriptions that other hosts than the gateway have announced: their buffers are the
/// largest.
const MAX_OPEN_STRANGERS: usize = 2;
/// How long to wait for the rest of a reply whose document is complete, but shorter than its Content-Length.
const REST_TIMEOUT: Duration = Duration::from_millis(250);
/// How long to wait for the body of a reply to an action, if its header does not announce one.
const BODY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long fetching a stranger's description may take while other strangers wait.
const STRANGER_PATIENCE: Duration = Duration::from_millis(400);
/// When to retry after the system had no descriptor or memory for a connection.
const STARVED_WAIT: Duration = Duration::from_secs(1);
/// How long an exchange may take, whatever timeouts the program sets. UDA 2.0 §3.2.2: a service responds within 30 s.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(30);

/// The purpose of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Fetches the description of the device with this number.
    Describe(u32, NamedBy),
    /// GetStatusInfo, if there are several services.
    Status(Rung),
    /// GetExternalIPAddress.
    Address(Rung),
    /// The next request of a walk.
    Walk(TaskId),
    /// AddAnyPortMapping whose reply comes after its walk went on.
    LateAny(TaskId),
    /// The next request to open a pinhole.
    Pinhole(TaskId),
    /// GetFirewallStatus.
    Firewall(Rung),
    /// The next request of a deletion.
    DeleteEntry(Slot),
    /// GetSpecificPortMappingEntry, to check an entry.
    CheckEntry(Slot),
    /// The call of this number, by [`super::Upnp::call`].
    Call(Rung, u32),
}

impl Job {
    /// The order in the queue, lower first: requests that others depend on, then deletions (an abandoned entry goes
    /// before a new one comes), entry checks last.
    fn rank(self) -> u8 {
        match self {
            Job::Describe(_, NamedBy::Gateway | NamedBy::ClaimsGateway) | Job::Status(_) => 0,
            Job::Describe(..) | Job::DeleteEntry(_) | Job::Address(_) => 1,
            Job::Walk(_) | Job::LateAny(_) | Job::Call(..) | Job::Pinhole(_) | Job::Firewall(_) => 2,
            Job::CheckEntry(_) => 3,
        }
    }

    fn is_for_stranger(self) -> bool {
        matches!(self, Job::Describe(_, NamedBy::ClaimsGateway | NamedBy::Stranger))
    }

    /// The device whose description it fetches.
    pub(super) fn device(self) -> Option<u32> {
        match self {
            Job::Describe(number, _) => Some(number),
            _ => None,
        }
    }

    /// The service that it is sent to.
    pub(super) fn rung(self) -> Option<Rung> {
        match self {
            Job::Describe(..) => None,
            Job::Status(id) | Job::Address(id) | Job::Call(id, _) | Job::Firewall(id) => Some(id),
            Job::Walk(id) | Job::LateAny(id) | Job::Pinhole(id) => Some(id.rung),
            Job::DeleteEntry(slot) | Job::CheckEntry(slot) => Some(slot.rung),
        }
    }
}

/// A job with its URL, waiting or in an exchange.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) job: Job,
    pub(super) url: Url,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// The order of arrival.
    turn: u64,
    /// A connection failed although it was the only one: the next failure is final.
    failed_alone: bool,
}

impl Request {
    /// The queue that it waits in: its host's, or `None` for strangers.
    fn queue(&self) -> Option<IpAddr> {
        Some(self.host()).filter(|_| !self.job.is_for_stranger())
    }

    fn host(&self) -> IpAddr {
        self.url.address.ip()
    }
}

/// A finished exchange.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) request: Request,
    /// Our address on the connection, if it was established and the request sent.
    pub(super) local: Option<IpAddr>,
    pub(super) result: Result<Reply, ExchangeError>,
}

#[derive(Debug)]
struct Exchange {
    request: Request,
    opened_at: Time,
    ends_at: Time,
    /// When to take the received part for the whole reply.
    rest_at: Option<Time>,
    reader: ReplyReader,
    /// Our address on the connection, once it is established.
    local: Option<IpAddr>,
    /// The first byte of the reply was received.
    is_begun: bool,
}

impl Exchange {
    fn host(&self) -> IpAddr {
        self.request.host()
    }

    /// When it times out; `is_crowded`: other strangers wait.
    fn gives_up_at(&self, is_crowded: bool) -> Time {
        let is_too_long = is_crowded && self.request.job.is_for_stranger();
        let yields_at = is_too_long.then_some(self.opened_at + STRANGER_PATIENCE);
        self.rest_at.into_iter().chain(yields_at).fold(self.ends_at, Time::min)
    }

    /// Ends the exchange with the received part as the reply.
    fn finish(self) -> Finished {
        let result = self.reader.finish().map_err(|_| ExchangeError::Cut);
        Finished { request: self.request, local: self.local, result }
    }

    fn into_done(self, result: Result<Reply, ExchangeError>) -> Finished {
        Finished { request: self.request, local: self.local, result }
    }
}

/// The waiting jobs of one host, or of strangers, and how many may be open.
#[derive(Debug)]
struct Queue {
    host: Option<IpAddr>,
    width: usize,
    waiting: Map<(u8, u64), Request>,
}

/// The open exchanges and the waiting jobs.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    queues: Vec<Queue>,
    open: Map<ExchangeId, Exchange>,
    /// Never reset, so that no id is reused.
    last_id: u64,
    last_turn: u64,
    /// No connection is opened before this, after a shortage of descriptors or memory.
    resumes_at: Option<Time>,
}

impl Exchanges {
    /// The ids follow this number.
    pub(super) fn number_from(&mut self, number: u64) {
        self.last_id = number;
    }

    /// Queues a job, behind all others of its rank.
    pub(super) fn enqueue(&mut self, job: Job, url: Url, timeout: Duration) {
        self.last_turn += 1;
        self.put(Request { job, url, timeout, turn: self.last_turn, failed_alone: false });
    }

    /// Inserts a request at its place in the queue.
    fn put(&mut self, request: Request) {
        let (host, place) = (request.queue(), (request.job.rank(), request.turn));
        let known = self.queues.iter().position(|queue| queue.host == host).unwrap_or_else(|| {
            let width = host.map_or(MAX_OPEN_STRANGERS, |_| WIDTH);
            self.queues.push(Queue { host, width, waiting: Map::new() });
            self.queues.len() - 1
        });
        self.queues[known].waiting.insert(place, request);
    }

    /// Opens exchanges for waiting jobs, as far as there is room, and returns these jobs.
    pub(super) fn open_queued(&mut self, cx: &mut Cx) -> Vec<Job> {
        let mut opened = Vec::new();
        if self.resumes_at.is_some_and(|at| cx.now < at) {
            return opened;
        }
        self.resumes_at = None;
        for index in 0..self.queues.len() {
            while let Some(place) = self.next_of(&self.queues[index])
                && let Some(request) = self.queues[index].waiting.remove(&place)
            {
                opened.push(request.job);
                self.connect(cx, request);
            }
        }
        let open: Vec<_> = self.open.values().map(|exchange| exchange.request.queue()).collect();
        self.queues
            .retain(|queue| open.contains(&queue.host) || !queue.waiting.is_empty() || queue.width < WIDTH);
        opened
    }

    /// The next request of a queue for which there is room. Strangers leave room for the others, however slow they are.
    fn next_of(&self, queue: &Queue) -> Option<(u8, u64)> {
        let is_of_queue = |exchange: &&Exchange| exchange.request.queue() == queue.host;
        if self.open.len() >= MAX_OPEN || self.open.values().filter(is_of_queue).count() >= queue.width {
            return None;
        }
        let has_room = |request: &Request| self.with_host(request.host()).count() < WIDTH;
        queue.waiting.iter().find(|(_, request)| has_room(request)).map(|(place, _)| place)
    }

    /// Whether strangers wait.
    fn is_crowded(&self) -> bool {
        self.queues.iter().any(|queue| queue.host.is_none() && !queue.waiting.is_empty())
    }

    fn connect(&mut self, cx: &mut Cx, request: Request) {
        if !matches!(request.job, Job::Walk(..) | Job::CheckEntry(_)) {
            cx.pace.spend(cx.now, PACKETS_AN_EXCHANGE);
        }
        self.last_id += 1;
        let id = ExchangeId(self.last_id);
        cx.output(Output::Connect { exchange: id, to: request.url.address, source: cx.config.source });
        let ends_at = cx.now + request.timeout.min(LONGEST_EXCHANGE);
        let is_description = request.job.device().is_some();
        let max_bytes = if is_description { MAX_DESCRIPTION_BYTES } else { MAX_REPLY_BYTES };
        let reader = ReplyReader::new(max_bytes);
        self.open.insert(
            id,
            Exchange {
                request,
                opened_at: cx.now,
                ends_at,
                rest_at: None,
                reader,
                local: None,
                is_begun: false,
            },
        );
    }

    fn with_host(&self, address: IpAddr) -> impl Iterator<Item = &Exchange> {
        self.open.values().filter(move |exchange| exchange.host() == address)
    }

    /// When to call `pop_timed_out`.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        let is_crowded = self.is_crowded();
        let gives_up_at = |exchange: &Exchange| exchange.gives_up_at(is_crowded);
        let is_waited_for = self.queues.iter().any(|queue| !queue.waiting.is_empty());
        self.open.values().map(gives_up_at).chain(self.resumes_at.filter(|_| is_waited_for)).min()
    }

    /// Ends one exchange that has timed out; `goes_on`: the job as which it is read on for another `span`.
    pub(super) fn pop_timed_out(
        &mut self,
        cx: &mut Cx,
        goes_on: impl Fn(Job) -> Option<Job>,
        span: Duration,
    ) -> Option<Finished> {
        let is_crowded = self.is_crowded();
        let (id, _) = self.open.iter().find(|(_, exchange)| exchange.gives_up_at(is_crowded) <= cx.now)?;
        let exchange = self.open.get_mut(&id)?;
        let job = exchange.request.job;
        if exchange.rest_at.is_some() {
            cx.output(Output::HangUp { exchange: id });
            return self.open.remove(&id).map(Exchange::finish);
        }
        if exchange.local.is_some()
            && let Some(other) = goes_on(job)
        {
            let request = Request { job: other, ..exchange.request.clone() };
            let request = std::mem::replace(&mut exchange.request, request);
            exchange.ends_at = cx.now + span;
            return Some(Finished { request, local: exchange.local, result: Err(ExchangeError::TimedOut) });
        }
        cx.output(Output::HangUp { exchange: id });
        self.open.remove(&id).map(|exchange| exchange.into_done(Err(ExchangeError::TimedOut)))
    }

    /// Whether the request of a job was sent and its reply is awaited.
    pub(super) fn is_written(&self, job: Job) -> bool {
        self.open.values().any(|exchange| exchange.local.is_some() && exchange.request.job == job)
    }

    /// The number of open and waiting jobs for which `wanted` holds.
    pub(super) fn count(&self, wanted: impl Fn(Job) -> bool) -> usize {
        let open = self.open.values().map(|exchange| &exchange.request);
        let waiting = self.queues.iter().flat_map(|queue| queue.waiting.values());
        open.chain(waiting).filter(|request| wanted(request.job)).count()
    }

    /// Whether there is an open or waiting job for which `wanted` holds.
    pub(super) fn has(&self, wanted: impl Fn(Job) -> bool) -> bool {
        self.count(wanted) > 0
    }

    /// Drops the waiting jobs for which `unwanted` holds and, if `hangs_up`, the open ones.
    pub(super) fn discard(&mut self, cx: &mut Cx, hangs_up: bool, unwanted: impl Fn(Job) -> bool) {
        for queue in &mut self.queues {
            queue.waiting.retain(|_, request| !unwanted(request.job));
        }
        if hangs_up {
            for id in self.open.keys_where(|_, exchange| unwanted(exchange.request.job)) {
                self.open.remove(&id);
                cx.output(Output::HangUp { exchange: id });
            }
        }
    }

    /// Doubles the limit of hosts that have refused connections, up to the usual one.
    pub(super) fn widen(&mut self) {
        for queue in self.queues.iter_mut().filter(|queue| queue.host.is_some()) {
            queue.width = (queue.width * 2).min(WIDTH);
        }
    }

    /// The host of an exchange.
    pub(super) fn host_of(&self, id: ExchangeId) -> Option<IpAddr> {
        self.open.get(&id).map(|exchange| exchange.request.url.address.ip())
    }

    /// Handles an established connection; returns its job and URL, for the request.
    pub(super) fn connected(&mut self, id: ExchangeId, local: SocketAddr) -> Option<(Job, Url)> {
        let exchange = self.open.get_mut(&id).filter(|exchange| exchange.local.is_none())?;
        exchange.local = Some(local.ip().to_canonical());
        Some((exchange.request.job, exchange.request.url.clone()))
    }

    /// Ends an exchange whose connection is of no use.
    pub(super) fn fail(&mut self, cx: &mut Cx, id: ExchangeId, trouble: ExchangeError) -> Option<Finished> {
        let exchange = self.open.remove(&id)?;
        cx.output(Output::HangUp { exchange: id });
        Some(exchange.into_done(Err(trouble)))
    }

    /// Handles received data. The exchange ends when it completes a reply, or can never become one.
    pub(super) fn data(&mut self, cx: &mut Cx, id: ExchangeId, bytes: &[u8]) -> Option<Finished> {
        let exchange = self.open.get_mut(&id)?;
        exchange.is_begun |= !bytes.is_empty();
        let result = match exchange.reader.push(bytes) {
            Ok(None) => {
                exchange.rest_at = match exchange.reader.may_be_all() {
                    Some(Rest::Promised) => Some(cx.now + REST_TIMEOUT),
                    Some(Rest::Body) if exchange.request.job.device().is_none() => {
                        Some(cx.now + BODY_TIMEOUT)
                    }
                    _ => None,
                };
                return None;
            }
            Ok(Some(reply)) => Ok(reply),
            Err(_) => Err(ExchangeError::Cut),
        };
        cx.output(Output::HangUp { exchange: id });
        self.open.remove(&id).map(|exchange| exchange.into_done(result))
    }

    /// Handles the end of a connection. One that ended before the first byte of the reply is tried again: some gateways
    /// take one connection at a time and refuse or reset the others.
    pub(super) fn ended(&mut self, cx: &mut Cx, id: ExchangeId, end: TcpEnd) -> Option<Finished> {
        let exchange = self.open.remove(&id)?;
        if end == TcpEnd::Starved {
            // No request was sent.
            self.resumes_at = Some(cx.now + STARVED_WAIT);
            self.put(exchange.request);
            return None;
        }
        if !exchange.is_begun {
            return self.try_again(cx, exchange, end == TcpEnd::CrowdedOut);
        }
        // Some servers reset the connection after the last byte instead of closing it.
        Some(exchange.finish())
    }

    fn try_again(&mut self, cx: &mut Cx, exchange: Exchange, is_crowded_out: bool) -> Option<Finished> {
        // A URL that a stranger announced says nothing about the host's server.
        let is_alone = exchange.request.job.is_for_stranger()
            || !is_crowded_out && self.open.values().all(|other| other.host() != exchange.host());
        let host = Some(exchange.host());
        let queue = self.queues.iter_mut().find(|queue| queue.host == host && !is_alone);
        let mut request = exchange.request.clone();
        match queue {
            Some(queue) => queue.width = (queue.width / 2).max(1),
            None if !request.failed_alone => request.failed_alone = true,
            None => {
                let trouble = exchange.local.map_or(ExchangeError::Refused, |_| ExchangeError::Reset);
                return Some(exchange.into_done(Err(trouble)));
            }
        }
        match request.job {
            // Requests on the library's own initiative keep the pace, repetitions included.
            Job::CheckEntry(_) | Job::Address(_) => drop(cx.pace.take(cx.now, PACKETS_AN_EXCHANGE)),
            Job::Walk(_) => cx.pace.spend(cx.now, PACKETS_AN_EXCHANGE),
            _ => {}
        }
        self.put(request);
        None
    }
}
