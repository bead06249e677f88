//! One thread that owns the sockets and the clock and carries inputs and outputs; it decides nothing.

#![forbid(unsafe_code)]

use crate::engine::io::{Config, Event, MappingId, Wanted};
use crate::time::Time;

/// What `client` asks of the worker.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    /// Make a mapping.
    Create(MappingId, Wanted),
    /// Remove it.
    Destroy(MappingId),
    /// Remove all, then end the thread.
    Cleanup,
}

/// The program's side, called on the worker thread only, never with a lock of the worker's held.
pub trait Program: Send + 'static {
    /// The engine's event for a mapping; may call the program back, however long that takes.
    fn handle_event(&mut self, now: Time, id: MappingId, event: Event);

    /// When `handle_timeout` is to be called (an event is held back for a name to be resolved).
    fn poll_timeout(&self) -> Option<Time>;

    /// Time has passed, or the worker was woken: deliver what is due. At most one callback of the program a
    /// call; `true` if there may be more to do at once. (The worker reads its sockets between calls.)
    fn handle_timeout(&mut self, now: Time) -> bool;

    /// The engine has finished (or the worker panicked): deliver all that is held back, now.
    fn handle_finished(&mut self, now: Time);

    /// The worker is at an end by a panic: the mappings get FAILURE, cleanup still works.
    fn handle_panic(&mut self);
}

/// The worker, as `client` holds it.
pub struct Worker {}

/// Wakes the worker from any thread: its `Program`'s `handle_timeout` is called soon.
#[derive(Clone)]
pub struct Wake {}

impl Wake {
    /// Wakes the worker; cheap, never blocks, harmless after its end.
    pub fn wake(&self) {}
}

#[allow(unused_variables)]
impl Worker {
    /// Starts the thread (all signals blocked). `make_program` is called here, on the caller's thread.
    pub fn start(
        config: Config,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> std::io::Result<Worker> {
        make_program(Wake {});
        Ok(Worker {})
    }

    /// Hands over a command: never blocks, never touches the network. Commands are carried out in order.
    pub fn send(&self, command: Command) {}

    /// Whether the calling thread is this worker's.
    pub fn is_current_thread(&self) -> bool {
        false
    }

    /// Waits until the thread has ended.
    pub fn join(self) {}
}
