//! The attempts to make an entry at one service: which variant of the request is sent next (external port, lease
//! duration), and how each reply is interpreted. No I/O; other mappings play no part.

use super::action::{Action, ExchangeError, Outcome, Owner, code};
use crate::descriptions::Descriptions;
use crate::driver::Key;
use crate::io::{Random, Suggestion};
use crate::reason::Reason;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The requested lease, in seconds.
pub(super) const LEASE_SECS: u32 = 7200;
/// The longest lease that some gateways accept.
const SHORT_LEASE_SECS: u32 = 3600;
/// Requests of one walk, at most.
const MAX_REQUESTS: u8 = 12;
/// The ranges of random external ports, in this order; some gateways allow only one of them.
const RANDOM_PORTS: [RangeInclusive<u64>; 4] = [49152..=65535, 40000..=49999, 20000..=29999, 1024..=65535];
/// How many random ports are drawn to find a free one.
const MAX_DRAWS: usize = 64;

/// The variant of the request that a service accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// The first lease duration to request, in seconds; 0: permanent.
    pub(super) lease_secs: u32,
    /// External and internal port must be the same.
    pub(super) same_ports: bool,
    /// A WANIPConnection:2 without AddAnyPortMapping.
    pub(super) no_add_any: bool,
    /// The first range of [`RANDOM_PORTS`] to try.
    range: usize,
}

impl Default for Variant {
    fn default() -> Variant {
        Variant { lease_secs: LEASE_SECS, same_ports: false, no_add_any: false, range: 0 }
    }
}

impl Variant {
    /// Whether only permanent leases are requested.
    pub(super) fn is_permanent(&self) -> bool {
        self.lease_secs == 0
    }
}

/// The purpose of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The service has granted nothing yet: all variants are tried.
    Trial,
    /// All variants were tried recently: one request.
    Retry,
    /// The service grants mappings: the known variant, on several ports.
    Usual,
    /// The entry exists: it is renewed without risking it.
    Renewal,
}

/// The next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// GetSpecificPortMappingEntry before adding, to spare foreign entries: servers overwrite the entry of another port
    /// of the same host.
    ReadEntry,
    /// AddPortMapping.
    Add,
    /// AddAnyPortMapping.
    AddAny,
    /// GetSpecificPortMappingEntry after a conflict: is it ours?
    ReadEntryAgain,
    /// DeletePortMapping of our own conflicting entry.
    Clear,
}

/// What follows a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterReply {
    /// The walk has another request.
    Ask,
    /// This external port is not available: continue after [`Walk::choose_port`].
    OtherPort,
    /// The entry was made at this external port (0: not reported), with this lease (`None`: permanent).
    Made(u16, Option<Duration>),
    /// The service does not make the entry.
    Failed(Reason),
}

/// One attempt to make or renew a mapping at one service.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    key: Key,
    purpose: Purpose,
    /// The variant found so far.
    pub(super) variant: Variant,
    /// The external port of the current request.
    pub(super) port: u16,
    step: Step,
    /// The lease that the program wants, in seconds; 0: permanent.
    asked_secs: u32,
    lease_secs: u32,
    /// Permanent leases are requested, whatever the variant.
    is_permanent: bool,
    /// The lease was changed because of a fault: a success then shows that the lease was the cause.
    fault_to_lease: bool,
    /// The lease durations refused at this port.
    refused_leases: Vec<u32>,
    /// The external ports that are not available.
    lost_ports: Vec<u16>,
    /// The next range of [`RANDOM_PORTS`] to try.
    randoms: usize,
    /// A conflict could not be explained by reading the entry: later ones count as refusals.
    conflicts_are_refusals: bool,
    /// What the program wants.
    pub(super) wish: Suggestion,
    cleared: bool,
    /// The lease of an unanswered request at this port, which may have made the entry.
    unclear: Option<u32>,
    requests: u8,
    /// The reason of the latest failure.
    reason: Reason,
}

