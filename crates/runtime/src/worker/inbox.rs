//! The queue of messages from other threads to the worker, and its wake-up.

#![forbid(unsafe_code)]

use super::Command;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Receiver, Sender, unbounded};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Command(Command),
    /// Call `Program::handle_timeout`.
    Wake,
}

/// The messages in their order. Sending never waits for the worker.
pub(super) struct Inbox {
    /// Unbounded: each message is a call of the program that must not be lost, and needs a mapping.
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    /// Wakes the worker, or keeps it from waiting next time.
    wake: Box<dyn Fn() + Send + Sync>,
    /// The worker was woken and has not read its inbox since: it need not be woken again.
    is_signalled: AtomicBool,
    /// There is a `Message::Wake` in the queue.
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

    /// Sends a command. After the worker's end it has no effect, and none is needed.
    pub(super) fn send(&self, command: Command) {
        self.push(Message::Command(command));
    }

    /// Sends a `Wake`, unless there is one in the queue.
    pub(super) fn send_wake(&self) {
        if !self.has_wake.swap(true, Ordering::AcqRel) {
            self.push(Message::Wake);
        }
    }

    fn push(&self, message: Message) {
        // This cannot fail: `self` has the receiver.
        let _ = self.sender.send(message);
        if !self.is_signalled.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// To be called before messages are taken: the sender of a message that is missed then wakes the worker.
    pub(super) fn clear_signal(&self) {
        self.is_signalled.swap(false, Ordering::AcqRel);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Takes the first message.
    pub(super) fn take(&self) -> Option<Message> {
        self.taken(self.receiver.try_recv().ok())
    }

    /// Takes the first message, waiting for one until `timeout`, or without limit.
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
