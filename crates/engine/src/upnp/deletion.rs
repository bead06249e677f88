//! Deleting entries.

use super::action::{Action, Outcome, Owner, code};
use super::closing::ClosingStep;
use super::exchange::Job;
use super::{SHORT_TIMEOUT, TaskId, Timer, Upnp};
use crate::driver::{DeletionOutcome, Notice, Slot};
use crate::io::Cx;
use crate::ledger::DeletionState;
use crate::log::log;
use crate::reason::Reason;
use crate::schedule::PACKETS_AN_EXCHANGE;
use std::net::IpAddr;
use std::time::Duration;

/// How long a deletion waits for an open request that may make the entry.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(400);
/// The timeout of a request that only finds out what to delete: shorter than cleanup waits for a host, since other
/// deletions may wait for the same connection.
const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// Entries of the gateway's table that are read, at most, to find one with an unknown external port.
const MAX_GENERIC_INDEX: u16 = 64;

/// An entry that is being deleted.
#[derive(Debug)]
pub(super) struct Deletion {
    step: Step,
    /// The core waits for the outcome.
    awaited: bool,
    /// The table could not be read completely: the entry may be at a port that was not read.
    is_blind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Waits for an open request that may make the entry.
    Waits,
    /// GetSpecificPortMappingEntry: is it ours?
    ReadEntry { port: u16 },
    /// GetGenericPortMappingEntry: at which external port is it? `deleted`: how many entries were deleted when the
    /// search began; each deletion moves the entries behind it.
    Search { index: u16, deleted: u32 },
    /// DeletePortMapping.
    Delete { port: u16 },
    /// The requests about a pinhole.
    Close(ClosingStep),
}

impl Upnp {
    /// Deletes an entry. One that is not certainly ours is read first.
    pub(super) fn delete_entry(&mut self, cx: &mut Cx, slot: Slot, awaited: bool) {
        self.stop_checks(cx, slot);
        self.pinholes.note_unheld(TaskId::of(slot));
        // The deletion starts again: the reply to an earlier step must not count.
        self.exchanges.discard(cx, true, |job| job == Job::DeleteEntry(slot));
        self.deletions.insert(slot, Deletion { step: Step::Waits, awaited, is_blind: false });
        if self.services.get(slot.rung).is_none() {
            // Its service has to be found again.
            return self.search_for_deletions(cx);
        }
        let id = TaskId::of(slot);
        if [Job::Walk(id), Job::Pinhole(id)].into_iter().any(|job| self.exchanges.is_written(job)) {
            self.timers.set(Timer::Deletion(slot), cx.now + FOLLOW_TIMEOUT);
        } else {
            self.begin_deletion(cx, slot);
        }
    }

    /// Resumes deletions that waited for a request of their key or for their service.
    pub(super) fn resume_deletions(&mut self, cx: &mut Cx, are_meant: impl Fn(Slot) -> bool) {
        let waits = |slot: Slot, deletion: &Deletion| are_meant(slot) && deletion.step == Step::Waits;
        for slot in self.deletions.keys_where(waits) {
            self.timers.cancel(Timer::Deletion(slot));
            self.begin_deletion(cx, slot);
        }
    }

    /// What an open request makes is wanted again: drops the deletion that waits for it.
    pub(super) fn drop_waiting_deletion(&mut self, cx: &mut Cx, id: TaskId) {
        let waits = |slot: Slot, deletion: &Deletion| TaskId::of(slot) == id && deletion.step == Step::Waits;
        for slot in self.deletions.keys_where(waits) {
            self.timers.cancel(Timer::Deletion(slot));
            self.deletions.remove(&slot);
            cx.ledger.set_deletion(slot, DeletionState::Unasked);
        }
    }

    /// Gives up the deletions whose service was not found.
    pub(super) fn give_up_lost_deletions(&mut self, cx: &mut Cx) {
        for slot in self.deletions.keys_where(|slot, _| self.services.get(slot.rung).is_none()) {
            self.end_deletion(cx, slot, DeletionOutcome::NotConfirmed(Reason::Silence));
        }
    }

