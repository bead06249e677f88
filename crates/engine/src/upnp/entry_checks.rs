//! Checks entries that should be there: some gateways grant an entry and do not make it, or do not keep it.

use super::action::{Outcome, Owner, code};
use super::exchange::Job;
use super::service::Visibility;
use super::{SHORT_TIMEOUT, TaskId, Timer, Upnp};
use crate::driver::{Notice, Rung, Slot};
use crate::io::Cx;
use crate::log::log;
use crate::ordered::Map;
use crate::schedule::{PACKETS_AN_EXCHANGE, RENEWAL_FLOOR};
use crate::time::Time;
use std::collections::LinkedList;
use std::net::IpAddr;
use std::time::Duration;

/// When an entry is checked after its grant.
const EARLY_CHECKS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];
/// The shortest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Checks in flight, at most: some gateways never answer them, and mappings must not wait for that.
const MAX_UNDER_WAY: usize = 2;
/// How often, at most, an entry is checked after its early checks, unless the recheck interval is longer.
const ENTRY_INTERVAL: Duration = Duration::from_secs(30);
/// How often, at most, ssdp:alive of a device triggers a check of its entries.
pub(super) const DEVICE_INTERVAL: Duration = Duration::from_secs(5);
/// How often, at most, an entry that is gone triggers checks of the other entries of its service.
const ALARM_INTERVAL: Duration = Duration::from_secs(30);
/// How long after the end of the first lease a renewed entry is checked.
const LEASE_END_MARGIN: Duration = Duration::from_secs(1);
/// How much shorter a lease may seem than it is: the gateway counts whole seconds, and its reply takes time.
const LEASE_SLACK: Duration = Duration::from_secs(5);
/// The unit in which the gateway reports the rest of a lease.
const LEASE_UNIT: Duration = Duration::from_secs(1);

/// An entry that is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedEntry {
    slot: Slot,
    granted_at: Time,
    lifetime: Option<Duration>,
    /// When the first lease of the entry ends, which renewals may not extend; `None`: they do, or it is permanent.
    first_lease_ends_at: Option<Time>,
    /// How many early checks are done.
    early_checks: usize,
    /// Consecutive early checks that found it gone.
    pub(super) gone_early: u8,
    checked_at: Option<Time>,
    /// It waits for its turn to be checked.
    waits: bool,
}

impl CheckedEntry {
    fn expires_at(&self) -> Option<Time> {
        self.lifetime.map(|lifetime| self.granted_at + lifetime)
    }

    /// When to check it next, rechecks aside.
    fn next_check_at(&self) -> Option<Time> {
        match EARLY_CHECKS.get(self.early_checks) {
            Some(&after) => Some(self.granted_at + after),
            None => self.first_lease_ends_at.map(|at| at + LEASE_END_MARGIN),
        }
    }
}

/// The entries that are checked.
#[derive(Debug, Default)]
pub(super) struct EntryChecks {
    pub(super) entries: Map<TaskId, CheckedEntry>,
    /// The entries that wait for their turn.
    queue: LinkedList<TaskId>,
    /// The time of the next check at the earliest.
    next_at: Time,
    alarmed_at: Option<Time>,
}

impl Upnp {
    /// Records that an entry was made or renewed.
    pub(super) fn note_made(&mut self, now: Time, slot: Slot, lifetime: Option<Duration>, renews: bool) {
        let id = TaskId::of(slot);
        let first_lease_ends_at = lifetime.map(|lifetime| now + lifetime);
        let entry = self.entry_checks.entries.get_or_insert_with(id, || CheckedEntry {
            slot,
            granted_at: now,
            lifetime,
            first_lease_ends_at,
            early_checks: 0,
            gone_early: 0,
            checked_at: None,
            waits: false,
        });
        (entry.slot, entry.granted_at, entry.lifetime) = (slot, now, lifetime);
        if !renews {
            (entry.first_lease_ends_at, entry.early_checks) = (first_lease_ends_at, 0);
        }
        self.schedule_check(id);
    }

