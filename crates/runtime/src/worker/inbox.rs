//! What other threads leave for the worker, and the bell that gets it out of its wait.

#![forbid(unsafe_code)]

use super::Command;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Receiver, Sender, unbounded};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Command(Command),
    /// `Program::handle_timeout` is to be called.
    Wake,
}

/// The inbox, in their order. Whoever leaves one never waits for the worker.
pub(super) struct Inbox {
    /// Without a limit: a message is a call of the program's that it may count on, and it needs a mapping each.
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    /// Gets the worker out of its wait, or keeps it from the next.
    wake: Box<dyn Fn() + Send + Sync>,
    /// Rung, and the worker has not looked at its inbox since: no need to ring again.
    is_signalled: AtomicBool,
    /// A `Message::Wake` is among the inbox.
    has_wake: AtomicBool,
}

impl Inbox {
    pub(super) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Inbox {
        let (sender, receiver) = unbounded();
        Inbox {
            sender,
            receiver,
            wake,
            is_signalled: AtomicBool::new(false),
            has_wake: AtomicBool::new(false),
        }
    }

    /// Leaves a command. After the worker's end nobody takes it, and there is nothing left to be done.
    pub(super) fn send(&self, command: Command) {
        self.push(Message::Command(command));
    }

    /// Leaves a `Wake`, unless there is one.
    pub(super) fn send_wake(&self) {
        if !self.has_wake.swap(true, Ordering::AcqRel) {
            self.push(Message::Wake);
        }
    }

    fn push(&self, message: Message) {
        // It fails when there is no receiver, and there is one as long as there is `self`.
        let _ = self.sender.send(message);
        if !self.is_signalled.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// To be called before the inbox are taken: a message that is missed then was left after this, and its ring
    /// comes through.
    pub(super) fn clear_signal(&self) {
        self.is_signalled.swap(false, Ordering::AcqRel);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Takes the first.
    pub(super) fn take(&self) -> Option<Message> {
        self.taken(self.receiver.try_recv().ok())
    }

    /// Takes the first, and waits for one if there is none: until `timeout`, for ever without one.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Message> {
        self.taken(match timeout {
            Some(timeout) => self.receiver.recv_timeout(timeout).ok(),
            None => self.receiver.recv().ok(),
        })
    }

    fn taken(&self, message: Option<Message>) -> Option<Message> {
        if let Some(Message::Wake) = message {
            self.has_wake.store(false, Ordering::Release);
        }
        message
    }
}
