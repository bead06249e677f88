//! Looks at entries that should be there: some gateways grant and do not make, or make and do not keep.

use super::action::{Outcome, Owner, code};
use super::exchange::Job;
use super::service::Candor;
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

/// When an entry is looked at after it was granted.
const EARLY_LOOKS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];
/// At most ten looks a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// At most so many looks are under way: some gateways have no answer to those, and mappings must not wait for it.
const MAX_UNDER_WAY: usize = 2;
/// An entry is looked at at most this often after its early looks, unless the recheck period is longer.
const ENTRY_INTERVAL: Duration = Duration::from_secs(30);
/// The entries of a device that says that it is there are looked at at most this often.
const DEVICE_INTERVAL: Duration = Duration::from_secs(5);
/// One entry that is gone brings the looks at the others of its service forward, at most this often.
const ALARM_INTERVAL: Duration = Duration::from_secs(30);
/// How long after the end of a first lease to look, where only renewals have been granted since.
const LEASE_END_MARGIN: Duration = Duration::from_secs(1);
/// A lease may seem shorter by this than it is: the gateway counts whole seconds, and its answer takes its time.
const LEASE_SLACK: Duration = Duration::from_secs(5);
/// The gateway tells what is left of a lease in these units.
const LEASE_UNIT: Duration = Duration::from_secs(1);

/// An entry that is looked after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    slot: Slot,
    granted_at: Time,
    lifetime: Option<Duration>,
    /// When the lease ends that the entry was made with; renewals may not extend it. `None`: they do, or it is permanent.
    first_lease_ends_at: Option<Time>,
    /// How many early looks are done.
    early_looks: usize,
    /// How often in a row it was gone at an early look.
    pub(super) gone_early: u8,
    looked_at: Option<Time>,
    /// It waits for its turn.
    waits: bool,
}

impl Kept {
    fn expires_at(&self) -> Option<Time> {
        self.lifetime.map(|lifetime| self.granted_at + lifetime)
    }

    /// When to look at it next without a recheck.
    fn next_look(&self) -> Option<Time> {
        match EARLY_LOOKS.get(self.early_looks) {
            Some(&after) => Some(self.granted_at + after),
            None => self.first_lease_ends_at.map(|at| at + LEASE_END_MARGIN),
        }
    }
}

/// The entries that are looked after.
#[derive(Debug, Default)]
pub(super) struct Looks {
    pub(super) kept: Map<TaskId, Kept>,
    /// Those to be looked at, in turn.
    queue: LinkedList<TaskId>,
    /// No look before this.
    next_at: Time,
    alarmed_at: Option<Time>,
}

impl Upnp {
    /// An entry was made or renewed.
    pub(super) fn note_made(&mut self, now: Time, slot: Slot, lifetime: Option<Duration>, renews: bool) {
        let id = TaskId::of(slot);
        let first_lease_ends_at = lifetime.map(|lifetime| now + lifetime);
        let kept = self.looks.kept.get_or_insert_with(id, || Kept {
            slot,
            granted_at: now,
            lifetime,
            first_lease_ends_at,
            early_looks: 0,
            gone_early: 0,
            looked_at: None,
            waits: false,
        });
        (kept.slot, kept.granted_at, kept.lifetime) = (slot, now, lifetime);
        if !renews {
            (kept.first_lease_ends_at, kept.early_looks) = (first_lease_ends_at, 0);
        }
        self.schedule_look(id);
    }

    /// Sets the time of the next look at an entry that follows its grant.
    pub(super) fn schedule_look(&mut self, id: TaskId) {
        self.timers.replace(Timer::Look(id), self.looks.kept.get(&id).and_then(Kept::next_look));
    }

    /// An entry is to be looked at, in its turn.
    pub(super) fn look(&mut self, cx: &mut Cx, id: TaskId) {
        if let Some(kept) = self.looks.kept.get_mut(&id)
            && !std::mem::replace(&mut kept.waits, true)
        {
            self.looks.queue.push_back(id);
            self.schedule_look_turn(cx);
        }
    }

    /// The next look takes its place in the pace.
    fn schedule_look_turn(&mut self, cx: &mut Cx) {
        if !self.looks.queue.is_empty() && self.timers.get(Timer::LookTurn).is_none() {
            // What a gateway has lost is found out sooner: half of it out of what is left for what cannot wait.
            let is_alarmed = self.looks.alarmed_at.is_some_and(|at| cx.now.since(at) < ALARM_INTERVAL);
            let packets = PACKETS_AN_EXCHANGE / if is_alarmed { 2 } else { 1 };
            let at = cx.pace.take(cx.now, packets).max(self.looks.next_at);
            self.looks.next_at = at + LOOK_INTERVAL;
            self.timers.set(Timer::LookTurn, at);
        }
    }

