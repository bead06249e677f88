//! What a gateway announces by itself, to all hosts of the network: that it has started, or has another external address.

#![forbid(unsafe_code)]

use super::driver::Key;
use super::epoch::Announced;
use super::io::Protocol;
use super::mapping::{LeaseStep, State};
use super::{Engine, Timer, cx};
use crate::log::log;
use crate::time::Time;
use crate::wire::{natpmp, pcp};
use std::net::Ipv4Addr;
use std::time::Duration;

/// For so long after the announcement of a restart, others are its repetitions. And rounds of renewals for announcements
/// are so far apart: anyone who can forge the gateway's address can send them.
const INTERVAL: Duration = Duration::from_secs(10);

/// RFC 6886 §3.7, RFC 6887 §14.1.3: all hosts of the network hear an announcement at once, so each waits for 0 to 5 s.
const SPREAD_MILLIS: u64 = 5000;

/// RFC 6886 §3.2.1: ten announcements, 250 ms between the first two, and twice as long each time. So the last one of a
/// start comes 127.75 s after it.
const SERIES_SECS: u32 = 128;

/// An announcement with the epoch of the last one, so soon after it, repeats it, or tells the same by the other protocol:
/// the gateway's clock need not have ticked in between.
const SAME_WITHIN: Duration = Duration::from_secs(1);

/// What was announced lately, and what has come of it.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    last: Option<Last>,
    /// When one last showed a restart.
    restarted_at: Option<Time>,
    /// When all mappings were last renewed for one.
    renewed_at: Option<Time>,
}

/// The last announcement that was judged.
#[derive(Clone, Copy, Debug)]
struct Last {
    epoch_secs: u32,
    at: Time,
    shown: Announced,
}

/// An announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcement {
    protocol: Protocol,
    epoch_secs: u32,
    /// NAT-PMP tells the external address, too.
    address: Option<Ipv4Addr>,
}

impl Announcement {
    fn read(bytes: &[u8]) -> Option<Announcement> {
        // They have the form of answers: to PCP's ANNOUNCE request, to NAT-PMP's public-address request.
        if let Ok(pcp::Reply::Announce(header)) = pcp::parse(bytes) {
            let is_good = header.result == pcp::ResultCode::Success;
            let announcement =
                Announcement { protocol: Protocol::Pcp, epoch_secs: header.epoch_secs, address: None };
            return is_good.then_some(announcement);
        }
        match natpmp::parse(bytes) {
            Ok(natpmp::Reply::Address { result: natpmp::ResultCode::Success, epoch_secs, address }) => {
                Some(Announcement { protocol: Protocol::NatPmp, epoch_secs, address: Some(address) })
            }
            _ => None,
        }
    }
}

impl Engine {
    /// A datagram came to the announcements' group, from the gateway.
    pub(super) fn handle_announcement(&mut self, now: Time, bytes: &[u8]) {
        let Some(announcement) = Announcement::read(bytes).filter(|_| self.cleanup.is_none()) else { return };
        let shown = self.judge_announcement(now, announcement);
        log!(Debug, "the gateway announces itself: {announcement:?}, {shown:?}");
        if let Some(address) = announcement.address {
            self.natpmp.doubt_address(address);
        }
        match shown {
            Announced::Restarted => {
                self.announcements.restarted_at = Some(now);
                self.timers.cancel(Timer::Announcements);
                self.remake_all_later(now);
            }
            Announced::RunsOn if !self.is_news(announcement) => {}
            Announced::RunsOn | Announced::Repeated | Announced::Unclear => self.renew_all_soon(now),
        }
    }

