//! Removing entries.

use super::action::{Action, Outcome, Owner, code};
use super::exchange::Job;
use super::{TaskId, Timer, Upnp};
use crate::driver::{DeletionOutcome, Notice, Slot};
use crate::io::Cx;
use crate::log::log;
use crate::reason::Reason;
use crate::schedule::PACKETS_AN_EXCHANGE;
use std::net::IpAddr;
use std::time::Duration;

/// How long a deletion waits for a request that may make the entry; then it goes out beside it.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(400);
/// How long an answer is waited for that only says what to remove: less than cleanup waits for a host, since other deletions may
/// wait for the same connection.
const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// At most so many entries of the gateway's table are read to find one whose external port is not known.
const MAX_GENERIC_INDEX: u16 = 64;

/// An entry that is being deleted.
#[derive(Debug)]
pub(super) struct Deletion {
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
    ReadEntry { port: u16 },
    /// GetGenericPortMappingEntry: at which external port is it? `deleted`: how many entries had been deleted when the search
    /// began, each of which moves those behind it.
    Search { index: u16, deleted: u32 },
    /// DeletePortMapping.
    Delete { port: u16 },
}

impl Upnp {
    /// Removes an entry. What is not certain to be ours is looked at first.
    pub(super) fn delete_entry(&mut self, cx: &mut Cx, slot: Slot, awaited: bool) {
        self.stop_checks(cx, slot);
        // It begins anew: the answer to an earlier step is not that to the next.
        self.exchanges.discard(cx, true, |job| job == Job::DeleteEntry(slot));
        self.deletions.insert(slot, Deletion { step: Step::Waits, awaited, is_blind: false });
        if self.services.get(slot.rung).is_none() {
            // It has to be found again.
            return self.search_for_deletions(cx);
        }
        if self.exchanges.is_written(Job::Walk(TaskId::of(slot))) {
            self.timers.set(Timer::Deletion(slot), cx.now + FOLLOW_TIMEOUT);
        } else {
            self.begin_deletion(cx, slot);
        }
    }

    /// What deletions wait for is over: a request of their key, or the search for their service.
    pub(super) fn resume_deletions(&mut self, cx: &mut Cx, are_meant: impl Fn(Slot) -> bool) {
        let waits = |slot: Slot, deletion: &Deletion| are_meant(slot) && deletion.step == Step::Waits;
        for slot in self.deletions.keys_where(waits) {
            self.timers.cancel(Timer::Deletion(slot));
            self.begin_deletion(cx, slot);
        }
    }

    /// The search for the services of deletions is over, or cannot be made.
    pub(super) fn give_up_lost_deletions(&mut self, cx: &mut Cx) {
        for slot in self.deletions.keys_where(|slot, _| self.services.get(slot.rung).is_none()) {
            self.end_deletion(cx, slot, DeletionOutcome::NotConfirmed(Reason::Silence));
        }
    }

    /// A deletion waits for no other request of its key (any longer).
    fn begin_deletion(&mut self, cx: &mut Cx, slot: Slot) {
        let Some(entry) = cx.ledger.get(slot) else {
            return self.end_deletion(cx, slot, DeletionOutcome::Deleted);
        };
        let step = match (slot.port, entry.is_certain) {
            (0, _) => Step::Search { index: 0, deleted: self.deleted },
            (port, true) => Step::Delete { port },
            (port, false) => Step::ReadEntry { port },
        };
        self.step_deletion(cx, slot, step);
    }

    fn step_deletion(&mut self, cx: &mut Cx, slot: Slot, step: Step) {
        let Some(deletion) = self.deletions.get_mut(&slot) else { return };
        deletion.step = step;
        if matches!(step, Step::Search { .. }) && !cx.is_cleaning_up() {
            // A table may be long.
            let at = cx.pace.take(cx.now, PACKETS_AN_EXCHANGE);
            return self.timers.set(Timer::Deletion(slot), at);
        }
        self.ask_for_deletion(cx, slot);
    }

