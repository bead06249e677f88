//! Renewals, expiry, and all mappings renewed or remade after a sign that the gateway restarted.

#![forbid(unsafe_code)]

use super::discovery::{Choice, choose};
use super::driver::{Key, Status};
use super::io::Protocol;
use super::mapping::{Lease, LeaseStep, State};
use super::schedule::{EXCHANGES_AN_ATTEMPT, PACKETS_AN_EXCHANGE, counted_lifetime, renewal_at, stage_after};
use super::{Engine, Timer, cx, with_driver};
use crate::log::log;
use crate::time::Time;
use std::time::Duration;

/// When a mapping is asked for once more that may have been removed by a late deletion.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// Packets that one request costs the gateway, for the pace.
pub(super) fn packets(protocol: Protocol) -> u32 {
    if protocol == Protocol::UpnpIgd { PACKETS_AN_EXCHANGE } else { 1 }
}

impl Engine {
    /// A lifetime was granted: sets its first renewal. `None`: permanent, nothing to renew.
    pub(super) fn begin_lease(&mut self, now: Time, key: Key, granted: Option<Duration>) {
        let first = granted.map(|granted| {
            let lifetime = counted_lifetime(granted);
            (lifetime, renewal_at(cx!(self, now), now, lifetime, 0).unwrap_or(now + lifetime))
        });
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.unconfirmed = std::mem::take(&mut mapping.confirm);
        let confirm_at = mapping.unconfirmed.then(|| now + CONFIRM_AFTER);
        let State::Mapped { lease, .. } = &mut mapping.state else { return };
        match first {
            Some((lifetime, renew_at)) => {
                let renew_at = confirm_at.unwrap_or(renew_at).min(renew_at);
                *lease = Some(Lease { made_at: now, lifetime, next: LeaseStep::Renew });
                self.timers.set(Timer::Mapping(key), renew_at);
            }
            None => {
                *lease = None;
                match confirm_at {
                    Some(at) => self.timers.set(Timer::Mapping(key), at),
                    None => self.timers.cancel(Timer::Mapping(key)),
                }
            }
        }
    }

    /// A deletion is under way that may remove this mapping, too: it is asked for once more, soon.
    pub(super) fn confirm(&mut self, now: Time, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        // If another grant follows at once, the lease that begins with it knows.
        mapping.confirm = true;
        mapping.unconfirmed = true;
        if let State::Mapped { lease, .. } = &mut mapping.state {
            if let Some(lease) = lease {
                lease.next = LeaseStep::Renew;
            }
            self.timers.set(Timer::Mapping(key), now + CONFIRM_AFTER);
        }
    }

    /// The mapping's timer: what it is for stands in the mapping's state.
    pub(super) fn handle_mapping_timer(&mut self, now: Time, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        match &mut mapping.state {
            // Slept through: there is nothing left to be renewed.
            State::Mapped { lease: Some(lease), .. } if now >= lease.expires_at() => self.expire(key),
            State::Mapped { protocol, lease: Some(lease), .. } => match lease.next {
                LeaseStep::Renew => {
                    let at = self.pace.take(now, packets(*protocol));
                    if at <= now || at >= lease.expires_at() {
                        self.renew(now, key);
                    } else {
                        lease.next = LeaseStep::Send;
                        self.timers.set(Timer::Mapping(key), at);
                    }
                }
                LeaseStep::Send => self.renew(now, key),
                LeaseStep::Expire => self.expire(key),
            },
            State::Mapped { lease: None, .. } => self.renew(now, key),
            State::Refused | State::Waiting => {
                mapping.state = State::Waiting;
                // Hundreds that were refused at once are not tried again at once.
                let at = match std::mem::take(&mut mapping.has_turn) {
                    true => now,
                    false => self.pace.take(now, self.packets_of_a_retry()),
                };
                if at > now {
                    self.wait_for_turn(key, at);
                } else {
                    self.try_again(now, key);
                }
            }
            State::Asked { .. } => {}
        }
    }

