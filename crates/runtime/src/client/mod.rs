//! The table of mappings, the contract of callbacks, and the start and end of the worker. No C types.
//!
//! One mutex guards everything. It is never held during a callback, a log message or a wait for another thread.
//! Conditions to wait for are recorded instead: `running` has the mapping whose callback is running, `phase` whether a
//! cleanup is.
//!
//! Commands are sent to the worker with the lock held, so that their order is that of the changes to the table.
//!
//! The child of a fork has its own client ([`Client::after`]). The copy of the parent's is used by no function, except
//! one whose log callback has forked: it returns without using it again.

#![forbid(unsafe_code)]

mod callbacks;
mod deliveries;
mod gateway;
mod queries;
mod session;
mod settings;

pub use crate::worker::{EngineHandle, Leftovers, is_worker_thread};
pub use gateway::{BadGateway, NamedGateway, parse_gateway};
pub use session::Ending;
pub use settings::Settings;

use crate::dummytls::DummyTls;
use crate::log::{self, log};
use crate::net::{self, Inheritable};
use crate::sync::{Condvar, Mutex};
use crate::worker::{Command, Program, Wake, Worker};
use plum_engine::io::{MappingId, Protocol, Wanted};
use plum_engine::ipv6::{Choice, Ipv6Addresses, choose};
use plum_engine::ordered::Map;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Invalid arguments.
    Invalid,
    /// The library is not initialised, or already is.
    Failed,
    /// The mapping or file does not exist.
    NotAvailable,
    /// Out of memory.
    NoMemory,
}

/// The external host and port of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalHost {
    /// The external address, or its DummyTLS name.
    pub host: Arc<str>,
    /// The external port.
    pub port: NonZeroU16,
    /// The protocol that made it.
    pub protocol: Protocol,
}

impl fmt::Display for ExternalHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 3986 §3.2.2: an IPv6 address beside a port has brackets.
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

/// The state of a mapping, as a query shows it. A destroyed mapping is not in the table any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueriedState {
    /// Being made, or made again.
    Pending,
    /// Made.
    Success(ExternalHost),
    /// No gateway can make it for now.
    Failure,
    /// Destroyed by the program, but not yet by the worker.
    Destroying,
}

/// A change of a mapping, for its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The mapping was made, or has changed.
    Success(ExternalHost),
    /// It cannot be made for now.
    Failure,
    /// It is destroyed: the last news of its id.
    Destroyed,
}

/// Receives the news of one mapping.
pub trait Listener: Clone + Send + 'static {
    /// Called on the worker thread with no lock held; may call the client.
    fn tell(&self, id: MappingId, wanted: &Wanted, news: &News);

    /// A mapping that was made is lost, and is being made again. Called as `tell` is; `destroy` does not wait for its end.
    fn tell_pending(&self, _id: MappingId) {}
}

/// The result of a query.
#[derive(Clone, Debug)]
pub struct QueriedMapping<L> {
    /// As it was created.
    pub wanted: Wanted,
    /// As it was created.
    pub listener: L,
    /// Its state.
    pub state: QueriedState,
}

/// Makes the program side of a worker; the argument wakes the worker.
pub type MakeProgram<'a> = Box<dyn FnOnce(Wake) -> Box<dyn Program> + 'a>;

/// The library behind the C API: one in each process, except in tests.
pub struct Client<L> {
    inner: Mutex<Inner<L>>,
    /// Notified when a callback or a cleanup ends.
    changed: Condvar,
    /// The settings of the session, from its start to the start of its cleanup.
    settings: Inheritable<Settings>,
    /// The id of the next mapping; above the range of ids: used up. Never reset, so that no id is reused. Changed with
    /// the lock held; read by the child of a fork.
    next_id: AtomicU32,
}

struct Inner<L> {
    phase: Phase,
    /// The number of cleanups so far.
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
    /// Initialised, in the child of a fork: the worker is started when needed.
    Dormant {
        settings: Settings,
        /// The log is open, because an attempt to start the worker has failed.
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
    /// Whether a mapping in this state is being destroyed.
    fn is_destroying(&self, state: &QueriedState) -> bool {
        matches!(self.phase, Phase::Cleaning) || *state == QueriedState::Destroying
    }
}

impl<L: Listener> Client<L> {
    /// A client that is not initialised.
    pub fn new() -> Client<L> {
        Client::with_first_id(0)
    }

    /// [`Client::new`] with a first id, for tests.
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
    /// `Failed`: there is no session.
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
    /// `Failed`: there is no session, or it is ending, or the ids are used up, or the child of a fork cannot start a
    /// thread. `NoMemory`.
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

    /// Queries a mapping. Never waits, never logs.
    ///
    /// # Errors
    ///
    /// `Failed`: there is no session. `Invalid`: a negative id. `NotAvailable`: unknown or destroyed.
    pub fn query(&self, id: MappingId) -> Result<QueriedMapping<L>, Error> {
        let inner = self.inner.lock();
        let entry = inner.entry(id)?;
        let state =
            if inner.is_destroying(&entry.state) { QueriedState::Destroying } else { entry.state.clone() };
        Ok(QueriedMapping { wanted: entry.wanted, listener: entry.listener.clone(), state })
    }

    /// Destroys a mapping. Waits for its running SUCCESS or FAILURE callback, except from inside a callback.
    ///
    /// # Errors
    ///
    /// `Failed`: there is no session. `Invalid`: a negative id. `NotAvailable`: unknown or destroyed.
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
        // From now on no such callback of this id starts. A running one is not waited for on its own thread, nor in a
        // log callback, for which it may be waiting.
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
    /// `Failed`: there is no session or no domain, or the child of a fork cannot start a thread.
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

/// The address of this machine toward the internet: that of IPv4; without an IPv4 route the IPv6 address that would be chosen
/// for a pinhole. `None`: there is no route. Needs no session.
pub fn local_address() -> Option<IpAddr> {
    net::local_address().or_else(|| chosen_address(&net::find_ipv6_addresses(None).ok()?))
}

fn chosen_address(addresses: &Ipv6Addresses) -> Option<IpAddr> {
    match choose(addresses, None) {
        Choice::Address(source) => Some(source.address.into()),
        Choice::Wait | Choice::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_has_brackets_beside_its_port() {
        let external =
            |host: &str| ExternalHost { host: host.into(), port: NonZeroU16::MIN, protocol: Protocol::Pcp };
        assert_eq!(external("203.0.113.7").to_string(), "203.0.113.7:1");
        assert_eq!(external("2001:db8::1").to_string(), "[2001:db8::1]:1");
        assert_eq!(external("1-2-3-4.dummytls.example").to_string(), "1-2-3-4.dummytls.example:1");
    }
}
