//! How the worker's events reach the table and the program: the rules of the callbacks.

use super::{Client, Entry, Inner, Listener, News, Phase, State};
use crate::engine::io::MappingId;
use crate::log::log;
use std::cell::Cell;

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is inside a mapping callback: on the worker then, where nothing may wait for the worker.
pub(super) fn in_callback() -> bool {
    // A thread that is being torn down has no thread-locals any more, and runs no callback.
    IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
}

/// Marks the calling thread as inside a mapping callback, also when that panics.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        let _ = IN_CALLBACK.try_with(|inside| inside.set(true));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = IN_CALLBACK.try_with(|inside| inside.set(false));
    }
}

/// Ends what a delivery began, also when the callback panics.
struct Running<'a, L>(&'a Client<L>);

impl<L> Drop for Running<'_, L> {
    fn drop(&mut self) {
        self.0.inner.lock().running = None;
        self.0.changed.notify_all();
    }
}

/// On the worker thread only.
impl<L: Listener> Client<L> {
    /// The mapping is being made, or made anew: nobody is told.
    pub(super) fn set_pending(&self, id: MappingId) {
        let changed = self.inner.lock().set(id, State::Pending).is_some();
        if changed {
            log!(Info, "mapping {id}: pending");
        }
    }

    /// The mapping has a new state, SUCCESS or FAILURE: a query shows it, then its listener is told.
    pub(super) fn set(&self, id: MappingId, state: State) {
        let news = match &state {
            State::Success(external) => News::Success(external.clone()),
            State::Failure => News::Failure,
            State::Pending | State::Destroying => return,
        };
        if self.inner.lock().set(id, state).is_none() {
            return;
        }
        match &news {
            News::Success(external) => {
                log!(
                    Info,
                    "mapping {id}: {} port {} by {:?}",
                    external.host,
                    external.port,
                    external.protocol
                );
            }
            News::Failure | News::Destroyed => log!(Info, "mapping {id}: cannot be made for now"),
        }
        // The log may have called the program, and the program destroyed the mapping.
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
        let _inside = Inside::enter();
        listener.tell(id, &wanted, &news);
    }

    /// The mapping is gone. The id is unknown before its listener is told.
    pub(super) fn set_destroyed(&self, id: MappingId) {
        let Some(Entry { wanted, listener, .. }) = self.inner.lock().table.remove(&id) else { return };
        log!(Info, "mapping {id}: destroyed");
        let _inside = Inside::enter();
        listener.tell(id, &wanted, &News::Destroyed);
    }

    /// Destroys what the engine has left, which should be nothing. For the end of a session.
    pub(super) fn destroy_rest(&self) {
        loop {
            let first = self.inner.lock().table.first_key_value().map(|(&id, _)| id);
            let Some(id) = first else { return };
            log!(Fatal, "defect in the library: mapping {id} was left over");
            self.set_destroyed(id);
        }
    }

    /// Keeps the callbacks' promises without an engine, until cleanup: every mapping that is not destroyed fails,
    /// every one that is to be destroyed is, and so for those that come.
    pub(super) fn serve_without_engine(&self) {
        let mut failed_up_to = None;
        loop {
            let (destroyed, failed) = {
                let mut inner = self.inner.lock();
                inner.engine_lost = true;
                loop {
                    let due = inner.due(failed_up_to);
                    if !due.0.is_empty() || !due.1.is_empty() {
                        break due;
                    }
                    if matches!(inner.phase, Phase::Cleaning) {
                        return;
                    }
                    self.changed.wait(&mut inner);
                }
            };
            for id in destroyed {
                self.set_destroyed(id);
            }
            for id in failed {
                self.set(id, State::Failure);
                failed_up_to = Some(id);
            }
        }
    }
}

impl<L> Inner<L> {
    /// Sets the state of a mapping that is there and not being destroyed.
    fn set(&mut self, id: MappingId, state: State) -> Option<()> {
        let cleaning = matches!(self.phase, Phase::Cleaning);
        let entry = self.table.get_mut(&id).filter(|entry| !cleaning && entry.state != State::Destroying)?;
        entry.state = state;
        Some(())
    }

    /// Without an engine: the mappings to be destroyed, and those to fail, after the last one that did.
    fn due(&self, failed_up_to: Option<MappingId>) -> (Vec<MappingId>, Vec<MappingId>) {
        let destroyed = self.table.iter().filter(|(_, entry)| self.is_destroying(&entry.state));
        let failed = self
            .table
            .iter()
            .filter(|(_, entry)| !self.is_destroying(&entry.state))
            .filter(|&(&id, _)| failed_up_to.is_none_or(|last| id > last));
        (destroyed.map(|(&id, _)| id).collect(), failed.map(|(&id, _)| id).collect())
    }
}