    /// A mapping that was lost is asked for then, in the pace of that time.
    pub(super) fn put_off(&mut self, key: Key, at: Time) {
        self.waiting.remove(&key);
        self.timers.set(Timer::Mapping(key), at);
    }

    /// A waiting mapping has its place in the pace.
    fn wait_for_turn(&mut self, key: Key, at: Time) {
        if let Some(mapping) = self.mappings.get_mut(&key) {
            mapping.has_turn = true;
            self.put_off(key, at);
        }
    }

    /// A mapping that was refused, or lost, has its turn.
    fn try_again(&mut self, now: Time, key: Key) {
        self.waiting.insert(key);
        if !self.raced && self.is_the_best_away() {
            // Who was not there when it was refused may make it now.
            self.start_race(now);
        }
        self.advance(now, key);
    }

    /// What another attempt costs, for the pace: in UPnP it is seldom one exchange where the last was refused.
    fn packets_of_a_retry(&self) -> u32 {
        match self.status(Protocol::Pcp) == Status::Up || self.status(Protocol::NatPmp) == Status::Up {
            true => 1,
            false => EXCHANGES_AN_ATTEMPT * PACKETS_AN_EXCHANGE,
        }
    }

    /// Sends a renewal, by the best protocol that is up by now, and sets the timer for what follows if it is not
    /// answered.
    fn renew(&mut self, now: Time, key: Key) {
        let Some(mapping) = self.mappings.get(&key) else { return };
        let State::Mapped { protocol, lease, .. } = mapping.state else { return };
        if protocol == Protocol::Direct {
            return;
        }
        // One that is not spoken any more gives way to any other.
        let is_out = self.status(protocol) == Status::Out;
        let best = match choose(&self.field(now, mapping), None, now) {
            Choice::Use(best) if best < protocol || is_out => best,
            _ => protocol,
        };
        if let Some(lease) = lease {
            let next_stage = stage_after(now, lease.made_at, lease.lifetime);
            let renew_at = renewal_at(cx!(self, now), lease.made_at, lease.lifetime, next_stage);
            let (at, next) = match renew_at {
                Some(at) => (at, LeaseStep::Renew),
                None => (lease.expires_at(), LeaseStep::Expire),
            };
            self.timers.set(Timer::Mapping(key), at);
            if let Some(mapping) = self.mappings.get_mut(&key)
                && let State::Mapped { lease: Some(lease), .. } = &mut mapping.state
            {
                lease.next = next;
            }
        }
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        if is_out {
            mapping.excluded_until.set(protocol, now + self.config.recheck_interval);
        }
        if is_out && best == protocol {
            return;
        }
        mapping.note_asked(best);
        let suggestion = mapping.suggestion();
        with_driver!(self, best, map(now, key, suggestion));
    }

    /// The lifetime ended and no renewal was answered: discovery anew.
    fn expire(&mut self, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let State::Mapped { protocol, lease: Some(lease), .. } = mapping.state else { return };
        log!(Warn, "{key}: the mapping's lifetime ended, no renewal was answered");
        mapping.asked.set(protocol, false);
        self.suspect_unheard_since(protocol, lease.made_at);
        self.lose(key);
    }

    /// The gateway restarted and lost its mappings: all are made anew (one by the answer that shows it), in the
    /// pace that a gateway can bear that is only just up.
    pub(super) fn remake_all(&mut self, now: Time, shown_by: Option<Key>) {
        log!(Info, "the gateway has restarted");
        for key in self.mappings.keys() {
            let Some(mapping) = self.mappings.get(&key) else { continue };
            let State::Mapped { protocol, .. } = mapping.state else { continue };
            if protocol == Protocol::Direct {
                continue;
            }
            if Some(key) == shown_by {
                // Its grant is the next notice: it was lost as well, and is made anew with it.
                self.lose(key);
            } else {
                self.remake(now, key, protocol);
            }
        }
    }

    /// A mapping is gone from the gateway: it is made anew in its turn.
    pub(super) fn remake(&mut self, now: Time, key: Key, protocol: Protocol) {
        self.lose(key);
        let at = self.pace.take(now, packets(protocol));
        if at > now {
            self.wait_for_turn(key, at);
        }
    }
}