    /// Sets the timer for the next check of an entry, rechecks aside.
    pub(super) fn schedule_check(&mut self, id: TaskId) {
        self.timers.replace(
            Timer::EntryCheck(id),
            self.entry_checks.entries.get(&id).and_then(CheckedEntry::next_check_at),
        );
    }

    /// Queues a check of an entry.
    pub(super) fn check_entry(&mut self, cx: &mut Cx, id: TaskId) {
        if let Some(entry) = self.entry_checks.entries.get_mut(&id)
            && !std::mem::replace(&mut entry.waits, true)
        {
            self.entry_checks.queue.push_back(id);
            self.schedule_check_turn(cx);
        }
    }

    /// Takes a turn in the pace for the next check.
    fn schedule_check_turn(&mut self, cx: &mut Cx) {
        if !self.entry_checks.queue.is_empty() && self.timers.get(Timer::EntryCheckTurn).is_none() {
            // After a loss, entries are checked twice as fast: half of the packets are taken from the reserve for
            // urgent ones.
            let is_alarmed = self.entry_checks.alarmed_at.is_some_and(|at| cx.now.since(at) < ALARM_INTERVAL);
            let packets = PACKETS_AN_EXCHANGE / if is_alarmed { 2 } else { 1 };
            let at = cx.pace.take(cx.now, packets).max(self.entry_checks.next_at);
            self.entry_checks.next_at = at + CHECK_INTERVAL;
            self.timers.set(Timer::EntryCheckTurn, at);
        }
    }

    /// Sends the next check.
    pub(super) fn take_check_turn(&mut self, cx: &mut Cx) {
        while self.exchanges.count(|job| matches!(job, Job::CheckEntry(_))) < MAX_UNDER_WAY
            && let Some(id) = self.entry_checks.queue.pop_front()
        {
            // Whether the service is known, and shows its entries.
            let is_worth_it = self.services.get(id.rung).is_some_and(|service| match service.visibility {
                Visibility::Hidden { until, sampled } => cx.now >= until || sampled == id.key,
                Visibility::Unknown | Visibility::Shown(_) => true,
            });
            let is_busy = self.tasks.contains_key(&id);
            let Some(entry) = self.entry_checks.entries.get_mut(&id) else { continue };
            // The reply to an open request says more than a check.
            if !std::mem::take(&mut entry.waits) || is_busy || !is_worth_it {
                continue;
            }
            entry.checked_at = Some(cx.now);
            let slot = entry.slot;
            self.enqueue(Job::CheckEntry(slot), SHORT_TIMEOUT);
            break;
        }
        self.schedule_check_turn(cx);
    }

    /// A recheck: requests the external address of each service in use, and checks the entries that were not checked
    /// recently.
    pub(super) fn recheck_entries(&mut self, cx: &mut Cx) {
        self.search_for_better(cx);
        let now = cx.now;
        let mut in_use: Vec<Rung> = self.entry_checks.entries.iter().map(|(id, _)| id.rung).collect();
        in_use.dedup();
        for &id in &in_use {
            if self.services.get(id).is_some_and(|service| !service.address.is_just_told(now)) {
                self.ask_address(id);
            }
        }
        for id in in_use {
            let mut due: Vec<(Option<Time>, TaskId)> = self
                .entry_checks
                .entries
                .iter()
                .filter(|&(task, entry)| {
                    // Its early checks are done, or were skipped.
                    let has_timer = self.timers.get(Timer::EntryCheck(task)).is_some();
                    task.rung == id && (entry.early_checks >= EARLY_CHECKS.len() || !has_timer)
                })
                .filter(|(_, entry)| entry.checked_at.is_none_or(|at| now.since(at) >= ENTRY_INTERVAL))
                .map(|(task, entry)| (entry.checked_at, task))
                .collect();
            if cx.config.recheck_interval < ENTRY_INTERVAL {
                // One entry at a time, the one checked longest ago.
                due.sort_by_key(|&(checked_at, _)| checked_at);
                due.truncate(1);
            }
            for (_, task) in due {
                self.check_entry(cx, task);
            }
        }
    }

