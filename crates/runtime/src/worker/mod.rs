//! One thread that owns the sockets and the clock and carries inputs and outputs; it decides nothing.
//!
//! `run` is the thread's loop, `sockets` what it polls, `inbox` what other threads leave for it, `machine` what it
//! carries for (the engine), `watched` the engine where other threads look at it, and `after_panic` what is left of it when
//! something in it has panicked.

#![forbid(unsafe_code)]

mod after_panic;
mod deferred;
#[cfg(shuttle)]
pub mod explored;
mod inbox;
mod machine;
mod queries;
mod random;
mod refusals;
mod run;
mod sleep;
mod sockets;

pub use machine::Machine;
pub use queries::EngineHandle;

use crate::log::{self, log};
use crate::net;
use crate::net::thread_mark::{is_marked, set_mark};
use crate::net::udp::DATAGRAM_LEN_MAX;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::thread_local;
use inbox::{Inbox, Message};
use plum_engine::Engine;
use plum_engine::io::{Config, Event, MappingId, Wanted};
use plum_engine::ordered::Map;
use plum_engine::time::Time;
use random::OsRandom;
use sockets::Sockets;
use std::cell::Cell;
use std::collections::TryReserveError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The thread's stack in bytes. Callbacks of the program run on it, and C programs are used to this much.
/// Memory is only taken for what is used of it.
const STACK_LEN: usize = 8 << 20;

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

/// The worker, as `client` holds it. Dropped without [`Worker::join`], it still removes all mappings and ends.
pub struct Worker {
    inbox: Arc<Inbox>,
    /// `None` once it is being joined.
    thread: Option<JoinHandle<()>>,
}

/// Wakes the worker from any thread: its `Program`'s `handle_timeout` is called soon.
#[derive(Clone)]
pub struct Wake(Arc<Inbox>);

impl Wake {
    /// Wakes the worker; cheap, never blocks, harmless after its end.
    pub fn wake(&self) {
        self.0.send_wake();
    }
}

impl Worker {
    /// Starts the thread (all signals blocked). `make_program` is called here, on the caller's thread.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no randomness.
    pub fn start(config: Config, make_program: impl FnOnce(Wake) -> Box<dyn Program>) -> io::Result<Worker> {
        let random = os_random()?;
        Worker::start_machine(move || Engine::new(config, random), make_program)
    }

    /// Starts the thread for any machine; `make_machine` is called on it.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no memory.
    pub fn start_machine<M: Machine>(
        make_machine: impl FnOnce() -> M + Send + 'static,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<Worker> {
        let no_descriptor = |error| without("descriptors", &error);
        let sockets = Sockets::new().map_err(no_descriptor)?;
        let inbox = {
            let waker = sockets.waker().map_err(no_descriptor)?;
            // It writes to a counter and cannot fail but for a descriptor that the program closed behind our back.
            Arc::new(Inbox::new(Box::new(move || drop(waker.wake()))))
        };
        let program = make_program(Wake(Arc::clone(&inbox)));
        let side = ProgramSide::new(program, Arc::clone(&inbox));
        let buffer = make_buffer().map_err(|error| without("memory", &error.into()))?;
        let body = Box::new(move || serve(make_machine, sockets, side, buffer));
        let thread = net::start_thread("plum", Some(STACK_LEN), body)
            .map_err(|error| without("a thread of its own", &error))?;
        Ok(Worker { inbox, thread: Some(thread) })
    }

    /// Hands over a command: never blocks, never touches the network. Commands are carried out in order.
    pub fn send(&self, command: Command) {
        self.inbox.send(command);
    }

    /// Whether the calling thread is this worker's.
    pub fn is_current_thread(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    /// Waits until the thread has ended; it does so after [`Command::Cleanup`].
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in it was logged there.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.send(Command::Cleanup);
        }
    }
}

/// The engine's randomness.
fn os_random() -> io::Result<Box<OsRandom>> {
    OsRandom::new().map(Box::new).map_err(|error| without("random numbers", &error))
}

/// The error of a worker that could not be started, with what it lacks.
fn without(what: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("it does not get {what}: {error}"))
}

/// The side toward the program: what must go on even when the machine is no more.
struct ProgramSide {
    program: Box<dyn Program>,
    inbox: Arc<Inbox>,
    /// Mappings that have not had their `Destroyed`, and whether the program waits for it.
    live: Map<MappingId, bool>,
    /// `Command::Cleanup` has come.
    cleaning: bool,
    /// `Program::handle_timeout` is to be called whatever its timeout.
    program_due: bool,
}

impl ProgramSide {
    fn new(program: Box<dyn Program>, inbox: Arc<Inbox>) -> ProgramSide {
        ProgramSide { program, inbox, live: Map::new(), cleaning: false, program_due: false }
    }

    /// Remembers what a note means for the program; gives back the command that is the machine's.
    fn take_in(&mut self, message: Message) -> Option<Command> {
        match message {
            Message::Wake => {
                self.program_due = true;
                return None;
            }
            Message::Command(Command::Create(id, _)) => {
                self.live.insert(id, false);
            }
            Message::Command(Command::Destroy(id)) => {
                if let Some(destroying) = self.live.get_mut(&id) {
                    *destroying = true;
                }
            }
            Message::Command(Command::Cleanup) => {
                if std::mem::replace(&mut self.cleaning, true) {
                    return None;
                }
            }
        }
        match message {
            Message::Command(command) => Some(command),
            Message::Wake => None,
        }
    }

    /// Tells the program; a `Destroyed` is the last of its mapping even if the program panics on it.
    fn tell(&mut self, now: Time, id: MappingId, event: Event) {
        if event == Event::Destroyed {
            self.live.remove(&id);
        }
        self.program.handle_event(now, id, event);
    }

    fn is_program_due(&self, now: Time) -> bool {
        self.program_due || self.program.poll_timeout().is_some_and(|at| at <= now)
    }
}

thread_local! {
    /// This thread is a worker's.
    static IS_WORKER: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread is a worker's. (The copy of one in the child of a fork is none.)
pub fn is_worker_thread() -> bool {
    is_marked(&IS_WORKER)
}

/// Marks the calling thread as a worker's.
fn mark_worker_thread() {
    set_mark(&IS_WORKER);
}

/// What is read from sockets comes into this.
fn make_buffer() -> Result<Vec<u8>, TryReserveError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(DATAGRAM_LEN_MAX)?;
    buffer.resize(DATAGRAM_LEN_MAX, 0);
    Ok(buffer)
}

/// The thread.
fn serve<M: Machine>(
    make_machine: impl FnOnce() -> M,
    sockets: Sockets,
    mut side: ProgramSide,
    buffer: Vec<u8>,
) {
    plum_engine::log::set_sink(log::ENGINE_SINK);
    mark_worker_thread();
    let result = catch_unwind(AssertUnwindSafe(|| run::run(make_machine(), sockets, &mut side, buffer)));
    if let Err(panic) = result {
        let text = log::panic_text(&*panic);
        log!(Fatal, "defect in the library: the worker panicked, mappings are no longer renewed: {text}");
        after_panic::serve(&mut side);
    }
}
