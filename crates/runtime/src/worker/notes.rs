//! What other threads leave for the worker, and the bell that gets it out of its wait.

#![forbid(unsafe_code)]

use super::Command;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Receiver, Sender, unbounded};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    Command(Command),
    /// `Program::handle_timeout` is to be called.
    Wake,
}

/// The notes, in their order. Whoever leaves one never waits for the worker.
pub(super) struct Notes {
    /// Without a limit: a note is a call of the program's that it may count on, and it needs a mapping each.
    leave: Sender<Note>,
    left: Receiver<Note>,
    /// Gets the worker out of its wait, or keeps it from the next.
    ring: Box<dyn Fn() + Send + Sync>,
    /// Rung, and the worker has not looked at its notes since: no need to ring again.
    rung: AtomicBool,
    /// A `Note::Wake` is among the notes.
    wake_noted: AtomicBool,
}

impl Notes {
    pub(super) fn new(ring: Box<dyn Fn() + Send + Sync>) -> Notes {
        let (leave, left) = unbounded();
        Notes { leave, left, ring, rung: AtomicBool::new(false), wake_noted: AtomicBool::new(false) }
    }

    /// Leaves a command. After the worker's end nobody takes it, and there is nothing left to be done.
    pub(super) fn leave(&self, command: Command) {
        self.push(Note::Command(command));
    }

    /// Leaves a `Wake`, unless there is one.
    pub(super) fn leave_wake(&self) {
        if !self.wake_noted.swap(true, Ordering::AcqRel) {
            self.push(Note::Wake);
        }
    }

    fn push(&self, note: Note) {
        // It fails when there is no receiver, and there is one as long as there is `self`.
        let _ = self.leave.send(note);
        if !self.rung.swap(true, Ordering::AcqRel) {
            (self.ring)();
        }
    }

    /// To be called before the notes are taken: a note that is missed then was left after this, and its ring
    /// comes through.
    pub(super) fn silence(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes the first.
    pub(super) fn take(&self) -> Option<Note> {
        self.taken(self.left.try_recv().ok())
    }

    /// Takes the first, and waits for one if there is none: until `timeout`, for ever without one.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Note> {
        self.taken(match timeout {
            Some(timeout) => self.left.recv_timeout(timeout).ok(),
            None => self.left.recv().ok(),
        })
    }

    fn taken(&self, note: Option<Note>) -> Option<Note> {
        if let Some(Note::Wake) = note {
            self.wake_noted.store(false, Ordering::Release);
        }
        note
    }
}
