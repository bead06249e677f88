//! Making entries: one request of a mapping at a time, no external port for two of them.

use super::action::{Action, Answer};
use super::exchange::{Job, Trouble};
use super::port::{Attempt, Verdict};
use super::{Timer, UpnpIgd};
use crate::engine::driver::{Key, Notice, Refusal, Status};
use crate::engine::io::{Cx, Suggestion};
use crate::engine::schedule::{EXCHANGES_AN_ATTEMPT, PACKETS_AN_EXCHANGE};
use crate::log::log;
use crate::ordered::Map;
use crate::time::Time;
use crate::wire::Transport;
use crate::wire::igd::WanService;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

/// What is said where the gateway names no external address.
pub(super) const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What is wanted of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Nothing: its entry stays as it is.
    Rest,
    /// To be made or renewed.
    Make,
    /// To be removed.
    Remove {
        /// When that was asked for.
        called_at: Time,
        /// The core waits for `Notice::Deleted`.
        notice: bool,
    },
}

/// An entry on the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// External port.
    pub(super) port: u16,
    /// The gateway has confirmed it; else it was asked for it and has not answered.
    pub(super) certain: bool,
}

/// An entry that the gateway has made, while the external address is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    port: u16,
    lifetime: Option<Duration>,
}

/// The lease of an entry, as the core counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) since: Time,
    pub(super) lifetime: Duration,
}

/// All about one key.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) goal: Goal,
    suggestion: Suggestion,
    pub(super) held: Option<Held>,
    /// The attempt that a request of it is queued or open for.
    pub(super) attempt: Option<Attempt>,
    pub(super) made: Option<Made>,
    /// A permanent one is as long as can be.
    pub(super) lease: Option<Lease>,
    /// Its place in the queue, for all requests of an attempt.
    turn: u64,
    /// The first request of the attempt has left: the time runs.
    is_timed: bool,
    /// How many connections of the removal have come to nothing.
    pub(super) removal_troubles: u8,
}

impl Mapping {
    fn new() -> Mapping {
        Mapping {
            goal: Goal::Rest,
            suggestion: Suggestion::default(),
            held: None,
            attempt: None,
            made: None,
            lease: None,
            turn: 0,
            is_timed: false,
            removal_troubles: 0,
        }
    }

    /// The next request of the attempt.
    pub(super) fn attempt_action(&self, client: IpAddr) -> Option<Action> {
        self.attempt.as_ref().map(|attempt| attempt.action(client))
    }

    /// Whether the request of the attempt is AddPortMapping.
    pub(super) fn adds_by_number(&self) -> bool {
        self.attempt.as_ref().is_some_and(Attempt::adds_by_number)
    }

    /// The next request of the removal. What may not be ours is looked at first: gateways let one host delete
    /// the entries of another.
    pub(super) fn removal_action(&self, key: Key) -> Option<Action> {
        let Held { port, certain } = self.held?;
        let transport = key.transport;
        Some(if certain {
            Action::DeletePortMapping { transport, port }
        } else {
            Action::GetSpecificPortMappingEntry { transport, port }
        })
    }

    /// A look at the entry.
    pub(super) fn look_action(&self, key: Key) -> Option<Action> {
        let Held { port, .. } = self.held?;
        Some(Action::GetSpecificPortMappingEntry { transport: key.transport, port })
    }

    fn has_port(&self, port: u16) -> bool {
        self.held.is_some_and(|held| held.port == port)
            || self.attempt.as_ref().is_some_and(|attempt| attempt.port() == port)
    }

    fn waits_to_begin(&self) -> bool {
        self.goal == Goal::Make && self.attempt.is_none() && self.made.is_none()
    }
}

impl UpnpIgd {
    /// Makes or renews the gateway mapping of a key: ends in `Granted`, `Refused` or `TimedOut`, or with `Lost`.
    /// Before `Up` it waits for that; `Out` ends it.
    pub fn map(&mut self, cx: &mut Cx<'_>, key: Key, suggestion: Suggestion) {
        if self.resting {
            self.resume(cx);
        }
        if self.status() == Status::Out {
            self.notices.push_back(Notice::TimedOut { key });
            return;
        }
        let mapping = self.mappings.get_or_insert_with(key, Mapping::new);
        mapping.suggestion = suggestion;
        match mapping.goal {
            Goal::Make => return,
            Goal::Rest => self.stop_check(cx, key),
            Goal::Remove { .. } => {
                // It takes over what was to be removed, the port above all.
                mapping.suggestion.port =
                    suggestion.port.or(mapping.held.and_then(|held| NonZeroU16::new(held.port)));
                self.exchanges.drop_queued(&|job| job == Job::Remove(key));
                self.timers.cancel(Timer::Notice(key));
                self.ports_freed = true;
            }
        }
        let turn = self.exchanges.turn();
        if let Some(mapping) = self.mappings.get_mut(&key) {
            mapping.goal = Goal::Make;
            mapping.turn = turn;
            mapping.is_timed = false;
        }
        if self.control.is_none() {
            self.timers.set(Timer::Mapping(key), cx.now + self.discover_timeout);
        }
        self.advance(cx, key);
        self.settle(cx);
    }

