//! Removing entries.

use super::action::{Action, Outcome, Owner, code};
use super::exchange::Job;
use super::{TaskId, Timer, Upnp};
use crate::driver::{self, Notice, Slot};
use crate::io::Cx;
use crate::log::log;
use crate::reason::Reason;
use crate::schedule::PACKETS_AN_EXCHANGE;
use std::net::IpAddr;
use std::time::Duration;

/// How long a removal waits for a request that may make the entry; then it goes out beside it.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(400);
/// How long an answer is waited for that only says what to remove: less than cleanup waits for a host, since other removals may
/// wait for the same connection.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// At most so many entries of the gateway's table are read to find one whose external port is not known.
const MAX_GENERIC_INDEX: u16 = 64;

/// An entry that is being removed.
#[derive(Debug)]
pub(super) struct Removal {
    step: Step,
    /// The core waits for the outcome.
    awaited: bool,
    /// The table could not be read to its end: what is not where it was suggested may be elsewhere.
    is_blind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It waits for a request that may make the entry.
    Waits,
    /// GetSpecificPortMappingEntry: is it ours?
    Look { port: u16 },
    /// GetGenericPortMappingEntry: at which external port is it? `removed`: how many entries had been removed when the search
    /// began, each of which moves those behind it.
    Search { index: u16, removed: u32 },
    /// DeletePortMapping.
    Delete { port: u16 },
}

impl Upnp {
    /// Removes an entry. What is not certain to be ours is looked at first.
    pub(super) fn remove(&mut self, cx: &mut Cx, slot: Slot, awaited: bool) {
        self.stop_looking(cx, slot);
        // It begins anew: the answer to an earlier step is not that to the next.
        self.exchanges.discard(cx, true, |job| job == Job::Remove(slot));
        self.removals.insert(slot, Removal { step: Step::Waits, awaited, is_blind: false });
        if self.services.get(slot.rung).is_none() {
            // It has to be found again.
            return self.search_for_removals(cx);
        }
        if self.exchanges.is_written(Job::Walk(TaskId::of(slot))) {
            self.timers.set(Timer::Removal(slot), cx.now + FOLLOW_TIMEOUT);
        } else {
            self.begin_removal(cx, slot);
        }
    }

    /// What removals wait for is over: a request of their key, or the search for their service.
    pub(super) fn resume_removals(&mut self, cx: &mut Cx, are_meant: impl Fn(Slot) -> bool) {
        let waits = |slot: Slot, removal: &Removal| are_meant(slot) && removal.step == Step::Waits;
        for slot in self.removals.keys_where(waits) {
            self.timers.cancel(Timer::Removal(slot));
            self.begin_removal(cx, slot);
        }
    }

    /// The search for the services of removals is over, or cannot be made.
    pub(super) fn give_up_lost_removals(&mut self, cx: &mut Cx) {
        for slot in self.removals.keys_where(|slot, _| self.services.get(slot.rung).is_none()) {
            self.end_removal(cx, slot, driver::Outcome::NotConfirmed(Reason::Silence));
        }
    }

    /// A removal waits for no other request of its key (any longer).
    fn begin_removal(&mut self, cx: &mut Cx, slot: Slot) {
        let Some(entry) = cx.ledger.get(slot) else {
            return self.end_removal(cx, slot, driver::Outcome::Removed);
        };
        let step = match (slot.port, entry.is_certain) {
            (0, _) => Step::Search { index: 0, removed: self.removed },
            (port, true) => Step::Delete { port },
            (port, false) => Step::Look { port },
        };
        self.step_removal(cx, slot, step);
    }

    fn step_removal(&mut self, cx: &mut Cx, slot: Slot, step: Step) {
        let Some(removal) = self.removals.get_mut(&slot) else { return };
        removal.step = step;
        if matches!(step, Step::Search { .. }) && !cx.is_cleaning_up() {
            // A table may be long.
            let at = cx.pace.take(cx.now, PACKETS_AN_EXCHANGE);
            return self.timers.set(Timer::Removal(slot), at);
        }
        self.ask_for_removal(cx, slot);
    }