    /// The next look has its turn.
    pub(super) fn take_look_turn(&mut self, cx: &mut Cx) {
        while self.exchanges.count(|job| matches!(job, Job::Look(_))) < MAX_UNDER_WAY
            && let Some(id) = self.looks.queue.pop_front()
        {
            // Whether the service is there, and likely to tell the truth.
            let is_worth_it = self.services.get(id.rung).is_some_and(|service| match service.candor {
                Candor::Denies { until, witness } => cx.now >= until || witness == id.key,
                Candor::Unknown | Candor::Shows(_) => true,
            });
            let is_busy = self.tasks.contains_key(&id);
            let Some(kept) = self.looks.kept.get_mut(&id) else { continue };
            // The answer to what is busy says more than a look.
            if !std::mem::take(&mut kept.waits) || is_busy || !is_worth_it {
                continue;
            }
            kept.looked_at = Some(cx.now);
            let slot = kept.slot;
            self.enqueue(Job::Look(slot), SHORT_TIMEOUT);
            break;
        }
        self.schedule_look_turn(cx);
    }

    /// A recheck: the external address once a service, and the entries that have not been looked at for long.
    pub(super) fn look_after(&mut self, cx: &mut Cx) {
        self.search_for_better(cx);
        let now = cx.now;
        let mut in_use: Vec<Rung> = self.looks.kept.iter().map(|(id, _)| id.rung).collect();
        in_use.dedup();
        for &id in &in_use {
            if self.services.get(id).is_some_and(|service| !service.address.is_just_told(now)) {
                self.ask_address(id);
            }
        }
        for id in in_use {
            let mut due: Vec<(Option<Time>, TaskId)> = self
                .looks
                .kept
                .iter()
                .filter(|&(task, kept)| {
                    // No early look is to come, or its time came when there were none.
                    let has_timer = self.timers.get(Timer::Look(task)).is_some();
                    task.rung == id && (kept.early_looks >= EARLY_LOOKS.len() || !has_timer)
                })
                .filter(|(_, kept)| kept.looked_at.is_none_or(|at| now.since(at) >= ENTRY_INTERVAL))
                .map(|(task, kept)| (kept.looked_at, task))
                .collect();
            if cx.config.recheck_interval < ENTRY_INTERVAL {
                // In turn: the one that was not looked at for longest.
                due.sort_by_key(|&(looked_at, _)| looked_at);
                due.truncate(1);
            }
            for (_, task) in due {
                self.look(cx, task);
            }
        }
    }

    /// One entry at a device shows whether it has kept its table.
    pub(super) fn look_at_one(&mut self, cx: &mut Cx, device: u32) {
        let services = self.services.of_device(device);
        let found = self.looks.kept.iter().find(|(task, _)| services.contains(&task.rung));
        let Some((task, kept)) = found else { return };
        let at = kept.looked_at.map_or(cx.now, |at| at + DEVICE_INTERVAL);
        if at <= cx.now {
            self.look(cx, task);
        } else {
            self.timers.set_sooner(Timer::Look(task), at);
        }
    }

    /// An entry is being changed or removed: it is not looked after any more.
    pub(super) fn stop_looking(&mut self, cx: &mut Cx, slot: Slot) {
        let id = TaskId::of(slot);
        if self.looks.kept.get(&id).is_none_or(|kept| kept.slot != slot) {
            return;
        }
        if self.exchanges.is_written(Job::Look(slot)) {
            self.exchanges.discard(cx, true, |job| job == Job::Look(slot));
        }
        self.looks.kept.remove(&id);
        self.timers.cancel(Timer::Look(id));
    }