    /// Drops all knowledge of a key, without a packet.
    pub fn forget(&mut self, cx: &mut Cx<'_>, key: Key) {
        let is_of_key = |job| matches!(job, Job::Make(k) | Job::Remove(k) | Job::Check(k) if k == key);
        self.hang_up(cx, &is_of_key);
        self.exchanges.drop_queued(&is_of_key);
        self.retire(key);
        self.settle(cx);
    }

    /// A service is in use now: goes on with what waited for it.
    pub(super) fn continue_mappings(&mut self, cx: &mut Cx<'_>) {
        // In the order of their turns, of which no two are equal.
        let by_turn: Map<_, _> = self.mappings.iter().map(|(key, mapping)| (mapping.turn, key)).collect();
        for (_, &key) in by_turn.iter() {
            self.timers.cancel(Timer::Mapping(key));
            self.advance(cx, key);
        }
    }

    /// The control URL is lost: attempts end with that, removals wait for another. Their jobs are gone already.
    pub(super) fn suspend_mappings(&mut self, cx: &mut Cx<'_>) {
        for key in self.mappings.keys() {
            let Some(mapping) = self.mappings.get_mut(&key) else { continue };
            mapping.attempt = None;
            match mapping.goal {
                Goal::Rest => {}
                Goal::Make => self.end_attempt(cx, key),
                Goal::Remove { .. } => self.tell_unanswered(key),
            }
        }
    }

    /// Before exchanges are hung up: what was asked for and is not answered may have been made.
    pub(super) fn note_unanswered(&mut self) {
        let exchanges = &self.exchanges;
        self.mappings.for_each_mut(|key, mapping| {
            if let Some(attempt) = &mapping.attempt
                && attempt.adds()
                && mapping.held.is_none()
                && exchanges.is_written(Job::Make(key))
            {
                mapping.held = Some(Held { port: attempt.port(), certain: false });
            }
        });
    }

    /// There is no gateway: ends what waits for one.
    pub(super) fn give_up_waiting(&mut self, cx: &mut Cx<'_>) {
        for key in self.mappings.keys() {
            self.handle_mapping_timeout(cx, key);
        }
    }

    /// The time of an attempt is over; or there is no gateway, which a removal is told by this, too.
    pub(super) fn handle_mapping_timeout(&mut self, cx: &mut Cx<'_>, key: Key) {
        let Some(mapping) = self.mappings.get(&key) else { return };
        match mapping.goal {
            Goal::Rest => {}
            Goal::Make if mapping.made.is_some() => self.grant(cx, key, true),
            Goal::Make => {
                self.note_unanswered();
                self.hang_up(cx, &|job| job == Job::Make(key));
                self.exchanges.drop_queued(&|job| job == Job::Make(key));
                self.time_out(cx, key);
            }
            // It stays to be done, should a gateway be found yet.
            Goal::Remove { .. } => self.tell_unanswered(key),
        }
    }

    /// An exchange of a job has been opened.
    pub(super) fn handle_exchange_opened(&mut self, cx: &mut Cx<'_>, job: Job) {
        let Job::Make(key) = job else { return };
        if let Some(mapping) = self.mappings.get_mut(&key)
            && !std::mem::replace(&mut mapping.is_timed, true)
        {
            self.timers.set(Timer::Mapping(key), cx.now + self.mapping_timeout);
        }
    }

    /// Begins what waits for an external port of ours to become free.
    pub(super) fn begin_waiting(&mut self, cx: &mut Cx<'_>) {
        for key in self.mappings.keys_where(|_, mapping| mapping.waits_to_begin()) {
            self.advance(cx, key);
        }
    }

