//! What a recheck asks firewall control: whether pinholes are still there, and whether the firewall is still off.

use super::action::Outcome;
use super::entry_checks::DEVICE_INTERVAL;
use super::exchange::Job;
use super::pinholes::{Opening, OpeningState, Pinhole};
use super::{Device, DeviceState, SHORT_TIMEOUT, TaskId, Timer, Upnp};
use crate::driver::{Key, RequestKind, Rung};
use crate::io::Cx;
use crate::schedule::PACKETS_AN_EXCHANGE;
use crate::time::Time;
use std::time::Duration;

/// The shortest time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looks in flight, at most.
const MAX_UNDER_WAY: usize = 2;
/// How often, at most, a pinhole is looked at, unless the recheck interval is longer.
const PINHOLE_INTERVAL: Duration = Duration::from_secs(30);

impl Upnp {
    /// A service on the gateway that opens pinholes.
    pub(crate) fn firewall_control(&self) -> Option<Rung> {
        let mut services = self.services.list.iter().filter(|_| self.is_ipv6());
        services.find(|service| service.on_gateway).map(|service| service.rung)
    }

    /// Searches for firewall control, for a pinhole that PCP does not delete. Whether it can be found.
    pub(crate) fn seek_firewall_control(&mut self, cx: &mut Cx) -> bool {
        self.is_sought = self.is_open == Some(true);
        if self.is_sought && self.search.rounds.is_none() {
            self.find(cx);
        }
        self.resting &= !self.is_sought;
        self.settle(cx);
        self.is_firewall_control_sought()
    }

    /// Whether firewall control is sought and may still be found.
    pub(crate) fn is_firewall_control_sought(&self) -> bool {
        let is_fetching = |device: &Device| device.state == DeviceState::Fetching;
        let is_at_work = self.search.rounds.is_some() || self.devices.list.iter().any(is_fetching);
        self.is_sought && is_at_work && self.firewall_control().is_none()
    }

    /// The service on the gateway that says that the firewall is off.
    pub(crate) fn rung_without_firewall(&self) -> Option<Rung> {
        self.services.list.iter().find(|service| service.firewall.is_off).map(|service| service.rung)
    }

    /// Asks a service for the status of the firewall, unless it is known.
    pub(super) fn ask_firewall(&mut self, rung: Rung) {
        let is_unknown = self.services.get(rung).is_some_and(|service| service.firewall.status.is_none());
        if is_unknown && !self.exchanges.has(|job| job == Job::Firewall(rung)) {
            self.enqueue(Job::Firewall(rung), SHORT_TIMEOUT);
        }
    }

    /// Handles the status of the firewall.
    pub(super) fn handle_firewall(&mut self, cx: &mut Cx, rung: Rung, outcome: &Outcome) {
        let Some(service) = self.services.get_mut(rung) else { return };
        service.firewall.status = outcome.firewall_status();
        let is_answered = |id: TaskId, opening: &Opening| {
            id.rung == rung && matches!(opening.state, OpeningState::Answered(_))
        };
        for id in self.pinholes.openings.keys_where(is_answered) {
            self.conclude(cx, id);
        }
    }

    /// The firewall is off: asks for the pinhole of one mapping, whose answer shows whether it still is.
    pub(crate) fn recheck_firewall(&mut self, cx: &mut Cx, rung: Rung, key: Key) {
        let id = TaskId { rung, key };
        if !self.pinholes.openings.contains_key(&id) {
            self.begin_opening(cx, id, None, RequestKind::Retry);
        }
        self.settle(cx);
    }

    /// A recheck: looks at the pinholes that were not looked at recently, in the pace.
    pub(super) fn recheck_pinholes(&mut self, cx: &mut Cx) {
        self.search_for_better(cx);
        self.pinholes.known.retain(|id, _| cx.ledger.get(id.slot(0)).is_some());
        let now = cx.now;
        let is_due = |pinhole: &Pinhole| {
            pinhole.is_held && !pinhole.waits && now.since(pinhole.looked_at) >= PINHOLE_INTERVAL
        };
        let known = self.pinholes.known.iter().filter(|(_, pinhole)| is_due(pinhole));
        let mut due: Vec<(Time, TaskId)> = known.map(|(id, pinhole)| (pinhole.looked_at, id)).collect();
        if cx.config.recheck_interval < PINHOLE_INTERVAL {
            // One at a time, the one looked at longest ago.
            due.sort();
            due.truncate(1);
        }
        for (_, id) in due {
            if let Some(pinhole) = self.pinholes.known.get_mut(&id) {
                pinhole.waits = true;
                self.pinholes.queue.push_back(id);
            }
        }
        self.schedule_look(cx);
    }

    /// A device has announced itself: one of its pinholes shows whether its table was kept.
    pub(super) fn look_at_one(&mut self, cx: &mut Cx, device: u32) {
        let services = self.services.of_device(device);
        let is_due =
            |id: TaskId, pinhole: &Pinhole| services.contains(&id.rung) && pinhole.is_held && !pinhole.waits;
        let is_recent = |id: &TaskId| {
            let known = self.pinholes.known.get(id);
            known.is_none_or(|pinhole| cx.now.since(pinhole.looked_at) < DEVICE_INTERVAL)
        };
        let found = self.pinholes.known.keys_where(is_due).iter().next().copied();
        if let Some(id) = found.filter(|id| !is_recent(id))
            && let Some(pinhole) = self.pinholes.known.get_mut(&id)
        {
            pinhole.waits = true;
            self.pinholes.queue.push_back(id);
            self.schedule_look(cx);
        }
    }

    /// Takes a turn in the pace for the next look.
    fn schedule_look(&mut self, cx: &mut Cx) {
        if !self.pinholes.queue.is_empty() && self.timers.get(Timer::EntryCheckTurn).is_none() {
            let at = cx.pace.take(cx.now, PACKETS_AN_EXCHANGE).max(self.pinholes.next_look_at);
            self.pinholes.next_look_at = at + LOOK_INTERVAL;
            self.timers.set(Timer::EntryCheckTurn, at);
        }
    }

    /// Sends the next look.
    pub(super) fn take_look_turn(&mut self, cx: &mut Cx) {
        while self.pinholes.openings.iter().count() < MAX_UNDER_WAY
            && let Some(id) = self.pinholes.queue.pop_front()
        {
            let Some(pinhole) = self.pinholes.known.get_mut(&id) else { continue };
            let is_wanted = std::mem::take(&mut pinhole.waits) && pinhole.is_held;
            if is_wanted && self.services.get(id.rung).is_some() && !self.pinholes.openings.contains_key(&id)
            {
                self.begin_opening(cx, id, None, RequestKind::Renew);
                break;
            }
        }
        self.schedule_look(cx);
    }
}
