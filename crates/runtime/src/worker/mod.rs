//! The worker: a thread that owns the sockets and the clock, and passes inputs and outputs. It makes no decisions.
//!
//! `run` is the loop of the thread, `sockets` what it polls, `inbox` the queue of messages from other threads, `queries`
//! an engine that other threads can query, `blocking` the loop on the thread that waits for its end, and `after_panic` the
//! loop after a panic.

#![forbid(unsafe_code)]

mod after_panic;
mod blocking;
mod deferred;
mod inbox;
mod queries;
mod random;
mod refusals;
mod run;
mod sleep;
mod sockets;

pub use blocking::Blocking;
pub use plum_engine::machine::{Command, Machine};
pub use queries::{EngineHandle, Leftovers};

use crate::log::{self, log};
use crate::net::thread_mark::{is_marked, set_mark};
use crate::net::udp::DATAGRAM_LEN_MAX;
use crate::net::{self, Uplink};
use crate::sync::thread::JoinHandle;
use crate::sync::thread_local;
use inbox::{Inbox, Message};
use plum_engine::Engines;
use plum_engine::io::{Config, Event, MappingId, Random};
use plum_engine::ordered::Map;
use plum_engine::time::Time;
use random::OsRandom;
use sockets::Sockets;
use std::cell::Cell;
use std::collections::TryReserveError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The stack of the thread in bytes. The program's callbacks run on it, and C programs are used to this size. Only the
/// used part takes memory.
const STACK_LEN: usize = 8 << 20;

/// The receiver of events, called on the worker thread only, and never with a lock of the worker held.
pub trait Program: Send + 'static {
    /// Handles an event of a mapping; may call the program back, for any time.
    fn handle_event(&mut self, now: Time, id: MappingId, event: Event);

    /// When `handle_timeout` is to be called (an event waits for a name to be resolved).
    fn poll_timeout(&self) -> Option<Time>;

    /// Delivers what is due, after a timeout or a wake-up. At most one callback of the program in each call; `true`:
    /// there may be more at once. (The worker reads its sockets between calls.)
    fn handle_timeout(&mut self, now: Time) -> bool;

    /// The engine has finished, or the worker has panicked: delivers all that is held back.
    fn handle_finished(&mut self, now: Time);

    /// The worker has panicked: the mappings get FAILURE; cleanup still works.
    fn handle_panic(&mut self);
}

/// The handle of the worker. If it is dropped without [`Worker::join`], the worker still destroys all mappings and
/// ends.
pub struct Worker {
    inbox: Arc<Inbox>,
    /// `None`: it is being joined.
    thread: Option<JoinHandle<()>>,
}

/// Wakes the worker from any thread, so that it calls `Program::handle_timeout` soon.
#[derive(Clone)]
pub struct Wake(Arc<Inbox>);

impl Wake {
    /// Wakes the worker. Cheap, never blocks, harmless after the worker's end.
    pub fn wake(&self) {
        self.0.send_wake();
    }
}

impl Worker {
    /// Starts the thread, with all signals blocked. `make_program` is called on the caller's thread.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no randomness.
    pub fn start(config: Config, make_program: impl FnOnce(Wake) -> Box<dyn Program>) -> io::Result<Worker> {
        let random = os_random()?;
        Worker::start_machine(Uplink::default(), move || Engines::new(config, random), make_program)
    }

    /// Starts the thread for any machine; `make_machine` is called on it. Gateways are looked for by this uplink, if the machine may have
    /// one.
    ///
    /// # Errors
    ///
    /// The system gives no thread, no descriptor or no memory.
    pub fn start_machine<M: Machine>(
        uplink: Uplink,
        make_machine: impl FnOnce() -> M + Send + 'static,
        make_program: impl FnOnce(Wake) -> Box<dyn Program>,
    ) -> io::Result<Worker> {
        let no_descriptor = |error| without("descriptors", &error);
        let sockets = Sockets::new().map_err(no_descriptor)?;
        let inbox = {
            let waker = sockets.waker().map_err(no_descriptor)?;
            // It writes to a counter, and fails only if the program has closed our descriptor.
            Arc::new(Inbox::new(Box::new(move || drop(waker.wake()))))
        };
        let program = make_program(Wake(Arc::clone(&inbox)));
        let side = ProgramSide::new(program, Arc::clone(&inbox));
        let buffer = make_buffer().map_err(|error| without("memory", &error.into()))?;
        let body = Box::new(move || serve(make_machine, uplink, sockets, side, buffer));
        let thread = net::start_thread("plum", Some(STACK_LEN), body)
            .map_err(|error| without("a thread of its own", &error))?;
        Ok(Worker { inbox, thread: Some(thread) })
    }

    /// Sends a command: never blocks, never accesses the network. Commands are executed in order.
    pub fn send(&self, command: Command) {
        self.inbox.send(command);
    }

    /// Waits for the end of the thread, which follows [`Command::Cleanup`].
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // Its panic was logged on the thread.
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
///
/// # Errors
///
/// The system gives none.
pub fn os_random() -> io::Result<Box<dyn Random>> {
    let random = OsRandom::new().map_err(|error| without("random numbers", &error))?;
    Ok(Box::new(random))
}

/// The error of a worker that could not be started, with the missing resource.
fn without(what: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("it does not get {what}: {error}"))
}

/// The side of the worker toward the program, which continues after a panic of the machine.
struct ProgramSide {
    program: Box<dyn Program>,
    inbox: Arc<Inbox>,
    /// The mappings without a `Destroyed` yet, and whether the program waits for it.
    live: Map<MappingId, bool>,
    /// `Command::Cleanup` was received.
    cleaning: bool,
    /// `Program::handle_timeout` is to be called now, whatever its timeout.
    program_due: bool,
}

impl ProgramSide {
    fn new(program: Box<dyn Program>, inbox: Arc<Inbox>) -> ProgramSide {
        ProgramSide { program, inbox, live: Map::new(), cleaning: false, program_due: false }
    }

    /// Records the effect of a message on the program side; returns the command for the machine, if it has one.
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

    /// Delivers an event to the program. A `Destroyed` is the last of its mapping, even if the program panics on it.
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
    /// Whether this thread is a worker's.
    static IS_WORKER: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread is a worker's. (In the child of a fork no thread is.)
pub fn is_worker_thread() -> bool {
    is_marked(&IS_WORKER)
}

fn mark_worker_thread() {
    set_mark(&IS_WORKER);
}

/// The buffer for reading sockets.
fn make_buffer() -> Result<Vec<u8>, TryReserveError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(DATAGRAM_LEN_MAX)?;
    buffer.resize(DATAGRAM_LEN_MAX, 0);
    Ok(buffer)
}

/// The body of the thread.
fn serve<M: Machine>(
    make_machine: impl FnOnce() -> M,
    uplink: Uplink,
    sockets: Sockets,
    mut side: ProgramSide,
    buffer: Vec<u8>,
) {
    plum_engine::log::set_sink(log::ENGINE_SINK);
    mark_worker_thread();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (mut machine, mut sockets, mut buffer) = (make_machine(), sockets, buffer);
        run::run(&mut machine, &uplink, &mut sockets, &mut side, &mut buffer);
    }));
    if let Err(panic) = result {
        let text = log::panic_text(&*panic);
        log!(Fatal, "defect in the library: the worker panicked, mappings are no longer renewed: {text}");
        after_panic::serve(&mut side);
    }
}