    /// The request of an attempt is over.
    pub(super) fn handle_attempt(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        answer: &Result<Answer, Trouble>,
        local: Option<IpAddr>,
    ) {
        let (Some(mapping), Some(control)) = (self.mappings.get_mut(&key), self.control.as_mut()) else {
            return;
        };
        let Some(attempt) = &mut mapping.attempt else { return };
        let asked_port = attempt.port();
        let verdict = match (answer, local) {
            (Ok(answer), Some(client)) => {
                let was_cleared = attempt.clears() && matches!(answer, Answer::Done(_));
                let verdict = attempt.take(answer, client, &mut control.quirks);
                let is_lost = was_cleared || verdict == Verdict::OtherPort;
                if is_lost && mapping.held.is_some_and(|held| held.port == asked_port) {
                    mapping.held = None;
                }
                if let Verdict::Granted(port) = verdict {
                    mapping.held = Some(Held { port, certain: true });
                }
                if let (Verdict::Refused(_), Answer::Error(error)) = (verdict, answer) {
                    log!(Warn, "UPnP-IGD: mapping of {key} refused with error {error}");
                }
                Some(verdict)
            }
            (trouble, _) => {
                if local.is_some() && attempt.adds() && mapping.held.is_none() {
                    mapping.held = Some(Held { port: asked_port, certain: false });
                }
                match trouble {
                    Err(Trouble::TimedOut | Trouble::Refused | Trouble::Starved) => None,
                    Err(Trouble::Broken) | Ok(_) => Some(attempt.take_nonsense()),
                }
            }
        };
        if mapping.goal != Goal::Make {
            mapping.attempt = None;
            self.advance(cx, key);
            return;
        }
        if matches!(answer, Err(Trouble::Refused | Trouble::Starved)) {
            // Nothing was asked, so nothing has changed, and it does not count.
            self.exchanges.enqueue(Job::Make(key), mapping.turn);
            return;
        }
        match verdict {
            None => self.time_out(cx, key),
            Some(Verdict::AskOn) => self.ask_on(cx, key),
            Some(Verdict::OtherPort) => {
                if self.choose_other_port(cx, key) {
                    self.ask_on(cx, key);
                } else {
                    self.refuse(cx, key, Refusal::Failed { retry_after: Duration::ZERO });
                }
            }
            Some(Verdict::Granted(port)) => self.handle_granted(cx, key, port),
            Some(Verdict::Refused(refusal)) => self.refuse(cx, key, refusal),
        }
    }

    /// Grants what waited for the external address.
    pub(super) fn grant_made(&mut self, cx: &mut Cx<'_>) {
        let keys = self.mappings.keys_where(|_, mapping| mapping.made.is_some());
        for key in keys {
            self.grant(cx, key, false);
        }
    }

    fn handle_granted(&mut self, cx: &mut Cx<'_>, key: Key, port: u16) {
        // Another attempt of ours may have been under way for a port that the gateway chose: whose it is now
        // only a look can tell.
        if let Some(other) = self.owner(key, port) {
            self.check_soon(cx, other);
            self.check_soon(cx, key);
        }
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let Some(attempt) = mapping.attempt.take() else { return };
        let quirks = self.control.as_ref().map(|control| control.quirks).unwrap_or_default();
        let lifetime = attempt.lifetime().into_iter().chain(quirks.longest_lease).min();
        mapping.made = Some(Made { port, lifetime });
        mapping.lease = Some(Lease { since: cx.now, lifetime: lifetime.unwrap_or(Duration::MAX) });
        self.grant(cx, key, false);
        self.note_made(cx, key);
        if !quirks.has_shown_lease {
            self.look_at_lease_later(cx, key);
        }
    }

    /// Tells the core of an entry that was made, if the external address is known, or is not to be waited for.
    fn grant(&mut self, cx: &mut Cx<'_>, key: Key, at_once: bool) {
        let address = match self.external.current() {
            Some(address) => address,
            None if at_once => self.external.last().unwrap_or(NO_ADDRESS),
            None => {
                self.ask_address();
                return;
            }
        };
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let Some(Made { port, lifetime }) = mapping.made else { return };
        self.notices.push_back(Notice::Granted { key, address, port, lifetime });
        self.end_attempt(cx, key);
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, key: Key, refusal: Refusal) {
        self.notices.push_back(Notice::Refused { key, refusal });
        self.note_removed(key);
        if self.mappings.get(&key).is_some_and(|mapping| mapping.held.is_some_and(|held| !held.certain)) {
            // An earlier request of this attempt had no answer. The core takes the refusal for the whole truth.
            self.remove(cx, key, false);
        } else {
            self.end_attempt(cx, key);
        }
    }

    fn time_out(&mut self, cx: &mut Cx<'_>, key: Key) {
        log!(Debug, "UPnP-IGD: no answer about {key}");
        self.notices.push_back(Notice::TimedOut { key });
        self.note_removed(key);
        self.end_attempt(cx, key);
    }

    /// A renewal has come to nothing: if it has removed the entry on its way, the core does not know.
    fn note_removed(&mut self, key: Key) {
        let Some(mapping) = self.mappings.get(&key) else { return };
        if mapping.held.is_none() && mapping.attempt.as_ref().is_some_and(Attempt::renews) {
            self.notices.push_back(Notice::Gone { key });
        }
    }

    /// Nothing is wanted of the mapping any more; what is on the gateway stays there.
    pub(super) fn end_attempt(&mut self, cx: &mut Cx<'_>, key: Key) {
        self.timers.cancel(Timer::Mapping(key));
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.goal = Goal::Rest;
        mapping.attempt = None;
        mapping.made = None;
        self.advance(cx, key);
    }