    /// The request of the present step; a deletion that has waited long enough for others begins.
    pub(super) fn ask_for_deletion(&mut self, cx: &mut Cx, slot: Slot) {
        match self.deletions.get(&slot).map(|deletion| deletion.step) {
            Some(Step::Waits) => self.begin_deletion(cx, slot),
            Some(Step::Delete { .. }) => self.enqueue(Job::DeleteEntry(slot), cx.config.mapping_timeout),
            _ => self.enqueue(Job::DeleteEntry(slot), READ_TIMEOUT),
        }
    }

    pub(super) fn deletion_action(&self, slot: Slot) -> Option<Action> {
        let transport = slot.key.transport;
        Some(match self.deletions.get(&slot)?.step {
            Step::Waits => return None,
            Step::ReadEntry { port } => Action::read_entry(transport, port),
            Step::Search { index, .. } => {
                let index = ("NewPortMappingIndex", index.to_string());
                Action::new("GetGenericPortMappingEntry", Some(index))
            }
            Step::Delete { port } => Action::delete(transport, port),
        })
    }

    /// The request of a deletion is over.
    pub(super) fn handle_deletion(&mut self, cx: &mut Cx, slot: Slot, outcome: &Outcome, local: IpAddr) {
        let Some(deletion) = self.deletions.get_mut(&slot) else { return };
        let (step, client) = (deletion.step, cx.ledger.get(slot).map(|entry| entry.client));
        deletion.is_blind |= matches!((step, outcome), (Step::Search { .. }, Outcome::Failed(_)));
        // What it means that the entry is not where it was looked for.
        let absent = match deletion.is_blind {
            true => DeletionOutcome::NotConfirmed(Reason::Silence),
            false => DeletionOutcome::Deleted,
        };
        // What has a place of its own in the ledger is another entry, and may hold the mapping.
        let service = slot.rung.service();
        let is_known =
            |port| service.is_some_and(|id| cx.ledger.owner(id, slot.key.transport, port).is_some());
        let next = match step {
            Step::Waits => return,
            Step::ReadEntry { port } => {
                let is_not_ours = outcome.owner(slot.key, port, local) == Owner::Foreign
                    || matches!(outcome, Outcome::Fault(code::NO_SUCH_ENTRY | code::NOT_AUTHORIZED));
                if is_not_ours { Err(absent) } else { Ok(Step::Delete { port }) }
            }
            Step::Search { index, deleted } => {
                let found = client.and_then(|client| outcome.external_port_of(slot.key, client));
                let found = found.filter(|&port| !is_known(port));
                let is_at_end = !matches!(outcome, Outcome::Done(_)) || index + 1 >= MAX_GENERIC_INDEX;
                match found {
                    Some(port) => Ok(Step::Delete { port }),
                    None if !is_at_end => Ok(Step::Search { index: index + 1, deleted }),
                    None if deleted != self.deleted => Ok(Step::Search { index: 0, deleted: self.deleted }),
                    None if is_known(slot.key.internal_port.get()) => Err(absent),
                    // The port that was suggested, if a look shows it ours.
                    None => Ok(Step::ReadEntry { port: slot.key.internal_port.get() }),
                }
            }
            Step::Delete { .. } => Err(match outcome {
                Outcome::Done(_) => DeletionOutcome::Deleted,
                // A secure server says so to hosts that the entry does not belong to.
                Outcome::Fault(code::NO_SUCH_ENTRY) if Some(local) == client => absent,
                failed => DeletionOutcome::NotConfirmed(failed.reason().unwrap_or(Reason::Silence)),
            }),
        };
        match next {
            Ok(step) => self.step_deletion(cx, slot, step),
            Err(outcome) => self.end_deletion(cx, slot, outcome),
        }
    }

    pub(super) fn end_deletion(&mut self, cx: &mut Cx, slot: Slot, outcome: DeletionOutcome) {
        let awaited = self.deletions.remove(&slot).is_some_and(|deletion| deletion.awaited);
        self.timers.cancel(Timer::Deletion(slot));
        if outcome == DeletionOutcome::Deleted {
            self.deleted = self.deleted.wrapping_add(1);
            cx.ledger.end(slot);
        } else {
            log!(Debug, "UPnP-IGD: the deletion of {} fails", slot.key);
        }
        if awaited {
            self.notices.push_back(Notice::Deleted { slot, outcome });
        } else if outcome != DeletionOutcome::Deleted {
            cx.ledger.note_not_deleted(slot);
        }
    }
}
