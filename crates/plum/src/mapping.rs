//! One mapping.

use super::events::EventQueues;
use super::pool::StaticClient;
use super::{Error, Obstacle, Protocol, Transport};
use plum_engine::io::{Suggestion, Wanted};
use plum_runtime::client::{self, EngineHandle};
use plum_runtime::log;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for the removal of a mapping. The worker reports it within a second, unless a log callback delays
/// it.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A request for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    transport: Transport,
    internal_port: u16,
    external_port: u16,
    external_address: Option<IpAddr>,
}

impl Request {
    /// A mapping to this port of this machine.
    pub const fn new(transport: Transport, internal_port: u16) -> Request {
        Request { transport, internal_port, external_port: 0, external_address: None }
    }

    /// A mapping to this TCP port of this machine.
    pub const fn tcp(internal_port: u16) -> Request {
        Request::new(Transport::Tcp, internal_port)
    }

    /// A mapping to this UDP port of this machine.
    pub const fn udp(internal_port: u16) -> Request {
        Request::new(Transport::Udp, internal_port)
    }

    /// The suggested external port; the gateway may assign another. 0 or not set: the internal port is suggested.
    #[must_use]
    pub const fn external_port(mut self, port: u16) -> Request {
        self.external_port = port;
        self
    }

    /// The suggested external address, for gateways with several.
    #[must_use]
    pub const fn external_address(mut self, address: IpAddr) -> Request {
        self.external_address = Some(address);
        self
    }

    pub(super) fn wanted(self) -> Result<Wanted, Error> {
        Ok(Wanted {
            transport: self.transport,
            internal_port: NonZeroU16::new(self.internal_port).ok_or(Error::PortZero)?,
            wish: Suggestion {
                address: self.external_address,
                port: NonZeroU16::new(self.external_port),
                ..Suggestion::default()
            },
            description: None,
        })
    }
}

/// Identifies a mapping within its session. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(pub(super) i32);

impl fmt::Display for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The external address and port of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct External {
    /// External address and port.
    pub address: SocketAddr,
    /// The protocol that made it.
    pub protocol: Protocol,
}

impl External {
    /// `None`: the host is a name, as with a DummyTLS domain only.
    pub(super) fn new(external: &client::ExternalHost) -> Option<External> {
        let address = external.host.parse().ok()?;
        Some(External { address: SocketAddr::new(address, external.port.get()), protocol: external.protocol })
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The state of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It is being made, or made again after a loss.
    Pending,
    /// It is made.
    Mapped(External),
    /// It cannot be made for now ([`Mapping::obstacle`] says why). The library keeps trying.
    Failed,
    /// It is removed, or its session has ended.
    Removed,
}

/// When a mapping is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// The time until the next renewal; `None`: there is none, because the mapping is permanent or direct (then nothing
    /// expires, either), or all its renewals were sent in vain.
    pub renews_in: Option<Duration>,
    /// The time until the mapping expires unless it is renewed; `None`: permanent or direct.
    pub expires_in: Option<Duration>,
}

/// A port that is mapped on the gateway, or will be. Dropping it removes the mapping there: the worker does that,
/// without a wait.
///
/// It does not keep its session alive: after the session's end its state is [`State::Removed`].
#[must_use = "a mapping that is dropped is removed"]
pub struct Mapping {
    pub(super) client: StaticClient,
    pub(super) id: MappingId,
    pub(super) request: Request,
    pub(super) queues: Arc<EventQueues>,
    pub(super) engine: EngineHandle,
}

impl Mapping {
    /// Its name in the session's [`Events`](super::Events).
    pub fn id(&self) -> MappingId {
        self.id
    }

    /// TCP or UDP.
    pub fn transport(&self) -> Transport {
        self.request.transport
    }

    /// The port of this machine.
    pub fn internal_port(&self) -> u16 {
        self.request.internal_port
    }

