//! Which rung is asked next for a mapping: the ladder goes from the best rung to the last, and fails only after that.
//!
//! Without clock or I/O: the answer follows from the state of the rungs, the outcome of earlier requests, and the time.

use super::driver::Rung;
use super::io::{Cx, Protocol};
use super::reason::Reason;
use super::schedule::wait_after_failure;
use crate::time::Time;
use std::time::Duration;

/// The state of a rung for all mappings. A list of them is in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungState {
    /// It can be asked.
    Open {
        rung: Rung,
        /// How long it may be silent before the rungs below are asked, too; `None`: until it fails.
        patience: Option<Duration>,
    },
    /// A protocol that was not probed yet.
    Unasked,
    /// There is no rung to ask yet, but one may appear (an answer to a search, a description).
    Coming {
        /// The rungs below wait until then.
        hold_until: Time,
        /// A rung may appear until then.
        until: Time,
    },
    /// The protocol is out for all mappings.
    Out {
        /// The protocol that failed.
        protocol: Protocol,
        reason: Reason,
        /// When it may be asked again.
        until: Time,
    },
}

/// The requests to one rung for one mapping.
#[derive(Clone, Copy, Debug)]
struct Try {
    rung: Rung,
    /// Consecutive failures.
    failures: u8,
    /// The reason of the last failure.
    reason: Option<Reason>,
    /// When the open request was made.
    asked_at: Option<Time>,
    /// The rung is not asked again before this.
    until: Time,
}

/// The next step for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Ask this rung.
    Ask(Rung),
    /// Probe the protocols, then decide again.
    Probe,
    /// A rung may still answer; decide again at this time at the latest.
    Wait(Option<Time>),
    /// No rung is left; decide again at this time.
    NoneLeft(Option<Time>),
}

/// Rungs remembered for one mapping, at most.
const MAX_TRIES: usize = 16;

/// The rungs that were asked for one mapping.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    tries: Vec<Try>,
}

/// Lowers `known` to `at` if that is sooner.
fn sooner(known: &mut Option<Time>, at: Time) {
    *known = Some(known.map_or(at, |known| known.min(at)));
}

impl Ladder {
    fn find(&self, rung: Rung) -> Option<&Try> {
        self.tries.iter().find(|tried| tried.rung == rung)
    }

    /// The record of a rung, created if there is none.
    fn try_of(&mut self, now: Time, rung: Rung) -> &mut Try {
        let index = self.tries.iter().position(|tried| tried.rung == rung).unwrap_or_else(|| {
            if self.tries.len() >= MAX_TRIES {
                self.tries.remove(0);
            }
            self.tries.push(Try { rung, failures: 0, reason: None, asked_at: None, until: now });
            self.tries.len() - 1
        });
        &mut self.tries[index]
    }

    /// The next step. `held_by`: the rung that holds the mapping, which is not asked here.
    pub fn next(&self, now: Time, rungs: &[RungState], held_by: Option<Rung>) -> NextStep {
        // The answer may be another one then.
        let (mut look_at, mut is_open) = (None, false);
        for state in rungs {
            match *state {
                RungState::Open { rung, .. } if held_by == Some(rung) => {}
                RungState::Open { rung, patience } => match self.find(rung) {
                    Some(Try { asked_at: Some(at), .. }) => {
                        is_open = true;
                        let Some(patience) = patience else { return NextStep::Wait(look_at) };
                        if now < *at + patience {
                            sooner(&mut look_at, *at + patience);
                            return NextStep::Wait(look_at);
                        }
                    }
                    Some(tried) if now < tried.until => sooner(&mut look_at, tried.until),
                    Some(_) | None => return NextStep::Ask(rung),
                },
                RungState::Unasked => return NextStep::Probe,
                RungState::Coming { hold_until, until } => {
                    is_open |= now < until;
                    if now < until {
                        sooner(&mut look_at, until);
                    }
                    if now < hold_until {
                        sooner(&mut look_at, hold_until);
                        return NextStep::Wait(look_at);
                    }
                }
                RungState::Out { until, .. } => sooner(&mut look_at, until),
            }
        }
        if is_open { NextStep::Wait(look_at) } else { NextStep::NoneLeft(look_at) }
    }

    /// Takes out the rungs with open requests that are out or gone: the answers of those that still have a driver are
    /// no longer waited for.
    pub fn take_gone(&mut self, rungs: &[RungState]) -> Vec<Rung> {
        let is_there = |rung| {
            rungs.iter().any(|state| matches!(state, RungState::Open { rung: open, .. } if *open == rung))
        };
        let is_gone = |tried: &mut Try| tried.asked_at.is_some() && !is_there(tried.rung);
        self.tries.extract_if(.., is_gone).map(|tried| tried.rung).collect()
    }

    /// Records a request to a rung.
    pub fn note_asked(&mut self, now: Time, rung: Rung) {
        self.try_of(now, rung).asked_at = Some(now);
    }

    /// Records a failure of a rung; `lifetime`: how long its refusal holds. Returns whether the reason is new.
    pub fn note_failed(
        &mut self,
        cx: &mut Cx,
        rung: Rung,
        reason: Reason,
        lifetime: Option<Duration>,
    ) -> bool {
        let tried = self.try_of(cx.now, rung);
        let wait = wait_after_failure(cx, lifetime, tried.failures);
        (tried.asked_at, tried.until) = (None, cx.now + wait);
        tried.failures = tried.failures.saturating_add(1);
        tried.reason.replace(reason) != Some(reason)
    }

    /// Whether a rung is being asked.
    pub fn is_asked(&self, rung: Rung) -> bool {
        self.find(rung).is_some_and(|tried| tried.asked_at.is_some())
    }

    /// Takes out the rungs with open requests: their answers are no longer waited for.
    pub fn take_asked(&mut self) -> Vec<Rung> {
        self.tries.extract_if(.., |tried| tried.asked_at.is_some()).map(|tried| tried.rung).collect()
    }

    /// Forgets a rung: it has granted the mapping, or has changed since it failed.
    pub fn forget(&mut self, rung: Rung) {
        self.tries.retain(|tried| tried.rung != rung);
    }

    /// Forgets failures: the entry that held the mapping may have been in the way, and is gone.
    pub fn forget_failures(&mut self) {
        self.tries.retain(|tried| tried.asked_at.is_some());
    }

    /// Allows silent rungs to be asked again at once. If they fail again, they wait longer than before.
    pub fn revive_silent(&mut self, now: Time) {
        for tried in self.tries.iter_mut().filter(|tried| tried.reason.is_some_and(Reason::is_silence)) {
            tried.until = now.min(tried.until);
        }
    }

    /// The reason of each rung's failure, in the order of `rungs`.
    pub fn reasons(&self, rungs: &[RungState]) -> Vec<(Protocol, Reason)> {
        let reason = |state: &RungState| match *state {
            RungState::Open { rung, .. } => {
                Some((rung.protocol(), self.find(rung)?.reason.unwrap_or(Reason::Silence)))
            }
            RungState::Unasked | RungState::Coming { .. } => None,
            RungState::Out { protocol, reason, .. } => Some((protocol, reason)),
        };
        rungs.iter().filter_map(reason).collect()
    }
}
