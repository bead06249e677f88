//! The events of a session's mappings, their queues, and the tasks and threads that wait for them.

use super::{External, MappingId};
use futures_core::stream::{FusedStream, Stream};
use plum_engine::io::Wanted;
use plum_engine::ordered::{Map, Word};
use plum_runtime::client::{Listener, News};
use plum_runtime::log;
use plum_runtime::net::generation;
use plum_runtime::sync::{Condvar, Mutex};
use std::borrow::BorrowMut;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Something that happened to a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Event {
    /// Which mapping.
    pub mapping: MappingId,
    /// What happened.
    pub change: Change,
    /// How many older events of this mapping were dropped because they were not taken in time.
    pub missed: u32,
}

/// What happens to a mapping. (Its removal by the program is no event.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Change {
    /// It was made, made again after a loss, or moved to another external address, port or protocol.
    Mapped(External),
    /// It was made and is lost, and is being made again: the gateway has restarted or forgotten it, or the network changed. (A
    /// mapping that has never been made has no such event.)
    Pending,
    /// It cannot be made for now. The library keeps trying.
    Failed,
}

/// The events of a session from the call of [`Session::events`](super::Session::events) on. There may be several of
/// these; each gets all events.
///
/// If events are not taken in time, only the newest of each mapping is kept, and none of removed mappings: at most one
/// event for each mapping waits. [`Event::missed`] and [`Events::missed`] count what was dropped.
///
/// It is a [`Stream`], on any executor, which ends with the session. In a `for` loop it blocks until the next event. (It is no
/// iterator itself: then `events.next()` could mean either.)
#[derive(Debug)]
#[must_use = "events that nobody takes only cost memory"]
pub struct Events {
    queues: Arc<EventQueues>,
    number: u64,
}

impl Events {
    /// The next event; `None`: none within this time, or the session has ended.
    pub fn next_within(&mut self, timeout: Duration) -> Option<Event> {
        self.queues.wait(Some(timeout), |state| state.queue(self.number).and_then(Queue::pop))
    }

    /// How many events were dropped so far because they were not taken in time.
    pub fn missed(&self) -> u64 {
        if self.queues.is_forked() {
            return 0;
        }
        self.queues.state.lock().queue(self.number).map_or(0, |queue| queue.missed)
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

/// Events as an iterator, which blocks until the next event and ends with the session.
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is asked"]
pub struct BlockingEvents<E>(E);

impl<E: BorrowMut<Events>> Iterator for BlockingEvents<E> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let events = self.0.borrow_mut();
        events.queues.wait(None, |state| state.poll_next(events.number))?
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = BlockingEvents<Events>;

    fn into_iter(self) -> BlockingEvents<Events> {
        BlockingEvents(self)
    }
}

impl<'a> IntoIterator for &'a mut Events {
    type Item = Event;
    type IntoIter = BlockingEvents<&'a mut Events>;

    fn into_iter(self) -> BlockingEvents<&'a mut Events> {
        BlockingEvents(self)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.queues.is_forked() {
            return Poll::Ready(None);
        }
        // No waker is cloned or dropped with the lock held: it is the executor's code.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.queues.state.lock();
        let polled = state.poll_next(self.number);
        if polled.is_none()
            && let Some(queue) = state.queue(self.number)
        {
            std::mem::swap(&mut queue.waker, &mut waker);
        }
        drop(state);
        polled.map_or(Poll::Pending, Poll::Ready)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.is_over()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if !self.queues.is_forked() {
            let queue = self.queues.state.lock().queues.remove(&self.number);
            // With its waker, after the lock is released.
            drop(queue);
        }
    }
}

/// The event queues of a session, filled by the worker, and what waits for them: threads for the condition, tasks with
/// their wakers.
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
    /// Of queues and of waiting tasks.
    next_number: u64,
    queues: Map<u64, Queue>,
    /// The tasks that wait for one mapping.
    tasks: Map<MappingId, Vec<(u64, Waker)>>,
    ended: bool,
}

impl EventQueuesState {
    fn queue(&mut self, number: u64) -> Option<&mut Queue> {
        self.queues.get_mut(&number)
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The next event of a queue; `Some(None)`: there will be none any more; `None`: not yet.
    fn poll_next(&mut self, number: u64) -> Option<Option<Event>> {
        match self.queue(number).and_then(Queue::pop) {
            Some(event) => Some(Some(event)),
            None => self.ended.then_some(None),
        }
    }
}

/// The events that an [`Events`] has not taken yet.
#[derive(Debug, Default)]
struct Queue {
    next_place: u64,
    /// The mappings with events, in the order of the events.
    order: Map<u64, MappingId>,
    /// The newest event of each mapping, and its place.
    newest: Map<MappingId, (u64, Event)>,
    missed: u64,
    /// Of the task that waits for the next event.
    waker: Option<Waker>,
}

impl Word for MappingId {
    fn word(self) -> u64 {
        // Ids are not negative.
        self.0.unsigned_abs().into()
    }
}

impl Queue {
    fn push(&mut self, mapping: MappingId, change: Change) {
        let missed = self.forget(mapping);
        self.order.insert(self.next_place, mapping);
        self.newest.insert(mapping, (self.next_place, Event { mapping, change, missed }));
        self.next_place += 1;
    }

