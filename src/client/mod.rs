//! The table of mappings, the callbacks' contract, start and end of the worker. No C types.
//!
//! One plain mutex guards everything and is never held during a callback, a log message or a wait for another
//! thread. What a caller may have to wait for is written beside it instead: `running` says which mapping's callback is
//! running, `phase` whether a cleanup is.
//!
//! Commands are handed to the worker with the lock held, so that their order is that of the changes to the table.

#![forbid(unsafe_code)]

mod deliver;
mod program;
mod settings;
mod watched;

pub use crate::worker::{Glass, is_worker_thread};
pub use settings::{BadGateway, Settings, parse_gateway};

use crate::dummytls::{DummyTls, RealSystem, System};
use crate::engine::io::{Config, MappingId, OnCleanup, Protocol, Wanted};
use crate::log::{self, log};
use crate::ordered::Map;
use crate::sync::{Condvar, Mutex};
use crate::worker::{Command, Program, Wake, Worker};
use program::Deliveries;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Why a call did not do what it was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Bad input.
    Invalid,
    /// Not now: the library is not initialised, or already is.
    Failed,
    /// There is no such thing.
    NotAvailable,
}

/// Where a mapping can be reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The external address, or its DummyTLS name.
    pub host: Arc<str>,
    /// The external port.
    pub port: NonZeroU16,
    /// Who made it.
    pub protocol: Protocol,
}

/// A mapping's state, as a query shows it. One that is destroyed is in the table no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Being made, or made anew.
    Pending,
    /// Made.
    Success(External),
    /// Not to be made for now.
    Failure,
    /// Destroyed by the program, not yet by the worker.
    Destroying,
}

/// What a mapping's listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The mapping was made, or is another one now.
    Success(External),
    /// It cannot be made for now.
    Failure,
    /// It is gone: the last news of its id.
    Destroyed,
}

/// The program's side of one mapping.
pub trait Listener: Clone + Send + 'static {
    /// Called on the worker thread, with no lock held; may call the client.
    fn tell(&self, id: MappingId, wanted: &Wanted, news: &News);
}

/// What a query shows.
#[derive(Clone, Debug)]
pub struct Seen<L> {
    /// As it was created.
    pub wanted: Wanted,
    /// As it was created.
    pub listener: L,
    /// Its state.
    pub state: State,
}

/// Makes what the worker calls, for a worker that can be woken by the argument.
pub type MakeProgram<'a> = Box<dyn FnOnce(Wake) -> Box<dyn Program> + 'a>;

/// The library behind the C API: one of it in a process, but for tests.
pub struct Client<L> {
    inner: Mutex<Inner<L>>,
    /// A callback or a cleanup has ended.
    changed: Condvar,
}

struct Inner<L> {
    phase: Phase,
    /// How many cleanups have begun.
    cleanups: u64,
    /// The next mapping's; `None`: used up. It is never reset, so that no id is given out twice.
    next_id: Option<MappingId>,
    table: Map<MappingId, Entry<L>>,
    /// The mapping whose SUCCESS or FAILURE callback is running.
    running: Option<MappingId>,
}

enum Phase {
    /// Not initialised.
    Idle,
    /// Inside `init`.
    Starting,
    Running {
        worker: Worker,
        dummytls: Option<Arc<DummyTls>>,
        on_cleanup: OnCleanup,
    },
    /// Inside `cleanup`.
    Cleaning,
}

struct Entry<L> {
    wanted: Wanted,
    listener: L,
    state: State,
}

impl<L> Inner<L> {
    /// Whether the engine has been told to destroy the mapping of this state.
    fn is_destroying(&self, state: &State) -> bool {
        matches!(self.phase, Phase::Cleaning) || *state == State::Destroying
    }
}

impl<L: Listener> Client<L> {
    /// A client that is not initialised.
    pub const fn new() -> Client<L> {
        Client::with_first_id(0)
    }