    /// Starts a deletion that need not wait (any longer).
    fn begin_deletion(&mut self, cx: &mut Cx, slot: Slot) {
        let Some(entry) = cx.ledger.get(slot) else {
            return self.end_deletion(cx, slot, DeletionOutcome::Deleted);
        };
        let step = match (slot.port, entry.is_certain) {
            _ if self.is_ipv6() => Step::Close(self.first_closing_step(slot)),
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

    /// Queues the request of the current step; starts a deletion that has waited long enough.
    pub(super) fn ask_for_deletion(&mut self, cx: &mut Cx, slot: Slot) {
        match self.deletions.get(&slot).map(|deletion| deletion.step) {
            Some(Step::Waits) => self.begin_deletion(cx, slot),
            Some(Step::Close(ClosingStep::Adopt)) => self.enqueue(Job::DeleteEntry(slot), SHORT_TIMEOUT),
            Some(Step::Delete { .. } | Step::Close(_)) => {
                self.enqueue(Job::DeleteEntry(slot), cx.config.mapping_timeout)
            }
            _ => self.enqueue(Job::DeleteEntry(slot), READ_TIMEOUT),
        }
    }

    pub(super) fn deletion_action(&mut self, cx: &mut Cx, slot: Slot) -> Option<Action> {
        let transport = slot.key.transport;
        let step = match self.deletions.get(&slot)?.step {
            Step::Close(step) => Step::Close(self.closing_step_now(slot, step)),
            step => step,
        };
        self.deletions.get_mut(&slot)?.step = step;
        Some(match step {
            Step::Waits => return None,
            Step::ReadEntry { port } => Action::read_entry(transport, port),
            Step::Search { index, .. } => {
                let index = ("NewPortMappingIndex", index.to_string());
                Action::new("GetGenericPortMappingEntry", Some(index))
            }
            Step::Delete { port } => Action::delete(transport, port),
            Step::Close(step) => self.closing_action(cx, slot, step)?,
        })
    }

    /// Handles the outcome of a request of a deletion.
    pub(super) fn handle_deletion(&mut self, cx: &mut Cx, slot: Slot, outcome: &Outcome, local: IpAddr) {
        let Some(deletion) = self.deletions.get_mut(&slot) else { return };
        let (step, client) = (deletion.step, cx.ledger.get(slot).map(|entry| entry.client));
        deletion.is_blind |= matches!((step, outcome), (Step::Search { .. }, Outcome::Failed(_)));
        // The outcome if the entry is not found.
        let absent = match deletion.is_blind {
            true => DeletionOutcome::NotConfirmed(Reason::Silence),
            false => DeletionOutcome::Deleted,
        };
        // An entry with an external port known to the ledger is another one, which may hold the mapping.
        let service = slot.rung.service();
        let is_known =
            |port| service.is_some_and(|id| cx.ledger.owner(id, slot.key.transport, port).is_some());
        let next = match step {
            Step::Waits => return,
            Step::Close(step) => self.take_closing(slot, step, outcome).map(Step::Close),
            Step::ReadEntry { port } => {
                let is_not_ours = outcome.owner(slot.key, port, local) == Owner::Foreign
                    || matches!(outcome, Outcome::Fault(code::NO_SUCH_ENTRY | code::NOT_AUTHORIZED));
                if is_not_ours { Err(absent) } else { Ok(Step::Delete { port }) }
            }
            Step::Search { index, deleted } => {
                let found =
                    client.and_then(|client| outcome.external_port_of(slot.key, client, &cx.descriptions));
                let found = found.filter(|&port| !is_known(port));
                let is_at_end = !matches!(outcome, Outcome::Done(_)) || index + 1 >= MAX_GENERIC_INDEX;
                match found {
                    Some(port) => Ok(Step::Delete { port }),
                    None if !is_at_end => Ok(Step::Search { index: index + 1, deleted }),
                    None if deleted != self.deleted => Ok(Step::Search { index: 0, deleted: self.deleted }),
                    None if is_known(slot.key.internal_port.get()) => Err(absent),
                    // Tries the suggested port, if the entry there is ours.
                    None => Ok(Step::ReadEntry { port: slot.key.internal_port.get() }),
                }
            }
            Step::Delete { .. } => Err(match outcome {
                Outcome::Done(_) => DeletionOutcome::Deleted,
                // A secure server reports this also to hosts that do not own the entry.
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
        if self.pinholes.is_held(TaskId::of(slot)) {
            log!(Debug, "UPnP-IGD: the pinhole of {} was made anew since", slot.key);
        } else if outcome == DeletionOutcome::Deleted {
            self.deleted = self.deleted.wrapping_add(1);
            self.pinholes.known.remove(&TaskId::of(slot));
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
