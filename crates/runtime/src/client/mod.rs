//! The table of mappings, the callbacks' contract, start and end of the worker. No C types.
//!
//! One plain mutex guards everything and is never held during a callback, a log message or a wait for another
//! thread. What a caller may have to wait for is written beside it instead: `running` says which mapping's callback is
//! running, `phase` whether a cleanup is.
//!
//! Commands are handed to the worker with the lock held, so that their order is that of the changes to the table.
//!
//! The child of a fork has a client of its own ([`Client::after`]); what it has a copy of is used by no function, but by one that
//! has called the log back, which has forked: it returns without touching it again.

#![forbid(unsafe_code)]

mod callbacks;
mod deliveries;
mod queries;
mod session;
mod settings;

pub use crate::worker::{EngineHandle, is_worker_thread};
pub use settings::{BadGateway, Settings, can_be_gateway, parse_gateway};

use crate::dummytls::DummyTls;
use crate::log::{self, log};
use crate::net::Inheritable;
use crate::sync::{Condvar, Mutex};
use crate::worker::{Command, Program, Wake, Worker};
use plum_engine::io::{MappingId, Protocol, Wanted};
use plum_engine::ordered::Map;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Why a call did not do what it was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Bad input.
    Invalid,
    /// Not now: the library is not initialised, or already is.
    Failed,
    /// There is no such thing.
    NotAvailable,
    /// There is no memory for it.
    NoMemory,
}

/// Where a mapping can be reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalHost {
    /// The external address, or its DummyTLS name.
    pub host: Arc<str>,
    /// The external port.
    pub port: NonZeroU16,
    /// Who made it.
    pub protocol: Protocol,
}

impl fmt::Display for ExternalHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3986 §3.2.2: an IPv6 address beside a port has brackets.
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// A mapping's state, as a query shows it. One that is destroyed is in the table no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueriedState {
    /// Being made, or made anew.
    Pending,
    /// Made.
    Success(ExternalHost),
    /// Not to be made for now.
    Failure,
    /// Destroyed by the program, not yet by the worker.
    Destroying,
}

/// What a mapping's listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The mapping was made, or is another one now.
    Success(ExternalHost),
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
pub struct QueriedMapping<L> {
    /// As it was created.
    pub wanted: Wanted,
    /// As it was created.
    pub listener: L,
    /// Its state.
    pub state: QueriedState,
}

/// Makes what the worker calls, for a worker that can be woken by the argument.
pub type MakeProgram<'a> = Box<dyn FnOnce(Wake) -> Box<dyn Program> + 'a>;

/// The library behind the C API: one of it in a process, but for tests.
pub struct Client<L> {
    inner: Mutex<Inner<L>>,
    /// A callback or a cleanup has ended.
    changed: Condvar,
    /// The settings of the session, from its beginning to that of its end.
    settings: Inheritable<Settings>,
    /// The next mapping's id, or more than an id may be: used up. It is never reset, so that no id is given out twice. Changed with the
    /// lock held; the child of a fork reads it.
    next_id: AtomicU32,
}

struct Inner<L> {
    phase: Phase,
    /// How many cleanups have begun.
    cleanups: u64,
    table: Map<MappingId, Entry<L>>,
    /// The mapping whose SUCCESS or FAILURE callback is running.
    running: Option<MappingId>,
}

enum Phase {
    /// Not initialised.
    Idle,
    /// Inside `init`.
    Starting,
    /// Initialised, in the child of a fork: the worker is started when it is needed.
    Dormant {
        settings: Settings,
        /// The log is open: the worker could not be started at once.
        is_logging: bool,
    },
    Running {
        settings: Settings,
        worker: Worker,
        dummytls: Option<Arc<DummyTls>>,
    },
    /// Inside `cleanup`.
    Cleaning,
}

struct Entry<L> {
    wanted: Wanted,
    listener: L,
    state: QueriedState,
}

impl<L> Inner<L> {
    /// Whether the engine has been told to destroy the mapping of this state.
    fn is_destroying(&self, state: &QueriedState) -> bool {
        matches!(self.phase, Phase::Cleaning) || *state == QueriedState::Destroying
    }
}

