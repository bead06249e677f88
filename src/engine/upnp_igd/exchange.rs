//! HTTP exchanges: one request and its reply on a TCP connection of its own, few at once, the rest in a queue.

use crate::engine::driver::Key;
use crate::engine::io::{Cx, ExchangeId, Output, TcpEnd};
use crate::ordered::Map;
use crate::time::Time;
use crate::wire::http::{Reply, ReplyReader, Url};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How many exchanges are open at once: miniupnpd listens with a backlog of 5 and loses the rest.
pub(super) const MAX_OPEN: usize = 4;
/// How long an exchange may take, whatever the program's timeouts are: one of them must not be lost for hours.
pub(super) const LONGEST_EXCHANGE: Duration = Duration::from_secs(30);
/// How many of them may fetch descriptions that others than the gateway have named: tarpits on the LAN must not
/// keep us from it.
const MAX_OPEN_STRANGERS: usize = 2;
/// How many of them may be looks at entries: some gateways have no answer to those, and mappings must not wait for it.
const MAX_OPEN_CHECKS: usize = 2;

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    /// The description of the device with this index.
    Describe {
        /// Index in the discovery's list.
        device: usize,
        /// The gateway has not named it itself.
        stranger: bool,
    },
    /// GetStatusInfo of the candidate service with this index.
    ProbeStatus(usize),
    /// GetExternalIPAddress of the candidate service with this index.
    ProbeAddress(usize),
    /// GetExternalIPAddress.
    Address,
    /// The next request of a removal.
    Remove(Key),
    /// The next request of an attempt to make or renew a mapping.
    Make(Key),
    /// GetSpecificPortMappingEntry of a mapping that should be there.
    Check(Key),
}

impl Job {
    /// Whether it goes to the control URL of the service in use.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Job::Address | Job::Remove(_) | Job::Make(_) | Job::Check(_))
    }

    pub(super) fn is_check(self) -> bool {
        matches!(self, Job::Check(_))
    }

    fn is_stranger(self) -> bool {
        matches!(self, Job::Describe { stranger: true, .. })
    }

    /// Lower goes first: what others wait for, then removals (an entry abandoned goes before a new one comes).
    fn rank(self) -> u8 {
        match self {
            Job::Describe { stranger: false, .. } | Job::ProbeStatus(_) | Job::ProbeAddress(_) => 0,
            Job::Remove(_) | Job::Address => 1,
            Job::Make(_) => 2,
            Job::Check(_) => 3,
            Job::Describe { stranger: true, .. } => 4,
        }
    }
}

/// Why an exchange brought no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection.
    Refused,
    /// The system has nothing to make a connection of.
    Starved,
    /// Nothing, or not all, in time.
    TimedOut,
    /// The connection ended, or what came is no HTTP.
    Broken,
}

/// An exchange that is over.
#[derive(Debug)]
pub(super) struct Done {
    /// What it was for.
    pub(super) job: Job,
    /// Where it went.
    pub(super) url: Url,
    /// When its connection was asked for.
    pub(super) opened_at: Time,
    /// Our address on it, once it was connected (the request has left then).
    pub(super) local: Option<IpAddr>,
    /// What came.
    pub(super) result: Result<Reply, Trouble>,
}

#[derive(Debug)]
struct Exchange {
    job: Job,
    url: Url,
    opened_at: Time,
    max_bytes: usize,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    Reading { reader: ReplyReader, local: IpAddr },
}

impl Exchange {
    fn into_done(self, result: Result<Reply, Trouble>) -> Done {
        let local = match self.phase {
            Phase::Connecting => None,
            Phase::Reading { local, .. } => Some(local),
        };
        Done { job: self.job, url: self.url, opened_at: self.opened_at, local, result }
    }
}

/// The exchanges that are open, and the jobs that wait for one.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    queue: Map<(u8, u64), Job>,
    open: Map<ExchangeId, Exchange>,
    /// So many fewer are open at once: the gateway refuses connections while it has others.
    narrowed_by: usize,
    /// Counts on over everything: no id is used twice.
    last_id: u64,
    last_turn: u64,
}

impl Exchanges {
    /// A place in the queue, behind all others of its rank.
    pub(super) fn turn(&mut self) -> u64 {
        self.last_turn += 1;
        self.last_turn
    }

    /// Puts a job into the queue; once only.
    pub(super) fn enqueue(&mut self, job: Job, turn: u64) {
        if !self.is_queued(job) {
            self.queue.insert((job.rank(), turn), job);
        }
    }

    /// Whether a job waits for an exchange.
    pub(super) fn is_queued(&self, job: Job) -> bool {
        // Within a rank each job has a turn of its own, so the rank bounds what is looked through.
        self.queue
            .iter_from((job.rank(), 0))
            .take_while(|&((rank, _), _)| rank == job.rank())
            .any(|(_, &queued)| queued == job)
    }

    /// When the exchange of a job was opened, if it is open.
    pub(super) fn opened_at(&self, job: Job) -> Option<Time> {
        self.open.values().find(|exchange| exchange.job == job).map(|exchange| exchange.opened_at)
    }

    /// Whether the request of a job may have reached the other side without an answer yet.
    pub(super) fn is_written(&self, job: Job) -> bool {
        self.open
            .values()
            .any(|exchange| exchange.job == job && matches!(exchange.phase, Phase::Reading { .. }))
    }

