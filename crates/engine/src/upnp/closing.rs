//! Deleting pinholes. DeletePinhole names a UniqueID, which AddPinhole returns for a pinhole that exists.

use super::action::{Action, Outcome, code};
use super::pinholes::{LEASE_SECS, Pinhole};
use super::{TaskId, Upnp};
use crate::driver::{DeletionOutcome, Slot};
use crate::io::Cx;
use crate::reason::Reason;
use std::time::Duration;

/// The lease that ends a pinhole where it cannot be deleted.
const LAST_LEASE_SECS: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosingStep {
    /// AddPinhole: what is its UniqueID?
    Adopt,
    /// DeletePinhole.
    Delete,
    /// UpdatePinhole with the last lease, as DeletePinhole was refused.
    Shorten,
    /// AddPinhole with the last lease, as no UniqueID names it alone.
    AddShort,
}

impl Upnp {
    /// The first request of the deletion of a pinhole.
    pub(super) fn first_closing_step(&self, slot: Slot) -> ClosingStep {
        let id = TaskId::of(slot);
        match self.unique_id(id) {
            None => ClosingStep::Adopt,
            Some(unique_id) if self.pinholes.is_shared(id, unique_id) => ClosingStep::AddShort,
            Some(_) => ClosingStep::Delete,
        }
    }

    /// The step that is taken in the place of the chosen one: a restart may have voided the UniqueID since.
    pub(super) fn closing_step_now(&self, slot: Slot, step: ClosingStep) -> ClosingStep {
        let needs_id = matches!(step, ClosingStep::Delete | ClosingStep::Shorten);
        if needs_id && self.unique_id(TaskId::of(slot)).is_none() { ClosingStep::Adopt } else { step }
    }

    fn unique_id(&self, id: TaskId) -> Option<&str> {
        self.pinholes.known.get(&id)?.unique_id.as_deref()
    }

    pub(super) fn closing_action(&self, cx: &mut Cx, slot: Slot, step: ClosingStep) -> Option<Action> {
        let (source, unique_id) = (cx.config.source?, self.unique_id(TaskId::of(slot)));
        Some(match step {
            ClosingStep::Adopt => {
                // It makes the pinhole if there is none.
                let ends_at = cx.now + Duration::from_secs(LEASE_SECS.into());
                if let Some(entry) = cx.ledger.get_mut(slot) {
                    entry.ends_at = entry.ends_at.map(|at| at.max(ends_at));
                }
                Action::add_pinhole(slot.key, source.address, LEASE_SECS)
            }
            ClosingStep::Delete => Action::delete_pinhole(unique_id?),
            ClosingStep::Shorten => Action::update_pinhole(unique_id?, LAST_LEASE_SECS),
            ClosingStep::AddShort => Action::add_pinhole(slot.key, source.address, LAST_LEASE_SECS),
        })
    }

    /// What follows the reply to a request of the deletion of a pinhole.
    pub(super) fn take_closing(
        &mut self,
        slot: Slot,
        step: ClosingStep,
        outcome: &Outcome,
    ) -> Result<ClosingStep, DeletionOutcome> {
        let id = TaskId::of(slot);
        let short = DeletionOutcome::DeletedIn(Duration::from_secs(LAST_LEASE_SECS.into()));
        match (step, outcome) {
            (_, Outcome::Fault(code::NO_SUCH_PINHOLE)) => Err(DeletionOutcome::Deleted),
            (ClosingStep::Adopt, Outcome::Done(_)) => {
                let unique_id = outcome.unique_id().map(str::to_owned);
                let is_readable = unique_id.is_some();
                self.pinholes.known.get_or_insert_with(id, Pinhole::default).unique_id = unique_id;
                Ok(if is_readable { self.first_closing_step(slot) } else { ClosingStep::AddShort })
            }
            (ClosingStep::Delete, Outcome::Done(_)) => Err(DeletionOutcome::Deleted),
            (ClosingStep::Delete, Outcome::Fault(_)) => Ok(ClosingStep::Shorten),
            (ClosingStep::Shorten | ClosingStep::AddShort, Outcome::Done(_)) => Err(short),
            (_, failed) => {
                // When it is repeated, the UniqueID may be that of another pinhole.
                if let Some(pinhole) = self.pinholes.known.get_mut(&id) {
                    pinhole.unique_id = None;
                }
                Err(DeletionOutcome::NotConfirmed(failed.reason().unwrap_or(Reason::Silence)))
            }
        }
    }
}
