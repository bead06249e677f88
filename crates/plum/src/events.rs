//! The events of a session's mappings, and their queues.

use super::{External, MappingId};
use plum_engine::io::Wanted;
use plum_engine::ordered::{Map, Word};
use plum_runtime::client::{Listener, News};
use plum_runtime::log;
use plum_runtime::net::generation;
use plum_runtime::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Something that happened to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which mapping.
    pub mapping: MappingId,
    /// What happened.
    pub change: Change,
}

/// What happens to a mapping. (Its removal by the program is no event.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made, made again after a loss, or moved to another external address, port or protocol.
    Mapped(External),
    /// It cannot be made for now. The library keeps trying.
    Failed,
}

/// The events of a session from the call of [`Session::events`](super::Session::events) on. There may be several of
/// these; each gets all events.
///
/// If events are not taken in time, only the newest of each mapping is kept, and none of removed mappings: at most one
/// event for each mapping waits.
///
/// As an iterator it waits for the next event, and ends with the session.
#[derive(Debug)]
pub struct Events {
    queues: Arc<EventQueues>,
    number: u64,
}

impl Events {
    /// The next event; `None`: none within this time, or the session has ended.
    pub fn next_within(&mut self, timeout: Duration) -> Option<Event> {
        self.queues.wait(Some(timeout), |state| state.queue(self.number).and_then(Queue::pop))
    }

    /// Whether no event will come any more: the session has ended, and all have been taken.
    pub fn is_over(&self) -> bool {
        if self.queues.is_forked() {
            return true;
        }
        let state = self.queues.state.lock();
        state.ended && state.queues.get(&self.number).is_none_or(|queue| queue.order.is_empty())
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.queues.wait(None, |state| match state.queue(self.number).and_then(Queue::pop) {
            Some(event) => Some(Some(event)),
            None => state.ended.then_some(None),
        })?
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if !self.queues.is_forked() {
            self.queues.state.lock().queues.remove(&self.number);
        }
    }
}

/// The event queues of a session, filled by the worker, and the condition to wait for.
#[derive(Debug)]
pub(super) struct EventQueues {
    /// The generation of the session's process. The child of a fork has no worker to wait for.
    process: u32,
    state: Mutex<EventQueuesState>,
    /// Notified of news and of the end of the session.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct EventQueuesState {
    next_number: u64,
    queues: Map<u64, Queue>,
    ended: bool,
}

impl EventQueuesState {
    fn queue(&mut self, number: u64) -> Option<&mut Queue> {
        self.queues.get_mut(&number)
    }
}

/// The events that an [`Events`] has not taken yet.
#[derive(Debug, Default)]
struct Queue {
    next_place: u64,
    /// The mappings with events, in the order of the events.
    order: Map<u64, MappingId>,
    /// The newest event of each mapping, and its place.
    newest: Map<MappingId, (u64, Change)>,
}

impl Word for MappingId {
    fn word(self) -> u64 {
        // Ids are not negative.
        self.0.unsigned_abs().into()
    }
}

impl Queue {
    fn push(&mut self, mapping: MappingId, change: Change) {
        self.forget(mapping);
        self.order.insert(self.next_place, mapping);
        self.newest.insert(mapping, (self.next_place, change));
        self.next_place += 1;
    }

    fn forget(&mut self, mapping: MappingId) {
        if let Some((place, _)) = self.newest.remove(&mapping) {
            self.order.remove(&place);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let (_, mapping) = self.order.pop_first()?;
        let (_, change) = self.newest.remove(&mapping)?;
        Some(Event { mapping, change })
    }
}

impl EventQueues {
    pub(super) fn new() -> Arc<EventQueues> {
        Arc::new(EventQueues { process: generation(), state: Mutex::default(), changed: Condvar::new() })
    }

    /// Whether this process is a forked child of the session's. (Then the locks may be held by threads that do not
    /// exist here.)
    pub(super) fn is_forked(&self) -> bool {
        self.process != generation()
    }

    pub(super) fn listen(self: &Arc<Self>) -> Events {
        let mut number = 0;
        if !self.is_forked() {
            let mut state = self.state.lock();
            number = state.next_number;
            state.next_number += 1;
            state.queues.insert(number, Queue::default());
        }
        Events { queues: Arc::clone(self), number }
    }

    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until `decide` returns something, or for `timeout`. `decide` may call the client.
    pub(super) fn wait_for<T>(&self, timeout: Duration, mut decide: impl FnMut() -> Option<T>) -> Option<T> {
        self.wait(Some(timeout), |_| decide())
    }

    /// Without a timeout, waits until the end of the session at the latest.
    fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut decide: impl FnMut(&mut EventQueuesState) -> Option<T>,
    ) -> Option<T> {
        if self.is_forked() {
            return None;
        }
        // The expected event may wait for the log.
        let timeout = if log::in_callback() { Some(Duration::ZERO) } else { timeout };
        let mut decision = None;
        let state = self.state.lock();
        let undecided = |state: &mut EventQueuesState| {
            decision = decide(state);
            decision.is_none()
        };
        drop(match timeout {
            Some(timeout) => self.changed.wait_while_for(state, timeout, undecided),
            None => self.changed.wait_while(state, undecided),
        });
        decision
    }

    /// Queues the news of a mapping, which the client shows already.
    fn tell(&self, mapping: MappingId, news: &News) {
        let change = match news {
            News::Success(external) => External::new(external).map(Change::Mapped),
            News::Failure => Some(Change::Failed),
            News::Destroyed => None,
        };
        let mut state = self.state.lock();
        for queue in state.queues.values_mut() {
            match change {
                Some(change) => queue.push(mapping, change),
                None => queue.forget(mapping),
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// The listener of every mapping of a session.
#[derive(Clone, Debug)]
pub(super) struct EventListener(pub(super) Arc<EventQueues>);

impl Listener for EventListener {
    fn tell(&self, id: plum_engine::io::MappingId, _wanted: &Wanted, news: &News) {
        self.0.tell(MappingId(id), news);
    }
}