    /// Checks one entry of a device, which shows whether its table was kept.
    pub(super) fn check_one_entry(&mut self, cx: &mut Cx, device: u32) {
        if self.is_ipv6() {
            return self.look_at_one(cx, device);
        }
        let services = self.services.of_device(device);
        let found = self.entry_checks.entries.iter().find(|(task, _)| services.contains(&task.rung));
        let Some((task, entry)) = found else { return };
        let at = entry.checked_at.map_or(cx.now, |at| at + DEVICE_INTERVAL);
        if at <= cx.now {
            self.check_entry(cx, task);
        } else {
            self.timers.set_sooner(Timer::EntryCheck(task), at);
        }
    }

    /// Stops checking an entry that is being changed or deleted.
    pub(super) fn stop_checks(&mut self, cx: &mut Cx, slot: Slot) {
        let id = TaskId::of(slot);
        if self.entry_checks.entries.get(&id).is_none_or(|entry| entry.slot != slot) {
            return;
        }
        if self.exchanges.is_written(Job::CheckEntry(slot)) {
            self.exchanges.discard(cx, true, |job| job == Job::CheckEntry(slot));
        }
        self.entry_checks.entries.remove(&id);
        self.timers.cancel(Timer::EntryCheck(id));
    }

    pub(super) fn handle_entry(&mut self, cx: &mut Cx, slot: Slot, outcome: &Outcome, client: IpAddr) {
        let id = TaskId::of(slot);
        let Some(entry) = self.entry_checks.entries.get_mut(&id) else { return };
        let is_overtaken =
            self.tasks.contains_key(&id) || entry.checked_at.is_none_or(|at| at <= entry.granted_at);
        if entry.slot != slot || is_overtaken {
            // The entry was made again or requested meanwhile.
            return self.schedule_check(id);
        }
        let is_early = entry.early_checks < EARLY_CHECKS.len();
        entry.early_checks += usize::from(is_early);
        if let Some(at) = entry.first_lease_ends_at.filter(|&at| !is_early && at <= cx.now) {
            // One check is enough, whatever it shows, unless the entry is that of a renewal sent after the end of the
            // lease.
            let is_remade = entry.granted_at + LEASE_SLACK >= at;
            entry.first_lease_ends_at = entry.expires_at().filter(|_| is_remade);
        }
        let is_gone = match outcome.owner(slot.key, slot.port, client) {
            Owner::Ours => {
                entry.gone_early = 0;
                self.compare_lease(cx, id, outcome);
                self.note_shown(cx, id.rung);
                false
            }
            Owner::Foreign => true,
            Owner::Unclear => *outcome == Outcome::Fault(code::NO_SUCH_ENTRY),
        };
        if is_gone {
            self.handle_gone(cx, id, is_early);
        } else {
            self.schedule_check(id);
        }
    }

    fn handle_gone(&mut self, cx: &mut Cx, id: TaskId, is_early: bool) {
        let Some(entry) = self.entry_checks.entries.get_mut(&id) else { return };
        let slot = entry.slot;
        if is_early {
            entry.gone_early = entry.gone_early.saturating_add(1);
            let is_new = cx.now.since(entry.granted_at) < ENTRY_INTERVAL;
            let span = cx.config.recheck_interval.max(ENTRY_INTERVAL);
            let service = self.services.get_mut(id.rung).filter(|_| entry.lifetime.is_none());
            match service.map(|service| &mut service.visibility) {
                // It was made again, to see whether it is hidden again: it counts as not checked.
                Some(Visibility::Hidden { until, .. }) if cx.now < *until => {
                    entry.early_checks = 0;
                    return self.timers.cancel(Timer::EntryCheck(id));
                }
                Some(Visibility::Shown(at)) if !is_new && cx.now.since(*at) <= span => {}
                Some(visibility) => {
                    log!(Info, "UPnP-IGD: the gateway does not show its entries");
                    *visibility = Visibility::Hidden { until: cx.now + span, sampled: id.key };
                }
                None => {}
            }
        }
        log!(Info, "UPnP-IGD: the entry of {} at external port {} is gone", slot.key, slot.port);
        cx.ledger.end(slot);
        self.timers.cancel(Timer::EntryCheck(id));
        self.notices.push_back(Notice::Gone { slot, quiet: is_early });
        if is_early {
            return;
        }
        self.entry_checks.entries.remove(&id);
        if self.entry_checks.alarmed_at.is_none_or(|at| cx.now.since(at) >= ALARM_INTERVAL) {
            self.entry_checks.alarmed_at = Some(cx.now);
            self.check_all_of(cx, id.rung);
        }
    }