    /// Drops the event of a mapping; returns how many of this mapping are dropped by now.
    fn forget(&mut self, mapping: MappingId) -> u32 {
        let Some((place, event)) = self.newest.remove(&mapping) else { return 0 };
        self.order.remove(&place);
        self.missed += 1;
        event.missed.saturating_add(1)
    }

    fn pop(&mut self) -> Option<Event> {
        let (_, mapping) = self.order.pop_first()?;
        self.newest.remove(&mapping).map(|(_, event)| event)
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
            number = state.take_number();
            state.queues.insert(number, Queue::default());
        }
        Events { queues: Arc::clone(self), number }
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let mut wakers: Vec<Waker> =
            state.queues.values_mut().filter_map(|queue| queue.waker.take()).collect();
        while let Some((_, tasks)) = state.tasks.pop_first() {
            wakers.extend(tasks.into_iter().map(|(_, waker)| waker));
        }
        drop(state);
        self.wake(wakers);
    }

    /// Waits until `decide` returns something, or for `timeout`. `decide` may call the client.
    pub(super) fn wait_for<T>(&self, timeout: Duration, mut decide: impl FnMut() -> Option<T>) -> Option<T> {
        self.wait(Some(timeout), |_| decide())
    }

    /// Has a task woken by the next change of a mapping, or by the end of the session, in place of the waker that has this
    /// number. Returns the number.
    pub(super) fn wake_task(&self, mapping: MappingId, number: Option<u64>, waker: Waker) -> u64 {
        let mut state = self.state.lock();
        let number = number.unwrap_or_else(|| state.take_number());
        let tasks = state.tasks.get_or_insert_with(mapping, Vec::new);
        let place = tasks.iter_mut().find(|(known, _)| *known == number);
        let old = match place {
            Some((_, known)) => Some(std::mem::replace(known, waker)),
            None => {
                tasks.push((number, waker));
                None
            }
        };
        drop(state);
        drop(old);
        number
    }

    /// A task waits no longer.
    pub(super) fn forget_task(&self, mapping: MappingId, number: u64) {
        let mut state = self.state.lock();
        let Some(tasks) = state.tasks.get_mut(&mapping) else { return };
        let place = tasks.iter().position(|(known, _)| *known == number);
        let waker = place.map(|place| tasks.swap_remove(place));
        if tasks.is_empty() {
            state.tasks.remove(&mapping);
        }
        drop(state);
        drop(waker);
    }

    /// Wakes the tasks that wait for a mapping.
    pub(super) fn wake_tasks(&self, mapping: MappingId) {
        let tasks = self.state.lock().tasks.remove(&mapping).unwrap_or_default();
        self.wake(tasks.into_iter().map(|(_, waker)| waker));
    }

    /// Wakes threads and tasks, with no lock held: a waker is the executor's code, and may poll at once.
    fn wake(&self, wakers: impl IntoIterator<Item = Waker>) {
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
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

    /// Queues the change of a mapping, which the client shows already; `None`: it is gone.
    fn tell(&self, mapping: MappingId, change: Option<Change>) {
        let mut state = self.state.lock();
        let mut wakers = Vec::new();
        for queue in state.queues.values_mut() {
            match change {
                Some(change) => {
                    queue.push(mapping, change);
                    wakers.extend(queue.waker.take());
                }
                None => {
                    queue.forget(mapping);
                }
            }
        }
        let tasks = state.tasks.remove(&mapping).unwrap_or_default();
        drop(state);
        self.wake(wakers.into_iter().chain(tasks.into_iter().map(|(_, waker)| waker)));
    }
}

/// The listener of every mapping of a session.
#[derive(Clone, Debug)]
pub(super) struct EventListener(pub(super) Arc<EventQueues>);

impl Listener for EventListener {
    fn tell(&self, id: plum_engine::io::MappingId, wanted: &Wanted, news: &News) {
        let change = match news {
            News::Success(external) => {
                External::of(external, wanted).map(|external| external.map_or(Change::Failed, Change::Mapped))
            }
            News::Failure => Some(Change::Failed),
            News::Destroyed => None,
        };
        self.0.tell(MappingId(id), change);
    }

    fn tell_pending(&self, id: plum_engine::io::MappingId) {
        self.0.tell(MappingId(id), Some(Change::Pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_an_event_until_a_newer_one_replaces_it() {
        let queues = EventQueues::new();
        let (mut events, mut late) = (queues.listen(), queues.listen());
        let listener = EventListener(Arc::clone(&queues));
        let wanted = crate::Request::tcp(80).wanted().expect("a port");
        listener.tell_pending(7);
        let event = |change, missed| Some(Event { mapping: MappingId(7), change, missed });
        assert_eq!(events.next_within(Duration::ZERO), event(Change::Pending, 0));
        listener.tell(7, &wanted, &News::Failure);
        listener.tell_pending(7);
        assert_eq!(events.next_within(Duration::ZERO), event(Change::Pending, 1));
        listener.tell(7, &wanted, &News::Failure);
        assert_eq!(late.next_within(Duration::ZERO), event(Change::Failed, 3));
        listener.tell(7, &wanted, &News::Failure);
        listener.tell(7, &wanted, &News::Destroyed);
        assert_eq!((late.next_within(Duration::ZERO), late.missed()), (None, 4));
        assert_eq!(events.missed(), 3);
    }
}