    /// What an announcement shows. Where its protocol has told no epoch, the other's counts: the same program of the
    /// gateway speaks both.
    fn judge_announcement(&mut self, now: Time, announcement: Announcement) -> Announced {
        let Announcement { protocol, epoch_secs, .. } = announcement;
        if let Some(last) = self.announcements.last
            && last.epoch_secs == epoch_secs
            && now < last.at + SAME_WITHIN
        {
            return if last.shown == Announced::RunsOn { Announced::RunsOn } else { Announced::Repeated };
        }
        let is_repetition = self.announcements.restarted_at.is_some_and(|at| now < at + INTERVAL);
        let judge = match protocol {
            Protocol::Pcp if self.pcp.knows_epoch() => Protocol::Pcp,
            Protocol::NatPmp if !self.natpmp.knows_epoch() => Protocol::Pcp,
            _ => Protocol::NatPmp,
        };
        let shown = match judge {
            Protocol::Pcp => self.pcp.judge_announcement(now, epoch_secs, is_repetition),
            _ => self.natpmp.judge_announcement(cx!(self, now), epoch_secs, is_repetition),
        };
        if shown == Announced::Restarted {
            self.forget_epoch_beside(now, judge);
        }
        self.announcements.last = Some(Last { epoch_secs, at: now, shown });
        shown
    }

    /// Whether an announcement of a gateway whose clock runs on is news all the same: it tells another external address, or
    /// comes later than those of a start. Then the daemon has started, but not its clock (miniupnpd's `system_uptime`).
    fn is_news(&self, announcement: Announcement) -> bool {
        let is_other = |address: Ipv4Addr| {
            self.mappings.values().any(|mapping| match mapping.state {
                State::Mapped { protocol: Protocol::Pcp | Protocol::NatPmp, external, .. } => {
                    external.address != address
                }
                _ => false,
            })
        };
        announcement.epoch_secs > SERIES_SECS || announcement.address.is_some_and(is_other)
    }

    /// The gateway announced that it has lost its mappings: all are made anew.
    fn remake_all_later(&mut self, now: Time) {
        log!(Info, "the gateway announces that it has restarted");
        let at = now + Duration::from_millis(self.random.in_range(0, SPREAD_MILLIS));
        for key in self.mappings.keys() {
            let Some(mapping) = self.mappings.get(&key) else { continue };
            match mapping.state {
                State::Mapped { protocol: Protocol::Direct, .. } | State::Asked { .. } | State::Waiting => {}
                State::Mapped { .. } => {
                    self.lose(key);
                    self.put_off(key, at);
                }
                State::Refused => self.look_sooner(key, at),
            }
        }
        self.look_for_those_that_wait(now);
    }

    /// All mappings are to be renewed, but not too often.
    fn renew_all_soon(&mut self, now: Time) {
        let before =
            [self.announcements.restarted_at, self.announcements.renewed_at].into_iter().flatten().max();
        match before.map(|at| at + INTERVAL) {
            Some(at) if at > now => self.timers.set(Timer::Announcements, at),
            _ => self.renew_all(now),
        }
    }

    /// The gateway may have lost its mappings: all are renewed, which makes anew what is lost. No state changes.
    pub(super) fn renew_all(&mut self, now: Time) {
        self.announcements.renewed_at = Some(now);
        for key in self.mappings.keys() {
            let at = now + Duration::from_millis(self.random.in_range(0, SPREAD_MILLIS));
            let Some(mapping) = self.mappings.get_mut(&key) else { continue };
            match &mut mapping.state {
                State::Mapped { protocol: Protocol::Direct, .. } | State::Asked { .. } | State::Waiting => {}
                State::Mapped { lease: Some(lease), .. } if lease.next == LeaseStep::Send => {}
                State::Mapped { lease: Some(lease), .. } => {
                    lease.next = LeaseStep::Renew;
                    self.look_sooner(key, at);
                }
                // A gateway that is back may be one that grants.
                State::Mapped { lease: None, .. } | State::Refused => self.look_sooner(key, at),
            }
        }
        self.look_for_those_that_wait(now);
    }

    fn look_sooner(&mut self, key: Key, at: Time) {
        if self.timers.get(Timer::Mapping(key)).is_none_or(|set| at < set) {
            self.timers.set(Timer::Mapping(key), at);
        }
    }

    fn look_for_those_that_wait(&mut self, now: Time) {
        if !self.waiting.is_empty() {
            self.handle_network_changed(now);
        }
    }
}
