//! Unsolicited announcements of a gateway to all hosts: that it has started, or has another external address.

use super::epoch::EpochCheck;
use super::io::Protocol;
use super::mapping::Hold;
use super::{Drivers, Engine, Timer};
use crate::log::log;
use crate::time::Time;
use plum_wire::{natpmp, pcp};
use std::net::Ipv4Addr;
use std::time::Duration;

/// For this long after the announcement of a restart, further ones are its repetitions. It is also the shortest time
/// between two rounds of renewals for announcements, since anyone who can forge the gateway's address can send them.
const INTERVAL: Duration = Duration::from_secs(10);

/// RFC 6886 §3.7, RFC 6887 §14.1.3: all hosts receive an announcement at once, so each waits for a random 0 to 5 s.
const SPREAD_MILLIS: u64 = 5000;

/// RFC 6886 §3.2.1: ten announcements, the first two 250 ms apart, each further interval twice as long. So the last one
/// follows the start after 127.75 s.
const SERIES_SECS: u32 = 128;

/// The latest announcements and our reactions to them.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// When an announcement last showed a restart.
    restarted_at: Option<Time>,
    /// When all mappings were last renewed because of one.
    renewed_at: Option<Time>,
}

/// The epoch of an announcement, and the external address of a NAT-PMP one.
fn read(bytes: &[u8]) -> Option<(u32, Option<Ipv4Addr>)> {
    // An announcement has the form of a reply: to PCP's ANNOUNCE request, or to NAT-PMP's external address request.
    match (pcp::parse(bytes), natpmp::parse(bytes)) {
        (Ok(pcp::Reply::Announce(header)), _) => {
            (header.result == pcp::ResultCode::Success).then_some((header.epoch_secs, None))
        }
        (_, Ok(natpmp::Reply::Address { result: natpmp::ResultCode::Success, epoch_secs, address })) => {
            Some((epoch_secs, Some(address)))
        }
        _ => None,
    }
}

impl Engine {
    /// A datagram from the gateway was received on the announcement socket.
    pub(super) fn handle_announcement(&mut self, now: Time, bytes: &[u8]) {
        let Some((epoch_secs, address)) = read(bytes).filter(|_| !self.cx.is_cleaning_up()) else {
            return;
        };
        let shown = self.judge_announcement(now, epoch_secs, address.is_none());
        let protocol = if address.is_none() { Protocol::Pcp } else { Protocol::NatPmp };
        log!(Debug, "{protocol}: the gateway announces epoch {epoch_secs} s");
        if let Some(address) = address {
            self.drivers.natpmp.doubt_address(address);
        }
        match shown {
            EpochCheck::Restarted => {
                self.announcements.restarted_at = Some(now);
                self.timers.cancel(Timer::RenewAll);
                self.note_change(now);
                log!(Info, "{protocol}: the gateway announces that it has restarted");
                let delay = Duration::from_millis(self.cx.random.in_range(0, SPREAD_MILLIS));
                for key in self.mappings.held(|_| true) {
                    self.remake(now, key, delay);
                }
            }
            EpochCheck::Fits if !self.is_news(epoch_secs, address) => {}
            _ => {
                self.note_change(now);
                // But at most once in INTERVAL.
                let Announcements { restarted_at, renewed_at, .. } = self.announcements;
                let at = restarted_at.max(renewed_at).map_or(now, |at| now.max(at + INTERVAL));
                self.timers.set(Timer::RenewAll, at);
            }
        }
    }

    /// What the epoch of an announcement shows. If its protocol has not told an epoch yet, the other protocol's counts:
    /// one program on the gateway usually speaks both.
    fn judge_announcement(&mut self, now: Time, epoch_secs: u32, is_pcp: bool) -> EpochCheck {
        let is_repetition = self.announcements.restarted_at.is_some_and(|at| now < at + INTERVAL);
        let Drivers { pcp, natpmp, .. } = &mut self.drivers;
        let by_pcp = if is_pcp { pcp.epoch.is_known() } else { !natpmp.epoch.is_known() };
        let (server, other) = if by_pcp { (pcp, natpmp) } else { (natpmp, pcp) };
        let shown = server.epoch.judge_announcement(now, epoch_secs, is_repetition);
        if shown == EpochCheck::Restarted {
            server.forget_granted(self.cx.at(now), None);
            other.forget_epoch(self.cx.at(now));
        }
        shown
    }

    /// Whether an announcement with a continuous epoch still shows a change: it has another external address, or comes
    /// later than those after a start. Then the daemon has restarted without its epoch (miniupnpd's `system_uptime`).
    fn is_news(&self, epoch_secs: u32, address: Option<Ipv4Addr>) -> bool {
        let is_other = |address: Ipv4Addr| {
            let is_own = |hold: &Hold| hold.slot.rung.service().is_none();
            !self.mappings.held(|hold| is_own(hold) && hold.external.address != address).is_empty()
        };
        epoch_secs > SERIES_SECS || address.is_some_and(is_other)
    }

    /// Renews all mappings, since the gateway may have lost them. No state changes.
    pub(super) fn renew_all(&mut self, now: Time) {
        self.announcements.renewed_at = Some(now);
        for key in self.mappings.held(|_| true) {
            let at = now + Duration::from_millis(self.cx.random.in_range(0, SPREAD_MILLIS));
            let Some(hold) = self.mappings.hold_mut(key) else { continue };
            if !hold.has_turn && self.timers.get(Timer::Mapping(key)).is_none_or(|set| at < set) {
                self.timers.set(Timer::Mapping(key), at);
            }
        }
    }
}