    /// The request of the present step; a removal that has waited long enough for others begins.
    pub(super) fn ask_for_removal(&mut self, cx: &mut Cx, slot: Slot) {
        match self.removals.get(&slot).map(|removal| removal.step) {
            Some(Step::Waits) => self.begin_removal(cx, slot),
            Some(Step::Delete { .. }) => self.enqueue(Job::Remove(slot), cx.config.mapping_timeout),
            _ => self.enqueue(Job::Remove(slot), LOOK_TIMEOUT),
        }
    }

    pub(super) fn removal_action(&self, slot: Slot) -> Option<Action> {
        let transport = slot.key.transport;
        Some(match self.removals.get(&slot)?.step {
            Step::Waits => return None,
            Step::Look { port } => Action::look(transport, port),
            Step::Search { index, .. } => {
                let index = ("NewPortMappingIndex", index.to_string());
                Action::new("GetGenericPortMappingEntry", Some(index))
            }
            Step::Delete { port } => Action::delete(transport, port),
        })
    }

    /// The request of a removal is over.
    pub(super) fn handle_removal(&mut self, cx: &mut Cx, slot: Slot, outcome: &Outcome, local: IpAddr) {
        let Some(removal) = self.removals.get_mut(&slot) else { return };
        let (step, client) = (removal.step, cx.ledger.get(slot).map(|entry| entry.client));
        removal.is_blind |= matches!((step, outcome), (Step::Search { .. }, Outcome::Failed(_)));
        // What it means that the entry is not where it was looked for.
        let absent = match removal.is_blind {
            true => driver::Outcome::NotConfirmed(Reason::Silence),
            false => driver::Outcome::Removed,
        };
        // What has a place of its own in the ledger is another entry, and may hold the mapping.
        let service = slot.rung.service();
        let is_known =
            |port| service.is_some_and(|id| cx.ledger.owner(id, slot.key.transport, port).is_some());
        let next = match step {
            Step::Waits => return,
            Step::Look { port } => {
                let is_not_ours = outcome.owner(slot.key, port, local) == Owner::Foreign
                    || matches!(outcome, Outcome::Fault(code::NO_SUCH_ENTRY | code::NOT_AUTHORIZED));
                if is_not_ours { Err(absent) } else { Ok(Step::Delete { port }) }
            }
            Step::Search { index, removed } => {
                let found = client.and_then(|client| outcome.external_port_of(slot.key, client));
                let found = found.filter(|&port| !is_known(port));
                let is_at_end = !matches!(outcome, Outcome::Done(_)) || index + 1 >= MAX_GENERIC_INDEX;
                match found {
                    Some(port) => Ok(Step::Delete { port }),
                    None if !is_at_end => Ok(Step::Search { index: index + 1, removed }),
                    None if removed != self.removed => Ok(Step::Search { index: 0, removed: self.removed }),
                    None if is_known(slot.key.internal_port.get()) => Err(absent),
                    // The port that was suggested, if a look shows it ours.
                    None => Ok(Step::Look { port: slot.key.internal_port.get() }),
                }
            }
            Step::Delete { .. } => Err(match outcome {
                Outcome::Done(_) => driver::Outcome::Removed,
                // A secure server says so to hosts that the entry does not belong to.
                Outcome::Fault(code::NO_SUCH_ENTRY) if Some(local) == client => absent,
                failed => driver::Outcome::NotConfirmed(failed.reason().unwrap_or(Reason::Silence)),
            }),
        };
        match next {
            Ok(step) => self.step_removal(cx, slot, step),
            Err(outcome) => self.end_removal(cx, slot, outcome),
        }
    }

    pub(super) fn end_removal(&mut self, cx: &mut Cx, slot: Slot, outcome: driver::Outcome) {
        let awaited = self.removals.remove(&slot).is_some_and(|removal| removal.awaited);
        self.timers.cancel(Timer::Removal(slot));
        if outcome == driver::Outcome::Removed {
            self.removed = self.removed.wrapping_add(1);
            cx.ledger.end(slot);
        } else {
            log!(Debug, "UPnP-IGD: removal of {} fails", slot.key);
        }
        if awaited {
            self.notices.push_back(Notice::Deleted { slot, outcome });
        } else if outcome != driver::Outcome::Removed {
            cx.ledger.note_not_removed(slot);
        }
    }
}
