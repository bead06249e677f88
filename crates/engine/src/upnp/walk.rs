//! The way to an entry at one service: which variant of the request is sent next (external ports, lease durations), and what
//! each answer means. No I/O, no other mapping.

use super::action::{Action, ExchangeError, Outcome, Owner, code};
use crate::driver::Key;
use crate::io::Random;
use crate::reason::Reason;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The lease that is asked for, in seconds.
pub(super) const LEASE_SECS: u32 = 7200;
/// The longest lease that some gateways take.
const SHORT_LEASE_SECS: u32 = 3600;
/// At most this many requests of one walk.
const MAX_REQUESTS: u8 = 12;
/// Where ports are taken from at random, in this order; some gateways allow one of these ranges only.
const RANDOM_PORTS: [RangeInclusive<u64>; 4] = [49152..=65535, 40000..=49999, 20000..=29999, 1024..=65535];
/// How often the dice are thrown for a port that is free.
const MAX_DRAWS: usize = 64;

/// What is known of the requests that a service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// The lease duration to begin with, in seconds; 0: permanent.
    pub(super) lease_secs: u32,
    /// External and internal port have to be the same.
    pub(super) same_ports: bool,
    /// WANIPConnection:2 without its AddAnyPortMapping.
    pub(super) no_add_any: bool,
    /// The first of [`RANDOM_PORTS`] to take ports from.
    range: usize,
}

impl Default for Variant {
    fn default() -> Variant {
        Variant { lease_secs: LEASE_SECS, same_ports: false, no_add_any: false, range: 0 }
    }
}

impl Variant {
    /// Whether only permanent entries are asked for.
    pub(super) fn is_permanent(&self) -> bool {
        self.lease_secs == 0
    }
}

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The service has made nothing yet: all variants are tried.
    Trial,
    /// All variants were tried not long ago: one request.
    Retry,
    /// The service has made mappings: what worked, on several ports.
    Usual,
    /// The entry is there: one request, which must not cost it.
    Renewal,
}

/// What is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// GetSpecificPortMappingEntry, a courtesy before adding: servers overwrite the entry of another port of the same host.
    ReadEntry,
    /// AddPortMapping.
    Add,
    /// AddAnyPortMapping.
    AddAny,
    /// GetSpecificPortMappingEntry after a conflict: is it ours?
    ReadEntryAgain,
    /// DeletePortMapping of an entry of ours that is in the way.
    Clear,
}

/// What an answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterReply {
    /// The walk has its next request.
    Ask,
    /// This external port is not to be had: ask on after [`Walk::choose_port`].
    OtherPort,
    /// Made at this external port, with this lease (`None`: for ever). The port is 0 where the gateway has not told it.
    Made(u16, Option<Duration>),
    /// The service does not make it.
    Failed(Reason),
}

/// One attempt to make or renew a mapping at one service.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    key: Key,
    purpose: Purpose,
    /// What is known of the service by now.
    pub(super) variant: Variant,
    /// The external port that is asked for now.
    pub(super) port: u16,
    step: Step,
    lease_secs: u32,
    /// No lease is asked for, whatever the service takes.
    is_permanent: bool,
    /// The lease was changed for a fault, not for an unclear reply: success shows that it was the lease's.
    fault_to_lease: bool,
    /// The lease durations that were refused at this port.
    refused_leases: Vec<u32>,
    /// External ports that are not to be had.
    lost_ports: Vec<u16>,
    /// The next of the ranges to take a port from at random.
    randoms: usize,
    /// A conflict was looked at, and there was nothing to be seen: the next need not be.
    conflicts_are_refusals: bool,
    cleared: bool,
    /// The lease of an addition at this port that was not answered: it may have made the entry all the same.
    unclear: Option<u32>,
    requests: u8,
    /// The latest failure: the reason, should nothing come after it.
    reason: Reason,
}

impl Walk {
    /// A walk that begins at an external port: that of the entry, else the wish, else the internal port. `has_add_any`: the
    /// service is WANIPConnection:2 and nothing of ours is there.
    pub(super) fn new(
        key: Key,
        port: Option<u16>,
        purpose: Purpose,
        has_add_any: bool,
        variant: Variant,
    ) -> Walk {
        let internal_port = key.internal_port.get();
        let may_wish = purpose == Purpose::Renewal || !variant.same_ports;
        let port = port.filter(|_| may_wish).unwrap_or(internal_port);
        let uses_add_any = has_add_any && !variant.no_add_any && !variant.same_ports;
        let step = match purpose {
            Purpose::Renewal => Step::Add,
            _ if uses_add_any => Step::AddAny,
            _ => first_step(key, port),
        };
        Walk {
            key,
            purpose,
            variant,
            port,
            step,
            lease_secs: variant.lease_secs,
            is_permanent: false,
            fault_to_lease: false,
            refused_leases: Vec::new(),
            lost_ports: Vec::new(),
            randoms: variant.range,
            conflicts_are_refusals: false,
            cleared: false,
            unclear: None,
            requests: 0,
            reason: Reason::PortsTaken,
        }
    }

