//! Mappings: states, external addresses, renewals.

use super::events::EventQueues;
use super::pool::StaticClient;
use super::{Counters, Error, Mapped, Obstacle, Protocol, Request, Transport};
use plum_engine::Engines;
use plum_engine::io::Wanted;
use plum_engine::time::Time;
use plum_runtime::client::{self, EngineHandle};
use plum_runtime::log;
use plum_runtime::net::Uplink;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for the removal of a mapping. The worker reports it within a second, unless a log callback delays
/// it.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Identifies a mapping within its session. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MappingId(pub(super) i32);

impl fmt::Display for MappingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The external address and port of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct External {
    /// External address and port.
    pub address: SocketAddr,
    /// The protocol that made it.
    pub protocol: Protocol,
}

impl External {
    /// This address and port, made by this protocol.
    pub const fn new(address: SocketAddr, protocol: Protocol) -> External {
        External { address, protocol }
    }

    /// `Err`: the mapping is to be at another port. `None`: the host is a name, as with a DummyTLS domain only.
    pub(super) fn of(external: &client::ExternalHost, wanted: &Wanted) -> Option<Result<External, External>> {
        let address = external.host.parse().ok()?;
        let will_do = wanted.wish.accepts(external.port);
        let external =
            External { address: SocketAddr::new(address, external.port.get()), protocol: external.protocol };
        Some(if will_do { Ok(external) } else { Err(external) })
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The state of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Renewal {
    /// The time until the next renewal; `None`: there is none, because the mapping is permanent or direct (then nothing
    /// expires, either), or all its renewals were sent in vain.
    pub renews_in: Option<Duration>,
    /// The time until the mapping expires unless it is renewed; `None`: permanent or direct.
    pub expires_in: Option<Duration>,
}

impl Renewal {
    /// These times.
    pub const fn new(renews_in: Option<Duration>, expires_in: Option<Duration>) -> Renewal {
        Renewal { renews_in, expires_in }
    }
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
    pub(super) uplink: Uplink,
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

    /// Whether it is a [pinhole for IPv6](Request::ipv6).
    pub fn is_ipv6(&self) -> bool {
        self.request.is_ipv6()
    }

    /// Its state. Never waits.
    pub fn state(&self) -> State {
        if self.queues.is_forked() {
            return State::Removed;
        }
        match self.seen() {
            Some(Ok(external)) => State::Mapped(external),
            Some(Err(_)) => State::Failed,
            None => self.state_unmade(),
        }
    }

    fn state_unmade(&self) -> State {
        match self.client.query(self.id.0).map(|seen| seen.state) {
            Ok(client::QueriedState::Pending | client::QueriedState::Success(_)) => State::Pending,
            Ok(client::QueriedState::Failure) => State::Failed,
            Ok(client::QueriedState::Destroying) | Err(_) => State::Removed,
        }
    }

    /// Where it is made; `Err`: at another port than it has to be.
    fn seen(&self) -> Option<Result<External, External>> {
        let seen = self.client.query(self.id.0).ok()?;
        match &seen.state {
            client::QueriedState::Success(external) => External::of(external, &seen.wanted),
            _ => None,
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
    /// [`Error::NotMapped`] with the obstacle; [`Error::TimedOut`]; [`Error::Removed`]; [`Error::Forked`].
    pub fn wait(&self, timeout: Duration) -> Result<External, Error> {
        if self.queues.is_forked() {
            return Err(Error::Forked);
        }
        let is_decided = || match self.state() {
            State::Pending => None,
            decided @ (State::Mapped(_) | State::Failed | State::Removed) => Some(decided),
        };
        match self.queues.wait_for(timeout, is_decided) {
            Some(State::Mapped(external)) => Ok(external),
            Some(State::Failed) => {
                let obstacle = self.obstacle();
                // Its state may have just changed again.
                self.external().ok_or(Error::NotMapped(obstacle.unwrap_or(Obstacle::Unknown)))
            }
            Some(State::Removed) => Err(Error::Removed),
            Some(State::Pending) | None => Err(Error::TimedOut),
        }
    }

    /// Waits as [`wait`](Mapping::wait) does, without blocking and without a time limit: on any executor, which has timers of its
    /// own. Any number of tasks may wait for one mapping, and a future that is dropped costs nothing: the mapping goes on.
    ///
    /// It is `Ok` when the mapping is made, also if it is already. Otherwise it is an error as soon as that is known:
    /// [`Error::NotMapped`] with the obstacle (the library goes on trying; wait once more after the next
    /// [event](super::Events)), [`Error::Removed`] when the mapping is being removed or its session has ended, [`Error::Forked`] in
    /// the child of a fork, where nothing would ever wake the task.
    ///
    /// Wakers are called on the session's thread, with no lock held.
    ///
    /// ```
    /// use plum::{Builder, Request};
    /// # let server = plum_gateway::server::Server::start_on_own_address(|_| {})?;
    /// # let gateway = server.address();
    ///
    /// # smol::block_on(async {
    /// let plum = Builder::new().gateway(gateway).start()?;
    /// let web = plum.map(Request::tcp(8080))?;
    /// let external = web.mapped().await?;
    /// println!("reachable at {external}");
    /// # plum.closing().await?;
    /// # Ok::<(), plum::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mapped(&self) -> Mapped<'_> {
        Mapped::new(self)
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
            let renewal = Renewal::new(status.renew_at.map(left), status.expires_at.map(left));
            status.reasons.is_none().then_some(renewal)
        })?
    }

    /// What was counted of it; mappings of one port and transport share a request and its counters. Zeros if it is not known any more.
    /// Waits as [`Mapping::renewal`] does.
    pub fn counters(&self) -> Counters {
        if self.queues.is_forked() {
            return Counters::default();
        }
        let id = self.id.0;
        let counted = self.engine.query(move |now, engine| Some(engine.mapping_status(now, id)?.counters));
        counted.flatten().map_or_else(Counters::default, Counters::from)
    }

    /// What prevents it, while its state is [`State::Failed`]. Waits as [`Mapping::renewal`] does.
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.queues.is_forked() {
            return None;
        }
        if let Some(other) = self.other_port() {
            return Some(other);
        }
        self.engine.query(self.obstacle_query())?
    }

    /// Finds out on the worker what prevents it.
    pub(super) fn obstacle_query(
        &self,
    ) -> impl FnOnce(Time, &mut Engines) -> Option<Obstacle> + Send + 'static {
        let (id, is_ipv6, uplink) = (self.id, self.is_ipv6(), self.uplink.clone());
        move |now, engine| Obstacle::of(now, engine, &uplink, id, is_ipv6)
    }

    /// The time until it is tried again, while its state is [`State::Failed`]; `None`: it is being tried, or no time is set. Waits as
    /// [`Mapping::renewal`] does.
    pub fn next_try_in(&self) -> Option<Duration> {
        if self.queues.is_forked() {
            return None;
        }
        let id = self.id.0;
        self.engine.query(move |now, engine| Some(engine.mapping_status(now, id)?.retry_at?.since(now)))?
    }

    pub(super) fn other_port(&self) -> Option<Obstacle> {
        let external = self.seen()?.err()?;
        Some(Obstacle::OtherPort { external })
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
        let is_ipv6 = self.is_ipv6();
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