    /// Whether as many looks at entries wait already as may be under way: more would pile up, and then all come at once.
    pub(super) fn has_enough_checks(&self) -> bool {
        self.queue.values().filter(|job| job.is_check()).take(MAX_OPEN_CHECKS).count() == MAX_OPEN_CHECKS
    }

    /// Takes the jobs out of the queue for which `unwanted` holds.
    pub(super) fn drop_queued(&mut self, unwanted: &dyn Fn(Job) -> bool) {
        self.queue.retain(|_, &mut job| !unwanted(job));
    }

    /// Hangs up the exchanges for whose jobs `unwanted` holds; gives back their ids.
    pub(super) fn hang_up(&mut self, cx: &mut Cx<'_>, unwanted: &dyn Fn(Job) -> bool) -> Vec<ExchangeId> {
        let ids = self.open.keys_where(|_, exchange| unwanted(exchange.job));
        for &id in &ids {
            self.open.remove(&id);
            cx.output(Output::HangUp { exchange: id });
        }
        ids
    }

    /// Takes the next job out of the queue for which there is room; no job of the control URL if `hold`.
    pub(super) fn next(&mut self, hold: bool) -> Option<Job> {
        if self.open.len() + self.narrowed_by >= MAX_OPEN {
            return None;
        }
        let count = |is: fn(Job) -> bool| self.open.values().filter(|exchange| is(exchange.job)).count();
        let no_stranger = count(Job::is_stranger) >= MAX_OPEN_STRANGERS;
        let no_check = count(Job::is_check) >= MAX_OPEN_CHECKS;
        let (place, &job) = self.queue.iter().find(|&(_, &job)| {
            !(hold && job.is_control() || no_stranger && job.is_stranger() || no_check && job.is_check())
        })?;
        self.queue.remove(&place);
        Some(job)
    }

    /// A connection was refused for others that were open: fewer at once from now on. `false`: it cannot be fewer.
    pub(super) fn narrow(&mut self) -> bool {
        let can = self.narrowed_by + 1 < MAX_OPEN;
        self.narrowed_by += usize::from(can);
        can
    }

    /// One more may be tried again.
    pub(super) fn widen(&mut self) {
        self.narrowed_by = self.narrowed_by.saturating_sub(1);
    }

    /// Another gateway: nothing is known of how many it takes.
    pub(super) fn reset_width(&mut self) {
        self.narrowed_by = 0;
    }

    /// Whether the control URL has taken a connection that is still open.
    pub(super) fn has_established_control(&self) -> bool {
        let is_established = |exchange: &Exchange| matches!(exchange.phase, Phase::Reading { .. });
        self.open.values().any(|exchange| exchange.job.is_control() && is_established(exchange))
    }

    /// Opens a connection for a job, whose reply may have `max_bytes`.
    pub(super) fn open(&mut self, cx: &mut Cx<'_>, job: Job, url: Url, max_bytes: usize) -> ExchangeId {
        self.last_id += 1;
        let id = ExchangeId(self.last_id);
        cx.output(Output::Connect { exchange: id, to: url.address });
        self.open.insert(id, Exchange { job, url, opened_at: cx.now, max_bytes, phase: Phase::Connecting });
        id
    }

    /// The connection stands: for which job and URL, that the caller may write the request.
    pub(super) fn connected(&mut self, id: ExchangeId, local: SocketAddr) -> Option<(Job, &Url)> {
        let exchange = self.open.get_mut(&id)?;
        if matches!(exchange.phase, Phase::Reading { .. }) {
            return None;
        }
        let reader = ReplyReader::new(exchange.max_bytes);
        exchange.phase = Phase::Reading { reader, local: local.ip().to_canonical() };
        Some((exchange.job, &exchange.url))
    }

    /// Bytes came. The exchange is over when they complete a reply, or can never become one.
    pub(super) fn data(&mut self, cx: &mut Cx<'_>, id: ExchangeId, bytes: &[u8]) -> Option<Done> {
        let Phase::Reading { reader, .. } = &mut self.open.get_mut(&id)?.phase else { return None };
        let result = match reader.push(bytes) {
            Ok(None) => return None,
            Ok(Some(reply)) => Ok(reply),
            Err(_) => Err(Trouble::Broken),
        };
        cx.output(Output::HangUp { exchange: id });
        self.open.remove(&id).map(|exchange| exchange.into_done(result))
    }

    /// The connection ended.
    pub(super) fn ended(&mut self, id: ExchangeId, end: TcpEnd) -> Option<Done> {
        let exchange = self.open.remove(&id)?;
        let Exchange { job, url, opened_at, phase, .. } = exchange;
        Some(match phase {
            Phase::Connecting => {
                let trouble = match end {
                    TcpEnd::Refused | TcpEnd::Failed => Trouble::Refused,
                    TcpEnd::Starved => Trouble::Starved,
                    TcpEnd::Closed => Trouble::Broken,
                };
                Done { job, url, opened_at, local: None, result: Err(trouble) }
            }
            // Some servers reset the connection after the last byte instead of closing it: what came counts.
            Phase::Reading { reader, local } => {
                let result = reader.finish().map_err(|_| Trouble::Broken);
                Done { job, url, opened_at, local: Some(local), result }
            }
        })
    }

    /// The time of an exchange is over.
    pub(super) fn timed_out(&mut self, cx: &mut Cx<'_>, id: ExchangeId) -> Option<Done> {
        let exchange = self.open.remove(&id)?;
        cx.output(Output::HangUp { exchange: id });
        Some(exchange.into_done(Err(Trouble::TimedOut)))
    }
}