    /// Its state. Never waits.
    pub fn state(&self) -> State {
        if self.queues.is_forked() {
            return State::Removed;
        }
        match self.client.query(self.id.0).map(|seen| seen.state) {
            Ok(client::QueriedState::Pending) => State::Pending,
            Ok(client::QueriedState::Success(external)) => {
                External::new(&external).map_or(State::Pending, State::Mapped)
            }
            Ok(client::QueriedState::Failure) => State::Failed,
            Ok(client::QueriedState::Destroying) | Err(_) => State::Removed,
        }
    }

    /// Its external address and port, if it is made. Never waits.
    pub fn external(&self) -> Option<External> {
        match self.state() {
            State::Mapped(external) => Some(external),
            State::Pending | State::Failed | State::Removed => None,
        }
    }

    /// Waits until it is made, cannot be made for now, or is removed.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] with the obstacle; [`Error::TimedOut`]; [`Error::Removed`].
    pub fn wait(&self, timeout: Duration) -> Result<External, Error> {
        let is_decided = || match self.state() {
            State::Pending => None,
            decided @ (State::Mapped(_) | State::Failed | State::Removed) => Some(decided),
        };
        match self.queues.wait_for(timeout, is_decided) {
            Some(State::Mapped(external)) => Ok(external),
            Some(State::Failed) => match self.obstacle() {
                Some(obstacle) => Err(Error::NotMapped(obstacle)),
                // Its state has just changed again.
                None => self.external().ok_or(Error::TimedOut),
            },
            Some(State::Removed) => Err(Error::Removed),
            Some(State::Pending) | None => Err(Error::TimedOut),
        }
    }

    /// When it is renewed; `None`: it is not made. Waits for the worker's turn, which takes microseconds unless a log
    /// callback delays it; in a log callback, returns `None`.
    pub fn renewal(&self) -> Option<Renewal> {
        if self.queues.is_forked() {
            return None;
        }
        self.external()?;
        let id = self.id.0;
        self.engine.query(move |now, engine| {
            let status = engine.mapping_status(now, id)?;
            let left = |at: plum_engine::time::Time| at.since(now);
            status.reasons.is_none().then(|| Renewal {
                renews_in: status.renew_at.map(left),
                expires_in: status.expires_at.map(left),
            })
        })?
    }

    /// What prevents it, while its state is [`State::Failed`]. Waits as [`Mapping::renewal`] does.
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.queues.is_forked() {
            return None;
        }
        let id = self.id.0;
        self.engine.query(move |now, engine| {
            let reasons = engine.mapping_status(now, id)?.reasons?;
            let (is_routed, gateway) = engine.way_of(id);
            Some(Obstacle::new(is_routed, gateway, reasons))
        })?
    }

    /// Removes it as dropping does, and waits until the gateway has answered, for about 0.8 s at most. Returns whether
    /// the gateway has answered or need not be asked; if not, the mapping ends with its lifetime at the latest. After
    /// the session's end, which has removed what it could: `true`. In a log callback, which must not wait: `false`.
    pub fn remove(self) -> bool {
        self.start_removal();
        let is_gone = || self.client.query(self.id.0).is_err().then_some(());
        self.queues.wait_for(REMOVAL_TIMEOUT, is_gone);
        let Some(port) = NonZeroU16::new(self.request.internal_port) else { return true };
        let transport = self.request.transport;
        let is_ipv6 = self.request.external_address.is_some_and(|address| address.is_ipv6());
        let is_open =
            self.engine.query(move |_, engine| engine.is_deletion_unconfirmed(is_ipv6, transport, port));
        // If the engine is gone, the session has ended.
        !is_open.unwrap_or(log::in_callback())
    }

    /// Starts the removal without waiting, for many mappings that are to be [`remove`](Mapping::remove)d at the same
    /// time.
    pub fn start_removal(&self) {
        if !self.queues.is_forked() {
            // An error means that it is gone.
            let _ = self.client.destroy(self.id.0);
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("id", &self.id)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.start_removal();
    }
}
