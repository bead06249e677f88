//! Who is asked next for a mapping: it climbs down from the best rung to the last, and fails only there.
//!
//! A pure function of the rungs' standing, of what came of earlier requests, and of the time.

use super::driver::Rung;
use super::io::{Cx, Protocol};
use super::reason::Reason;
use super::schedule::wait_after_failure;
use crate::time::Time;
use std::time::Duration;

/// A rung as it stands for all mappings; the rungs of a ladder are in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungState {
    /// It can be asked.
    Open {
        /// Which.
        rung: Rung,
        /// How long it may be silent before the rungs below are asked as well; `None`: until it fails.
        patience: Option<Duration>,
    },
    /// A protocol that was not asked yet whether it is there.
    Unasked,
    /// Nobody can be asked yet, but somebody may turn up (an answer to a search, a description).
    Coming {
        /// Until then the rungs below wait.
        hold_until: Time,
        /// Until then there is hope.
        until: Time,
    },
    /// It is out for all mappings.
    Out {
        /// Whose failure it is.
        protocol: Protocol,
        /// Why.
        reason: Reason,
        /// When it may be asked again.
        until: Time,
    },
}

/// What came of asking one rung for one mapping.
#[derive(Clone, Copy, Debug)]
struct Try {
    rung: Rung,
    /// How often in a row it failed.
    failures: u8,
    /// Why, the last time.
    reason: Option<Reason>,
    /// When the request was made that is open.
    asked_at: Option<Time>,
    /// It is not asked again before.
    until: Time,
}

/// What a mapping should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Ask this rung.
    Ask(Rung),
    /// Find out who is there, then look again.
    Probe,
    /// Somebody may answer yet; look again at this time, if nothing happens before.
    Wait(Option<Time>),
    /// Nobody is left; look again at this time.
    NoneLeft(Option<Time>),
}

/// At most this many rungs are remembered for one mapping.
const MAX_TRIES: usize = 16;

/// The rungs that were asked for one mapping.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    tries: Vec<Try>,
}

/// The sooner of two times, the first of which may not be set yet.
fn sooner(known: &mut Option<Time>, at: Time) {
    *known = Some(known.map_or(at, |known| known.min(at)));
}

impl Ladder {
    fn find(&self, rung: Rung) -> Option<&Try> {
        self.tries.iter().find(|tried| tried.rung == rung)
    }

    /// The try of a rung, made if there was none.
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

    /// Who comes next. `held_by`: the mapping is made by this rung, which is not asked again here.
    pub fn next(&mut self, now: Time, rungs: &[RungState], held_by: Option<Rung>) -> NextStep {
        self.drop_gone(rungs);
        let (mut look_at, mut retry_at, mut is_open) = (None, None, false);
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
                    Some(tried) if now < tried.until => sooner(&mut retry_at, tried.until),
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
                RungState::Out { until, .. } => sooner(&mut retry_at, until),
            }
        }
        if is_open { NextStep::Wait(look_at) } else { NextStep::NoneLeft(retry_at) }
    }

    /// Requests to rungs that are out or gone were dropped with them.
    pub fn drop_gone(&mut self, rungs: &[RungState]) {
        let is_there = |rung| {
            rungs.iter().any(|state| matches!(state, RungState::Open { rung: open, .. } if *open == rung))
        };
        self.tries.retain(|tried| tried.asked_at.is_none() || is_there(tried.rung));
    }

    /// A rung is asked.
    pub fn note_asked(&mut self, now: Time, rung: Rung) {
        self.try_of(now, rung).asked_at = Some(now);
    }

    /// A rung has failed; `lifetime`: its refusal holds for so long. Whether the reason is another than the last time.
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

    /// The rungs that are being asked, taken out: nobody waits for them any more.
    pub fn take_asked(&mut self) -> Vec<Rung> {
        self.tries.extract_if(.., |tried| tried.asked_at.is_some()).map(|tried| tried.rung).collect()
    }

    /// A rung starts afresh: it has made the mapping, or is not what it was when it failed.
    pub fn forget(&mut self, rung: Rung) {
        self.tries.retain(|tried| tried.rung != rung);
    }

    /// Rungs that failed start afresh: what held the mapping then may have been in their way, and holds it no more.
    pub fn forget_failures(&mut self) {
        self.tries.retain(|tried| tried.asked_at.is_some());
    }

    /// Rungs that failed by silence may be asked again at once. Should they fail again, they wait longer than before.
    pub fn revive_silent(&mut self, now: Time) {
        for tried in self.tries.iter_mut().filter(|tried| tried.reason.is_some_and(Reason::is_silence)) {
            tried.until = now.min(tried.until);
        }
    }

    /// Why each rung failed, in the order of the rungs.
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