    /// Leases shall be permanent: leased entries were seen to vanish.
    pub(super) fn make_permanent(&mut self) {
        (self.is_permanent, self.lease_secs) = (true, 0);
    }

    /// How long an entry made now lives; `None`: for ever.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        (self.lease_secs != 0).then(|| Duration::from_secs(self.lease_secs.into()))
    }

    /// What the next request may do to the gateway's table: the external port (0: any) of an entry that it may make.
    pub(super) fn adds(&self) -> Option<u16> {
        match self.step {
            Step::Add => Some(self.port),
            Step::AddAny => Some(0),
            Step::ReadEntry | Step::ReadEntryAgain | Step::Clear => None,
        }
    }

    /// Whether the next request may take as long as it takes: what it changes must not stay unknown.
    pub(super) fn is_patient(&self) -> bool {
        matches!(self.step, Step::Add | Step::Clear)
    }

    /// Whether the next request removes an entry of ours.
    pub(super) fn clears(&self) -> bool {
        self.step == Step::Clear
    }

    /// Counts a request; `Err`: there were enough.
    pub(super) fn count_request(&mut self) -> Result<u32, Reason> {
        if self.purpose == Purpose::Retry && self.step == Step::ReadEntry {
            return Ok(0);
        }
        self.requests += 1;
        let most = match self.purpose {
            Purpose::Trial | Purpose::Usual => MAX_REQUESTS,
            Purpose::Retry => 1,
            Purpose::Renewal => 4,
        };
        if self.requests > most { Err(self.reason) } else { Ok(self.requests.into()) }
    }

    /// The next request; `client` is our address on its connection.
    pub(super) fn action(&self, client: IpAddr) -> Action {
        let add = |name| Action::add(name, self.key, self.port, client, self.lease_secs);
        match self.step {
            Step::ReadEntry | Step::ReadEntryAgain => Action::read_entry(self.key.transport, self.port),
            Step::Add => add("AddPortMapping"),
            Step::AddAny => add("AddAnyPortMapping"),
            Step::Clear => Action::delete(self.key.transport, self.port),
        }
    }

    /// Takes another external port to ask for, of those that none of our other mappings has (`is_free`). `Err`: there is none.
    pub(super) fn choose_port(
        &mut self,
        random: &mut dyn Random,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<(), Reason> {
        self.lost_ports.push(self.port);
        let is_new = |port: u16| !self.lost_ports.contains(&port) && is_free(port);
        let internal_port = self.key.internal_port.get();
        let mut chosen = Some(internal_port).filter(|&port| is_new(port));
        if chosen.is_none() && !self.variant.same_ports {
            let range = RANDOM_PORTS.get(self.randoms).unwrap_or(&RANDOM_PORTS[RANDOM_PORTS.len() - 1]);
            let draw = || u16::try_from(random.in_range(*range.start(), *range.end())).ok();
            chosen = std::iter::repeat_with(draw).take(MAX_DRAWS).flatten().find(|&port| is_new(port));
            self.randoms += 1;
        }
        self.port = chosen.ok_or(self.reason)?;
        (self.cleared, self.unclear) = (false, None);
        self.refused_leases.clear();
        self.lease_secs = if self.is_permanent { 0 } else { self.variant.lease_secs };
        if self.step != Step::AddAny || self.requests > 0 {
            self.step = Step::Add;
        }
        Ok(())
    }

    /// Takes what came of the request that [`Walk::action`] gave.
    pub(super) fn take(&mut self, outcome: &Outcome, client: IpAddr) -> AfterReply {
        // That a look finds nothing, or a deletion fails, is no reason.
        if let (Some(reason), Some(_)) = (outcome.reason(), self.adds()) {
            self.reason = reason;
        }
        match self.step {
            // Only a well-formed entry of somebody else keeps us from adding.
            Step::ReadEntry => match outcome.owner(self.key, self.port, client) {
                Owner::Foreign => {
                    self.reason = Reason::PortsTaken;
                    AfterReply::OtherPort
                }
                Owner::Ours | Owner::Unclear => self.ask(Step::Add),
            },
            Step::ReadEntryAgain => match outcome.owner(self.key, self.port, client) {
                Owner::Ours if self.unclear.is_some() && outcome.is_certainly_of(self.key, client) => {
                    self.lease_secs = self.unclear.unwrap_or(self.lease_secs);
                    AfterReply::Made(self.port, self.lifetime())
                }
                Owner::Ours if !self.cleared => self.ask(Step::Clear),
                Owner::Ours | Owner::Foreign => {
                    self.reason = Reason::PortsTaken;
                    AfterReply::OtherPort
                }
                // The entry cannot be read, or is not there.
                Owner::Unclear => {
                    self.conflicts_are_refusals = true;
                    self.take_port_refusal()
                }
            },
            Step::Clear => {
                self.cleared = true;
                self.ask(Step::Add)
            }
            Step::AddAny => match outcome.reserved_port() {
                Some(port) => {
                    self.port = port;
                    self.take_success()
                }
                // It fails, or does not say which port it took. AddPortMapping is what all gateways know.
                None => {
                    self.variant.no_add_any |= *outcome != Outcome::Fault(code::NO_PORT_MAPS_AVAILABLE);
                    self.ask(first_step(self.key, self.port))
                }
            },
            Step::Add => self.take_reply_to_add(outcome),
        }
    }

    fn take_success(&mut self) -> AfterReply {
        if self.fault_to_lease || self.lease_secs == SHORT_LEASE_SECS {
            self.variant.lease_secs = self.lease_secs;
        }
        if self.randoms > self.variant.range {
            self.variant.range = self.randoms - 1;
        }
        AfterReply::Made(self.port, self.lifetime())
    }

    fn take_reply_to_add(&mut self, outcome: &Outcome) -> AfterReply {
        match *outcome {
            Outcome::Done(_) => self.take_success(),
            Outcome::Fault(code::PERMANENT_LEASES_ONLY) if self.lease_secs != 0 => {
                self.refused_leases.push(self.lease_secs);
                (self.variant.lease_secs, self.lease_secs) = (0, 0);
                AfterReply::Ask
            }
            Outcome::Fault(code::CONFLICT | code::CONFLICT_WITH_OTHER) if !self.conflicts_are_refusals => {
                self.ask(Step::ReadEntryAgain)
            }
            Outcome::Fault(code::CONFLICT | code::CONFLICT_WITH_OTHER | code::NOT_AUTHORIZED) => {
                self.take_port_refusal()
            }
            Outcome::Fault(code::SAME_PORTS_REQUIRED) => {
                self.variant.same_ports = true;
                let is_same = self.port == self.key.internal_port.get();
                if is_same || self.purpose == Purpose::Renewal {
                    AfterReply::Failed(self.reason)
                } else {
                    AfterReply::OtherPort
                }
            }
            Outcome::Fault(code::NO_PORT_MAPS_AVAILABLE) if self.purpose != Purpose::Trial => {
                AfterReply::Failed(self.reason)
            }
            // No variant of the request changes these. With the statuses the control URL is not there.
            Outcome::Fault(code::EXTERNAL_PORT_WILDCARD_ONLY)
            | Outcome::Status(404 | 405 | 410)
            | Outcome::Failed(ExchangeError::Refused | ExchangeError::TimedOut) => {
                AfterReply::Failed(self.reason)
            }
            Outcome::Fault(_) | Outcome::Status(_) | Outcome::Failed(_) => {
                // An unclear reply does not say that it is the lease.
                match outcome {
                    Outcome::Fault(_) => self.fault_to_lease = true,
                    _ => self.unclear = Some(self.lease_secs),
                }
                self.take_lease_refusal(&[LEASE_SECS, 0, SHORT_LEASE_SECS])
            }
        }
    }

    /// The port is not for us: once more with another lease, since some say so for that, then another port. A service that
    /// makes mappings means the port.
    fn take_port_refusal(&mut self) -> AfterReply {
        if self.purpose == Purpose::Usual {
            return AfterReply::OtherPort;
        }
        self.fault_to_lease = true;
        self.take_lease_refusal(&[LEASE_SECS, 0])
    }

    /// Tries the next of these lease durations at the same port, then another port.
    fn take_lease_refusal(&mut self, leases: &[u32]) -> AfterReply {
        if self.purpose == Purpose::Renewal {
            return AfterReply::Failed(self.reason);
        }
        self.refused_leases.push(self.lease_secs);
        let is_known_refused = |lease: u32| lease == LEASE_SECS && self.variant.is_permanent();
        let is_left = |lease: &&u32| !self.refused_leases.contains(lease) && !is_known_refused(**lease);
        let left = leases.iter().find(is_left);
        match left {
            Some(&lease) => {
                self.lease_secs = lease;
                self.ask(Step::Add)
            }
            None => AfterReply::OtherPort,
        }
    }

    fn ask(&mut self, step: Step) -> AfterReply {
        self.step = step;
        AfterReply::Ask
    }
}

/// How an entry at a certain external port is asked for: with a look before it where the port is wished.
fn first_step(key: Key, port: u16) -> Step {
    if port == key.internal_port.get() { Step::Add } else { Step::ReadEntry }
}