    /// [`Client::new`] with another first id than 0, for tests.
    #[doc(hidden)]
    pub const fn with_first_id(first_id: MappingId) -> Client<L> {
        Client {
            inner: Mutex::new(Inner {
                phase: Phase::Idle,
                cleanups: 0,
                next_id: Some(first_id),
                table: Map::new(),
                running: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Starts a session; `None` is a configuration that makes no sense.
    ///
    /// # Errors
    ///
    /// `Invalid`: bad settings. `Failed`: there is a session already, or no thread to be had, or the caller is a log callback.
    pub fn init(&'static self, settings: Option<Settings>) -> Result<(), Error> {
        self.init_with(settings, Arc::new(RealSystem), |config, make_program| {
            Worker::start(config, make_program)
        })
    }

    /// [`Client::init`] on another ground than the real one, for tests.
    #[doc(hidden)]
    pub fn init_with(
        &'static self,
        settings: Option<Settings>,
        system: Arc<dyn System>,
        start_worker: impl FnOnce(Config, MakeProgram<'_>) -> io::Result<Worker>,
    ) -> Result<(), Error> {
        if log::in_callback() {
            return Err(Error::Failed);
        }
        let mut settings = settings.ok_or(Error::Invalid)?;
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.phase, Phase::Idle) {
                return Err(Error::Failed);
            }
            inner.phase = Phase::Starting;
        }
        log::open(settings.log_level, settings.log_callback.take());
        match self.start(&settings, system, start_worker) {
            Ok(running) => {
                self.inner.lock().phase = running;
                log!(Info, "{} is initialised", settings.library);
                Ok(())
            }
            Err(error) => {
                log!(Error, "libplum cannot be initialised: {error}");
                log::close();
                self.inner.lock().phase = Phase::Idle;
                Err(Error::Failed)
            }
        }
    }

    /// Starts the worker.
    fn start(
        &'static self,
        settings: &Settings,
        system: Arc<dyn System>,
        start_worker: impl FnOnce(Config, MakeProgram<'_>) -> io::Result<Worker>,
    ) -> io::Result<Phase> {
        for (level, complaint) in &settings.complaints {
            log::write(*level, format_args!("{complaint}"));
        }
        let domain = settings::dummytls_domain(settings).unwrap_or_else(|bytes| {
            log!(
                Error,
                "the DummyTLS domain is no host name, and ignored: {:?}",
                String::from_utf8_lossy(bytes)
            );
            None
        });
        let mut dummytls = None;
        let make_program = |wake: Wake| -> Box<dyn Program> {
            dummytls = domain.map(|domain| Arc::new(DummyTls::new(domain, system, move || wake.wake())));
            Box::new(Deliveries::new(self, dummytls.clone()))
        };
        let worker = start_worker(settings::engine_config(settings), Box::new(make_program))?;
        Ok(Phase::Running { worker, dummytls, on_cleanup: settings.on_cleanup })
    }

    /// Ends the session: every mapping is destroyed (at the gateway, those that are made may be kept), the worker is at an end.
    ///
    /// # Errors
    ///
    /// `Failed`: there is no session, or another cleanup ended it, or the caller is a callback.
    pub fn cleanup(&'static self) -> Result<(), Error> {
        if log::in_callback() || deliver::in_callback() {
            return Err(Error::Failed);
        }
        let mut inner = self.inner.lock();
        let worker = match std::mem::replace(&mut inner.phase, Phase::Cleaning) {
            Phase::Running { worker, on_cleanup, .. } => {
                if on_cleanup == OnCleanup::Keep {
                    inner.destroy_unmade(&worker);
                }
                worker
            }
            Phase::Cleaning => {
                let cleanups = inner.cleanups;
                drop(self.changed.wait_while(inner, |inner| {
                    matches!(inner.phase, Phase::Cleaning) && inner.cleanups == cleanups
                }));
                return Err(Error::Failed);
            }
            other @ (Phase::Idle | Phase::Starting) => {
                inner.phase = other;
                return Err(Error::Failed);
            }
        };
        inner.cleanups += 1;
        worker.send(Command::Cleanup);
        drop(inner);
        log!(Debug, "cleaning up");
        worker.join();
        self.destroy_left_over();
        log!(Info, "cleaned up");
        // After this no log callback comes, and a new session may open the log.
        log::close();
        self.inner.lock().phase = Phase::Idle;
        self.changed.notify_all();
        Ok(())
    }

    /// Only a worker that ended by a defect leaves mappings. Their listeners are owed a DESTROYED, on a thread that is
    /// not the program's.
    fn destroy_left_over(&'static self) {
        if self.inner.lock().table.is_empty() {
            return;
        }
        match crate::net::start_thread("plum", None, Box::new(|| self.destroy_rest())) {
            Ok(thread) => {
                if let Err(panic) = thread.join() {
                    log!(Fatal, "A callback panicked: {}", log::panic_text(&*panic));
                }
            }
            Err(_) => {
                log!(Fatal, "mappings are left over and no thread to destroy them");
                self.inner.lock().table.clear();
            }
        }
    }

    /// Whether mappings can be created.
    ///
    /// # Errors
    ///
    /// `Failed`: no.
    pub fn check_running(&self) -> Result<(), Error> {
        match self.inner.lock().phase {
            Phase::Running { .. } => Ok(()),
            Phase::Idle | Phase::Starting | Phase::Cleaning => Err(Error::Failed),
        }
    }

    /// Creates a mapping. Never waits.
    ///
    /// # Errors
    ///
    /// `Failed`: no session, or it is ending, or the ids are used up.
    pub fn create(&self, wanted: Wanted, listener: L) -> Result<MappingId, Error> {
        let mut inner = self.inner.lock();
        let Inner { phase: Phase::Running { worker, .. }, next_id, table, .. } = &mut *inner else {
            return Err(Error::Failed);
        };
        let Some(id) = *next_id else {
            drop(inner);
            log!(Error, "the ids are used up");
            return Err(Error::Failed);
        };
        *next_id = id.checked_add(1);
        table.insert(id, Entry { wanted, listener, state: State::Pending });
        worker.send(Command::Create(id, wanted));
        drop(inner);
        log!(Debug, "mapping {id}: created for {:?} {}", wanted.transport, wanted.internal_port);
        Ok(id)
    }

    /// Looks at a mapping. Never waits, never logs.
    ///
    /// # Errors
    ///
    /// `Failed`: no session. `Invalid`: a negative id. `NotAvailable`: unknown or destroyed.
    pub fn query(&self, id: MappingId) -> Result<Seen<L>, Error> {
        let inner = self.inner.lock();
        let entry = inner.entry(id)?;
        let state = if inner.is_destroying(&entry.state) { State::Destroying } else { entry.state.clone() };
        Ok(Seen { wanted: entry.wanted, listener: entry.listener.clone(), state })
    }

    /// Destroys a mapping. Waits for its running SUCCESS or FAILURE callback, but not from inside any callback.
    ///
    /// # Errors
    ///
    /// `Failed`: no session. `Invalid`: a negative id. `NotAvailable`: unknown or destroyed.
    pub fn destroy(&self, id: MappingId) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        let destroying = inner.is_destroying(&inner.entry(id)?.state);
        if !destroying {
            let Inner { phase, table, .. } = &mut *inner;
            if let (Phase::Running { worker, .. }, Some(entry)) = (phase, table.get_mut(&id)) {
                entry.state = State::Destroying;
                worker.send(Command::Destroy(id));
            }
        }
        // From now on no such callback of this id begins. One that runs on this thread, or may be waiting for the
        // log callback that this is called from, cannot be waited for.
        if !deliver::in_callback() && !log::in_callback() {
            inner = self.changed.wait_while(inner, |inner| inner.running == Some(id));
        }
        drop(inner);
        if !destroying {
            log!(Debug, "mapping {id}: to be destroyed");
        }
        Ok(())
    }

    /// The DummyTLS service of this session.
    ///
    /// # Errors
    ///
    /// `Failed`: no session, or no domain is configured.
    pub fn dummytls(&self) -> Result<Arc<DummyTls>, Error> {
        match &self.inner.lock().phase {
            Phase::Running { dummytls: Some(dummytls), .. } => Ok(Arc::clone(dummytls)),
            Phase::Running { .. } | Phase::Idle | Phase::Starting | Phase::Cleaning => Err(Error::Failed),
        }
    }
}

impl<L> Inner<L> {
    fn entry(&self, id: MappingId) -> Result<&Entry<L>, Error> {
        if !matches!(self.phase, Phase::Running { .. } | Phase::Cleaning) {
            Err(Error::Failed)
        } else if id < 0 {
            Err(Error::Invalid)
        } else {
            self.table.get(&id).ok_or(Error::NotAvailable)
        }
    }

    /// For a cleanup that keeps what is made: that is what a query shows. What the engine has made and not told of yet is
    /// destroyed before.
    fn destroy_unmade(&self, worker: &Worker) {
        for (id, entry) in self.table.iter() {
            if matches!(entry.state, State::Pending | State::Failure) {
                worker.send(Command::Destroy(id));
            }
        }
    }
}

impl<L: Listener> Default for Client<L> {
    fn default() -> Client<L> {
        Client::new()
    }
}

/// The address of this machine toward the internet; `None`: no route. Needs no session.
pub fn local_address() -> Option<IpAddr> {
    crate::net::local_address()
}