    /// Does what comes next for a mapping, unless a request of it is under way: what follows then waits for the
    /// answer.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, key: Key) {
        let is_open = self.is_open(key);
        let Some(mapping) = self.mappings.get(&key).filter(|_| !is_open) else { return };
        match mapping.goal {
            Goal::Rest => {
                if mapping.held.is_none() {
                    self.retire(key);
                }
            }
            Goal::Make if mapping.made.is_some() => self.grant(cx, key, false),
            Goal::Make if mapping.attempt.is_some() => {}
            Goal::Make => self.begin(cx, key),
            Goal::Remove { .. } if mapping.held.is_none() => self.finish_removal(key, true),
            Goal::Remove { .. } => {
                if self.control.is_some() {
                    let turn = self.exchanges.turn();
                    self.exchanges.enqueue(Job::Remove(key), turn);
                } else if self.status() == Status::Out {
                    self.tell_unanswered(key);
                }
            }
        }
    }

    /// Begins an attempt, if there is a gateway and the external port is free.
    fn begin(&mut self, cx: &mut Cx<'_>, key: Key) {
        let (Some(control), Some(mapping)) = (&self.control, self.mappings.get_mut(&key)) else { return };
        let port = mapping.held.map(|held| held.port).or(mapping.suggestion.port.map(NonZeroU16::get));
        let renews = mapping.held.is_some_and(|held| held.certain);
        let has_add_any = control.kind == WanService::Ip2 && mapping.held.is_none();
        let attempt = Attempt::new(key, port, renews, has_add_any, &control.quirks);
        let port = attempt.port();
        if let Some(owner) = self.owner(key, port) {
            let is_leaving =
                self.mappings.get(&owner).is_some_and(|other| matches!(other.goal, Goal::Remove { .. }));
            if is_leaving {
                if self.timers.get(Timer::Mapping(key)).is_none() {
                    self.timers.set(Timer::Mapping(key), cx.now + self.mapping_timeout);
                }
                return;
            }
            self.set_attempt(key, attempt);
            if !self.choose_other_port(cx, key) {
                self.refuse(cx, key, Refusal::Failed { retry_after: Duration::ZERO });
                return;
            }
        } else {
            self.set_attempt(key, attempt);
        }
        if !self.external.is_fresh(cx.now) {
            self.ask_address();
        }
        self.ask_on(cx, key);
    }

    /// Whether a request that changes something is under way.
    pub(super) fn is_open(&self, key: Key) -> bool {
        [Job::Make(key), Job::Remove(key)].iter().any(|&job| self.exchanges.opened_at(job).is_some())
    }

    fn set_attempt(&mut self, key: Key, attempt: Attempt) {
        if let Some(mapping) = self.mappings.get_mut(&key) {
            mapping.attempt = Some(attempt);
        }
    }

    fn ask_on(&mut self, cx: &mut Cx<'_>, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let Some(attempt) = &mut mapping.attempt else { return };
        if attempt.count_request() {
            if attempt.requests() > EXCHANGES_AN_ATTEMPT {
                cx.pace.take(cx.now, PACKETS_AN_EXCHANGE);
            }
            self.exchanges.enqueue(Job::Make(key), mapping.turn);
        } else {
            log!(Warn, "UPnP-IGD: mapping of {key} given up after too many requests");
            self.refuse(cx, key, Refusal::Failed { retry_after: Duration::ZERO });
        }
    }

    fn choose_other_port(&mut self, cx: &mut Cx<'_>, key: Key) -> bool {
        let Some(control) = &self.control else { return false };
        let quirks = control.quirks;
        let Some(mapping) = self.mappings.get_mut(&key) else { return false };
        let Some(mut attempt) = mapping.attempt.take() else { return false };
        let is_chosen = attempt.choose_other_port(&quirks, cx.random, |port| self.owner(key, port).is_none());
        self.set_attempt(key, attempt);
        is_chosen
    }

    /// Which other mapping of ours has an external port, or asks for it.
    fn owner(&self, key: Key, port: u16) -> Option<Key> {
        let transport: Transport = key.transport;
        self.mappings
            .iter()
            .find(|&(other, mapping)| other != key && other.transport == transport && mapping.has_port(port))
            .map(|(other, _)| other)
    }

    pub(super) fn retire(&mut self, key: Key) {
        self.timers.cancel(Timer::Mapping(key));
        self.timers.cancel(Timer::Notice(key));
        if self.mappings.remove(&key).is_some() {
            self.ports_freed = true;
        }
        if self.mappings.is_empty() {
            self.timers.cancel(Timer::Lease);
        }
    }
}
