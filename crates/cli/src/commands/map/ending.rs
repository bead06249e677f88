//! How `plum map` ends: what becomes of the mappings, and the exit code.

use super::MappingTable;
use crate::exit::{Exit, Failure};
use crate::failures::MappingFailure;
use crate::view::{Row, Status};
use plum::{Mapping, Session};
use std::io::Write;

/// Why it ends.
#[derive(PartialEq, Eq)]
pub(super) enum End {
    Asked,
    TimeIsUp,
    /// All are mapped, as far as they can be, and are left.
    Settled,
    NothingMapped,
}

/// What became of the mappings in the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removed {
    /// The gateway has none of them, by its own account.
    All,
    /// The gateway has not answered the removal of mappings that it had never granted.
    Open,
    /// The gateway has not answered the removal of mappings that it had granted.
    NotConfirmed,
}

/// How it ended.
pub(super) struct Outcome {
    pub(super) end: End,
    pub(super) exit: Exit,
    /// Why nothing was mapped, if nothing was.
    pub(super) why: Option<MappingFailure>,
    pub(super) removed: Removed,
}

impl MappingTable {
    /// Removes the mappings, or says that they stay.
    pub(super) fn end(&mut self, session: &Session, end: End, in_json: bool) -> Result<Outcome, Failure> {
        if end == End::TimeIsUp {
            self.give_up(session)?;
        }
        let (exit, why) = (self.exit(), self.why_nothing_is_mapped().cloned());
        let removed = match end {
            End::Settled => {
                self.tell_left(in_json)?;
                Removed::All
            }
            _ => self.remove()?,
        };
        Ok(Outcome { end, exit, why, removed })
    }

    /// The time is up: what is not decided has failed.
    fn give_up(&mut self, session: &Session) -> Result<(), Failure> {
        self.reveal_all()?;
        for place in 0..self.rows.len() {
            if self.rows[place].status == Status::Pending {
                self.rows[place].status = Status::Failed(MappingFailure::of_time(session.gateway()));
                self.tell(place)?;
            }
        }
        Ok(())
    }

    /// The exit code, before anything is removed.
    fn exit(&self) -> Exit {
        if self.made.iter().all(|&made| made) {
            return Exit::Done;
        }
        match self.rows.iter().find_map(Row::failure) {
            Some(failure) if !self.made.contains(&true) => failure.kind.exit,
            Some(_) => Exit::Failed,
            // Only a signal ends it before all is decided.
            None => Exit::Interrupted,
        }
    }

    /// Removes all mappings, and waits for the gateway's answers.
    fn remove(&mut self) -> Result<Removed, Failure> {
        self.mappings.iter().flatten().for_each(Mapping::start_removal);
        if let Some(live) = self.view.as_live() {
            live.begin_removal(&self.rows)?;
        }
        let mut removed = if self.ties.finish() { Removed::All } else { Removed::NotConfirmed };
        for (place, mapping) in std::mem::take(&mut self.mappings).into_iter().enumerate() {
            let Some(mapping) = mapping else { continue };
            let was_mapped = matches!(self.rows[place].status, Status::Mapped(_));
            let confirmed = mapping.remove();
            if !confirmed {
                removed = removed.max(if was_mapped { Removed::NotConfirmed } else { Removed::Open });
            }
            if was_mapped {
                self.rows[place].status = Status::Removed { confirmed };
                self.rows[place].renewal = None;
                self.tell(place)?;
            }
        }
        match self.view.as_live() {
            Some(live) => live.finish(&self.rows)?,
            None => std::io::stdout().flush()?,
        }
        Ok(removed)
    }
}