    /// A service does not make an entry. One that was gone is not checked any more. If its service seemed to hide entries
    /// because of it, the others are checked: it was lost indeed.
    pub(super) fn note_not_made(&mut self, cx: &mut Cx, id: TaskId) {
        let is_gone = |entry: &CheckedEntry| cx.ledger.get(entry.slot).is_none();
        if !self.entry_checks.entries.get(&id).is_some_and(is_gone) {
            return;
        }
        self.entry_checks.entries.remove(&id);
        self.timers.cancel(Timer::EntryCheck(id));
        let visibility = self.services.get_mut(id.rung).map(|service| &mut service.visibility);
        if let Some(visibility) = visibility
            && matches!(visibility, Visibility::Hidden { sampled, .. } if *sampled == id.key)
        {
            *visibility = Visibility::Unknown;
            self.check_all_of(cx, id.rung);
        }
    }

    /// Checks all entries of a service.
    fn check_all_of(&mut self, cx: &mut Cx, rung: Rung) {
        for id in self.entry_checks.entries.keys_where(|id, _| id.rung == rung) {
            self.check_entry(cx, id);
        }
    }

    /// A service has shown an entry of ours. If it had hidden some, the others are checked again.
    fn note_shown(&mut self, cx: &mut Cx, id: Rung) {
        let Some(service) = self.services.get_mut(id) else { return };
        if let Visibility::Hidden { .. } =
            std::mem::replace(&mut service.visibility, Visibility::Shown(cx.now))
        {
            self.check_all_of(cx, id);
        }
    }

    /// Compares the rest of a lease with the grant: some gateways keep entries for less time than they grant.
    fn compare_lease(&mut self, cx: &mut Cx, id: TaskId, outcome: &Outcome) {
        let Some(entry) = self.entry_checks.entries.get_mut(&id) else { return };
        let Some(left) = outcome.lease_left() else { return };
        let ends_at = cx.now + left + LEASE_UNIT;
        if entry.first_lease_ends_at.is_some_and(|at| ends_at.since(at).max(at.since(ends_at)) <= LEASE_SLACK)
        {
            // Renewals do not extend it: the check at its end finds it gone.
            return;
        }
        let expected = entry.expires_at().map_or(Duration::MAX, |at| at.since(cx.now));
        // A lease that is almost over is not reported: the next check finds the entry gone.
        let kept_for = ends_at.since(entry.granted_at);
        let Some(service) = self.services.get_mut(id.rung) else { return };
        if service.longest_lease.is_some_and(|longest| longest + LEASE_SLACK < kept_for) {
            service.longest_lease = None;
        }
        if left + LEASE_SLACK < expected && left >= 2 * RENEWAL_FLOOR {
            log!(Info, "UPnP-IGD: the gateway keeps {} for {} s only", entry.slot.key, kept_for.as_secs());
            (entry.lifetime, service.longest_lease) = (Some(kept_for), Some(kept_for));
            entry.first_lease_ends_at = entry.first_lease_ends_at.map(|at| at.min(ends_at));
            self.notices.push_back(Notice::EndsIn { slot: entry.slot, left });
        }
    }
}
