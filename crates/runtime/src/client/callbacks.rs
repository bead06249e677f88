//! Delivers the worker's events to the table and the program: the rules of callbacks.

use super::{Client, Entry, Inner, Listener, News, Phase, QueriedState};
use crate::log::log;
use crate::net::end_thread_in_child;
use crate::net::thread_mark::{Marked, is_marked};
use crate::sync::thread_local;
use plum_engine::io::MappingId;
use std::cell::Cell;

thread_local! {
    /// Whether this thread is inside a mapping callback.
    static IN_CALLBACK: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread is inside a mapping callback: then it is the worker, and must not wait for the worker.
/// (In the child of a fork a callback of the parent does not count.)
pub(super) fn in_callback() -> bool {
    is_marked(&IN_CALLBACK)
}

/// Marks the end of a callback, also when it panics.
struct Running<'a, L>(&'a Client<L>);

impl<L> Drop for Running<'_, L> {
    fn drop(&mut self) {
        self.0.inner.lock().running = None;
        self.0.changed.notify_all();
    }
}

/// Called on the worker thread only.
impl<L: Listener> Client<L> {
    /// The mapping is being made again: the C API has no callback for it.
    pub(super) fn set_pending(&self, id: MappingId) {
        let listener = {
            let mut inner = self.inner.lock();
            let changed = inner.set(id, QueriedState::Pending);
            inner.table.get(&id).filter(|_| changed).map(|entry| entry.listener.clone())
        };
        if let Some(listener) = listener {
            log!(Info, "mapping {id}: pending");
            listener.tell_pending(id);
        }
    }

    /// Sets the state SUCCESS or FAILURE, which queries show at once, then calls the listener.
    pub(super) fn set(&self, id: MappingId, state: QueriedState) {
        let news = match &state {
            QueriedState::Success(external) => News::Success(external.clone()),
            QueriedState::Failure => News::Failure,
            QueriedState::Pending | QueriedState::Destroying => return,
        };
        if !self.inner.lock().set(id, state) {
            return;
        }
        match &news {
            News::Success(external) => {
                log!(Info, "mapping {id}: made at {external} by {}", external.protocol);
            }
            News::Failure | News::Destroyed => log!(Info, "mapping {id}: cannot be made for now"),
        }
        // The program may have destroyed the mapping in its log callback.
        let (wanted, listener) = {
            let mut inner = self.inner.lock();
            let Some(entry) = inner.table.get(&id).filter(|entry| !inner.is_destroying(&entry.state)) else {
                return;
            };
            let told = (entry.wanted, entry.listener.clone());
            // From now on `destroy` of this id waits.
            inner.running = Some(id);
            told
        };
        let _running = Running(self);
        let _inside = Marked::new(&IN_CALLBACK);
        listener.tell(id, &wanted, &news);
        end_thread_in_child();
    }

    /// The mapping is destroyed: its id becomes unknown before the listener is called.
    pub(super) fn set_destroyed(&self, id: MappingId) {
        let Some(Entry { wanted, listener, .. }) = self.inner.lock().table.remove(&id) else { return };
        log!(Info, "mapping {id}: destroyed");
        let _inside = Marked::new(&IN_CALLBACK);
        listener.tell(id, &wanted, &News::Destroyed);
        end_thread_in_child();
    }

    /// Destroys mappings that the engine has left over, at the end of a session: there should be none.
    pub(super) fn destroy_rest(&self) {
        loop {
            let first = self.inner.lock().table.first_key_value().map(|(id, _)| id);
            let Some(id) = first else { return };
            log!(Fatal, "defect in the library: mapping {id} is left over");
            self.set_destroyed(id);
        }
    }

    /// Sets all mappings to FAILURE, except those being destroyed: the engine is gone.
    pub(super) fn fail_all(&self) {
        let ids = self.inner.lock().table.keys();
        for id in ids {
            self.set(id, QueriedState::Failure);
        }
    }
}

impl<L> Inner<L> {
    /// Sets the state of a mapping; `false`: it is gone, being destroyed, or in FAILURE already.
    fn set(&mut self, id: MappingId, state: QueriedState) -> bool {
        let cleaning = matches!(self.phase, Phase::Cleaning);
        let Some(entry) = self.table.get_mut(&id) else { return false };
        if cleaning
            || entry.state == QueriedState::Destroying
            || entry.state == QueriedState::Failure && state == QueriedState::Failure
        {
            return false;
        }
        entry.state = state;
        true
    }
}