impl<L: Listener> Client<L> {
    /// A client that is not initialised.
    pub fn new() -> Client<L> {
        Client::with_first_id(0)
    }

    /// [`Client::new`] with another first id than 0, for tests.
    #[doc(hidden)]
    pub fn with_first_id(first_id: MappingId) -> Client<L> {
        Client {
            inner: Mutex::new(Inner { phase: Phase::Idle, cleanups: 0, table: Map::new(), running: None }),
            changed: Condvar::new(),
            settings: Inheritable::new(),
            next_id: AtomicU32::new(first_id.cast_unsigned()),
        }
    }

    /// Whether mappings can be created.
    ///
    /// # Errors
    ///
    /// `Failed`: no.
    pub fn check_running(&self) -> Result<(), Error> {
        match self.inner.lock().phase {
            Phase::Dormant { .. } | Phase::Running { .. } => Ok(()),
            Phase::Idle | Phase::Starting | Phase::Cleaning => Err(Error::Failed),
        }
    }

    /// Creates a mapping. Never waits.
    ///
    /// # Errors
    ///
    /// `Failed`: no session, or it is ending, or the ids are used up; or, in the child of a fork, no thread to be had. `NoMemory`.
    pub fn create(&'static self, wanted: Wanted, listener: L) -> Result<MappingId, Error> {
        let mut inner = self.lock_awake()?;
        let Inner { phase: Phase::Running { worker, .. }, table, .. } = &mut *inner else {
            return Err(Error::Failed);
        };
        let next_id = self.next_id.load(Ordering::Relaxed);
        let Ok(id) = MappingId::try_from(next_id) else {
            drop(inner);
            log!(Error, "cannot create a mapping: the ids are used up");
            return Err(Error::Failed);
        };
        if let Err(error) = table.try_reserve() {
            drop(inner);
            log!(Error, "cannot create a mapping: {error}");
            return Err(Error::NoMemory);
        }
        self.next_id.store(next_id + 1, Ordering::Relaxed);
        table.insert(id, Entry { wanted, listener, state: QueriedState::Pending });
        worker.send(Command::Create(id, wanted));
        drop(inner);
        log!(Debug, "mapping {id}: created for {} {}", wanted.transport, wanted.internal_port);
        Ok(id)
    }

    /// Looks at a mapping. Never waits, never logs.
    ///
    /// # Errors
    ///
    /// `Failed`: no session. `Invalid`: a negative id. `NotAvailable`: unknown or destroyed.
    pub fn query(&self, id: MappingId) -> Result<QueriedMapping<L>, Error> {
        let inner = self.inner.lock();
        let entry = inner.entry(id)?;
        let state =
            if inner.is_destroying(&entry.state) { QueriedState::Destroying } else { entry.state.clone() };
        Ok(QueriedMapping { wanted: entry.wanted, listener: entry.listener.clone(), state })
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
                entry.state = QueriedState::Destroying;
                worker.send(Command::Destroy(id));
            }
        }
        // From now on no such callback of this id begins. One that runs on this thread, or may be waiting for the
        // log callback that this is called from, cannot be waited for.
        if !callbacks::in_callback() && !log::in_callback() {
            inner = self.changed.wait_while(inner, |inner| inner.running == Some(id));
        }
        drop(inner);
        if !destroying {
            log!(Debug, "mapping {id}: is being destroyed");
        }
        Ok(())
    }

    /// The DummyTLS service of this session.
    ///
    /// # Errors
    ///
    /// `Failed`: no session, or no domain is configured; or, in the child of a fork, no thread to be had.
    pub fn dummytls(&'static self) -> Result<Arc<DummyTls>, Error> {
        let inner = self.lock_awake()?;
        match &inner.phase {
            Phase::Running { dummytls: Some(dummytls), .. } => Ok(Arc::clone(dummytls)),
            _ => Err(Error::Failed),
        }
    }
}

impl<L> Inner<L> {
    fn entry(&self, id: MappingId) -> Result<&Entry<L>, Error> {
        if matches!(self.phase, Phase::Idle | Phase::Starting) {
            Err(Error::Failed)
        } else if id < 0 {
            Err(Error::Invalid)
        } else {
            self.table.get(&id).ok_or(Error::NotAvailable)
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