impl Walk {
    /// A walk that starts at an external port: that of the entry, else the suggested one, else the internal port.
    /// `has_add_any`: the service is WANIPConnection:2 and has no entry of ours.
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
            asked_secs: LEASE_SECS,
            lease_secs: variant.lease_secs,
            is_permanent: false,
            fault_to_lease: false,
            refused_leases: Vec::new(),
            lost_ports: Vec::new(),
            randoms: variant.range,
            conflicts_are_refusals: false,
            wish: Suggestion::default(),
            cleared: false,
            unclear: None,
            requests: 0,
            reason: Reason::PortsTaken,
        }
    }

    /// What the program wants, but for the external port.
    pub(super) fn set_wish(&mut self, wish: Suggestion) {
        self.wish = wish;
        self.asked_secs = wish.lifetime_secs.unwrap_or(LEASE_SECS);
        self.lease_secs = self.first_lease();
    }

    /// The lease that is requested first at a port.
    fn first_lease(&self) -> u32 {
        match self.variant.lease_secs {
            _ if self.is_permanent => 0,
            LEASE_SECS => self.asked_secs,
            0 => 0,
            longest => longest.min(self.asked_secs),
        }
    }

    /// Requests permanent leases, since leased entries were not kept.
    pub(super) fn make_permanent(&mut self) {
        (self.is_permanent, self.lease_secs) = (true, 0);
    }

    /// The lease of an entry made now; `None`: permanent.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        (self.lease_secs != 0).then(|| Duration::from_secs(self.lease_secs.into()))
    }

    /// The external port (0: any) of the entry that the next request may make.
    pub(super) fn adds(&self) -> Option<u16> {
        match self.step {
            Step::Add => Some(self.port),
            Step::AddAny => Some(0),
            Step::ReadEntry | Step::ReadEntryAgain | Step::Clear => None,
        }
    }

    /// Whether the next request changes the gateway's table, so that its reply is worth a long wait.
    pub(super) fn is_patient(&self) -> bool {
        matches!(self.step, Step::Add | Step::Clear)
    }

    /// Whether the next request deletes an entry of ours.
    pub(super) fn clears(&self) -> bool {
        self.step == Step::Clear
    }

    /// Counts a request; `Err`: the limit is reached.
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

    /// The next request; `client`: our address on its connection.
    pub(super) fn action(&self, client: IpAddr, known: &Descriptions) -> Action {
        let description = known.text(self.wish.description);
        let add = |name| Action::add(name, self.key, self.port, client, description, self.lease_secs);
        match self.step {
            Step::ReadEntry | Step::ReadEntryAgain => Action::read_entry(self.key.transport, self.port),
            Step::Add => add("AddPortMapping"),
            Step::AddAny => add("AddAnyPortMapping"),
            Step::Clear => Action::delete(self.key.transport, self.port),
        }
    }

    /// Chooses another external port that none of our other mappings has (`is_free`); `Err`: there is none.
    pub(super) fn choose_port(
        &mut self,
        random: &mut dyn Random,
        is_free: impl Fn(u16) -> bool,
    ) -> Result<(), Reason> {
        if self.wish.is_exact {
            return Err(self.reason);
        }
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
        self.lease_secs = self.first_lease();
        if self.step != Step::AddAny || self.requests > 0 {
            self.step = Step::Add;
        }
        Ok(())
    }

    /// Handles the outcome of the request from [`Walk::action`].
    pub(super) fn take(&mut self, outcome: &Outcome, client: IpAddr, known: &Descriptions) -> AfterReply {
        // Only the failure of a request to add an entry is a reason.
        if let (Some(reason), Some(_)) = (outcome.reason(), self.adds()) {
            self.reason = reason;
        }
        match self.step {
            // Only a well-formed entry of another owner prevents the addition.
            Step::ReadEntry => match outcome.owner(self.key, self.port, client) {
                Owner::Foreign => {
                    self.reason = Reason::PortsTaken;
                    AfterReply::OtherPort
                }
                Owner::Ours | Owner::Unclear => self.ask(Step::Add),
            },
            Step::ReadEntryAgain => match outcome.owner(self.key, self.port, client) {
                Owner::Ours if self.unclear.is_some() && outcome.is_certainly_of(self.key, client, known) => {
                    self.lease_secs = self.unclear.unwrap_or(self.lease_secs);
                    AfterReply::Made(self.port, self.lifetime())
                }
                Owner::Ours if !self.cleared => self.ask(Step::Clear),
                Owner::Ours | Owner::Foreign => {
                    self.reason = Reason::PortsTaken;
                    AfterReply::OtherPort
                }
                // The entry cannot be read, or does not exist.
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
                // It fails, or does not report the port. AddPortMapping is known to all gateways.
                None => {
                    self.variant.no_add_any |= *outcome != Outcome::Fault(code::NO_PORT_MAPS_AVAILABLE);
                    self.ask(first_step(self.key, self.port))
                }
            },
            Step::Add => self.take_reply_to_add(outcome),
        }
    }

    fn take_success(&mut self) -> AfterReply {
        // That a service takes the program's own lease says nothing about the usual one.
        let is_own = self.asked_secs != LEASE_SECS && self.lease_secs == self.asked_secs;
        if !is_own && (self.fault_to_lease || self.lease_secs == SHORT_LEASE_SECS) {
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
            // No other variant helps. The HTTP statuses say that the control URL is unknown.
            Outcome::Fault(code::EXTERNAL_PORT_WILDCARD_ONLY)
            | Outcome::Status(404 | 405 | 410)
            | Outcome::Failed(ExchangeError::Refused | ExchangeError::TimedOut) => {
                AfterReply::Failed(self.reason)
            }
            Outcome::Fault(_) | Outcome::Status(_) | Outcome::Failed(_) => {
                // An unclear reply does not blame the lease.
                match outcome {
                    Outcome::Fault(_) => self.fault_to_lease = true,
                    _ => self.unclear = Some(self.lease_secs),
                }
                self.take_lease_refusal(&[self.asked_secs, LEASE_SECS, 0, SHORT_LEASE_SECS])
            }
        }
    }

    /// The port is refused: tries another lease, since some gateways refuse the port when they mean the lease, then
    /// another port. A service that grants mappings means the port.
    fn take_port_refusal(&mut self) -> AfterReply {
        if self.purpose == Purpose::Usual {
            return AfterReply::OtherPort;
        }
        self.fault_to_lease = true;
        self.take_lease_refusal(&[self.asked_secs, LEASE_SECS, 0])
    }

    /// Tries the next of these lease durations at the same port, then another port.
    fn take_lease_refusal(&mut self, leases: &[u32]) -> AfterReply {
        if self.purpose == Purpose::Renewal {
            return AfterReply::Failed(self.reason);
        }
        self.refused_leases.push(self.lease_secs);
        let is_known_refused =
            |lease: u32| lease != 0 && lease != SHORT_LEASE_SECS && self.variant.is_permanent();
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

/// The first request at an external port: reads the entry before, if the port was suggested.
fn first_step(key: Key, port: u16) -> Step {
    if port == key.internal_port.get() { Step::Add } else { Step::ReadEntry }
}