    pub(super) fn handle_look(&mut self, cx: &mut Cx, slot: Slot, outcome: &Outcome, client: IpAddr) {
        let id = TaskId::of(slot);
        let Some(kept) = self.looks.kept.get_mut(&id) else { return };
        let is_overtaken =
            self.tasks.contains_key(&id) || kept.looked_at.is_none_or(|at| at <= kept.granted_at);
        if kept.slot != slot || is_overtaken {
            // Made anew, perhaps at another port, or asked for meanwhile.
            return self.schedule_look(id);
        }
        let is_early = kept.early_looks < EARLY_LOOKS.len();
        kept.early_looks += usize::from(is_early);
        if let Some(at) = kept.first_lease_ends_at.filter(|&at| !is_early && at <= cx.now) {
            // One look is enough, whatever it says, unless the entry is that of a renewal which came when the lease had ended.
            let is_remade = kept.granted_at + LEASE_SLACK >= at;
            kept.first_lease_ends_at = kept.expires_at().filter(|_| is_remade);
        }
        let is_gone = match outcome.owner(slot.key, slot.port, client) {
            Owner::Ours => {
                kept.gone_early = 0;
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
            self.schedule_look(id);
        }
    }

    fn handle_gone(&mut self, cx: &mut Cx, id: TaskId, is_early: bool) {
        let Some(kept) = self.looks.kept.get_mut(&id) else { return };
        let slot = kept.slot;
        if is_early {
            kept.gone_early = kept.gone_early.saturating_add(1);
            let is_new = cx.now.since(kept.granted_at) < ENTRY_INTERVAL;
            let span = cx.config.recheck_interval.max(ENTRY_INTERVAL);
            let service = self.services.get_mut(id.rung).filter(|_| kept.lifetime.is_none());
            match service.map(|service| &mut service.candor) {
                // It was made once more to see whether it is denied again; it counts as not looked at.
                Some(Candor::Denies { until, .. }) if cx.now < *until => {
                    kept.early_looks = 0;
                    return self.timers.cancel(Timer::Look(id));
                }
                Some(Candor::Shows(at)) if !is_new && cx.now.since(*at) <= span => {}
                Some(candor) => {
                    log!(Info, "UPnP-IGD: the gateway does not tell what entries it has");
                    *candor = Candor::Denies { until: cx.now + span, witness: id.key };
                }
                None => {}
            }
        }
        log!(Info, "UPnP-IGD: {} is no more on external port {}", slot.key, slot.port);
        cx.ledger.end(slot);
        self.timers.cancel(Timer::Look(id));
        self.notices.push_back(Notice::Gone { slot, quiet: is_early });
        if is_early {
            return;
        }
        self.looks.kept.remove(&id);
        if self.looks.alarmed_at.is_none_or(|at| cx.now.since(at) >= ALARM_INTERVAL) {
            self.looks.alarmed_at = Some(cx.now);
            for other in self.looks.kept.keys_where(|other, _| other.rung == id.rung) {
                self.look(cx, other);
            }
        }
    }

    /// A service has shown an entry of ours. If it had denied some, it is asked for the others again.
    fn note_shown(&mut self, cx: &mut Cx, id: Rung) {
        let Some(service) = self.services.get_mut(id) else { return };
        if let Candor::Denies { .. } = std::mem::replace(&mut service.candor, Candor::Shows(cx.now)) {
            for other in self.looks.kept.keys_where(|other, _| other.rung == id) {
                self.look(cx, other);
            }
        }
    }

    /// An entry of ours shows what is left of its lease: some gateways keep it for less than they grant.
    fn compare_lease(&mut self, cx: &mut Cx, id: TaskId, outcome: &Outcome) {
        let Some(kept) = self.looks.kept.get_mut(&id) else { return };
        let Some(left) = outcome.lease_left() else { return };
        let ends_at = cx.now + left + LEASE_UNIT;
        if kept.first_lease_ends_at.is_some_and(|at| ends_at.since(at).max(at.since(ends_at)) <= LEASE_SLACK)
        {
            // Renewals do not extend it: the look at its end finds it gone.
            return;
        }
        let expected = kept.expires_at().map_or(Duration::MAX, |at| at.since(cx.now));
        // What is all but over is not to be believed: the next look will find it gone.
        let kept_for = ends_at.since(kept.granted_at);
        let Some(service) = self.services.get_mut(id.rung) else { return };
        if service.longest_lease.is_some_and(|longest| longest + LEASE_SLACK < kept_for) {
            service.longest_lease = None;
        }
        if left + LEASE_SLACK < expected && left >= 2 * RENEWAL_FLOOR {
            log!(Info, "UPnP-IGD: the gateway keeps {} for {} s only", kept.slot.key, kept_for.as_secs());
            (kept.lifetime, service.longest_lease) = (Some(kept_for), Some(kept_for));
            kept.first_lease_ends_at = kept.first_lease_ends_at.map(|at| at.min(ends_at));
            self.notices.push_back(Notice::EndsIn { slot: kept.slot, left });
        }
    }
}
