//! The end of a session, and its outcome.

use super::events::EventQueues;
use super::log::Number;
use super::pool::{self, StaticClient};
use super::session::end_log;
use super::{Error, Transport};
use plum_engine::MappedKey;
use plum_runtime::client::{Ending, EngineHandle};
use plum_runtime::net::start_thread;
use plum_runtime::sync::Mutex;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What became of a session's mappings at the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Closed {
    /// What the gateway had granted, and has removed by its own account.
    pub removed: Vec<MappedPort>,
    /// What the gateway may still have: it has refused the removal or left it unanswered, here or when the mapping was dropped. It ends
    /// with its lifetime.
    pub unconfirmed: Vec<MappedPort>,
}

/// A port of this machine that was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct MappedPort {
    /// TCP or UDP.
    pub transport: Transport,
    /// The port of this machine.
    pub internal_port: u16,
    /// Whether it is a pinhole for IPv6.
    pub is_ipv6: bool,
}

impl fmt::Display for MappedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_ipv6 { " (IPv6)" } else { "" };
        write!(f, "{} {}{family}", self.transport, self.internal_port)
    }
}

/// A session whose end has begun, without its handle.
pub(super) struct SessionEnd {
    pub(super) client: StaticClient,
    pub(super) queues: Arc<EventQueues>,
    pub(super) engine: EngineHandle,
    pub(super) log: Option<Number>,
    pub(super) ending: Ending,
}

impl SessionEnd {
    /// Waits until the session has ended.
    pub(super) fn run(self) -> Result<Closed, Error> {
        // It fails in the child of a fork only.
        if self.client.finish_cleanup(self.ending).is_ok() {
            end_log(self.log.as_ref());
            pool::give_back(self.client);
        }
        self.queues.end();
        let left = self.engine.leftovers().ok_or(Error::NotClosed)?;
        let ports = |keys: Vec<MappedKey>| {
            let port = |(is_ipv6, key): MappedKey| MappedPort {
                transport: key.transport,
                internal_port: key.internal_port.get(),
                is_ipv6,
            };
            keys.into_iter().map(port).collect()
        };
        Ok(Closed { removed: ports(left.deleted), unconfirmed: ports(left.unconfirmed) })
    }

    /// Runs it on a thread of its own. Without one the worker ends all the same, and only the client is lost.
    pub(super) fn run_on_thread(self, tell: impl FnOnce(Result<Closed, Error>) + Send + 'static) {
        let queues = Arc::clone(&self.queues);
        if start_thread("plum-end", None, Box::new(move || tell(self.run()))).is_err() {
            queues.end();
        }
    }
}

/// The end of a session without blocking: the future of [`Session::closing`](super::Session::closing).
#[derive(Debug)]
#[must_use = "without its outcome the end is that of a dropped session"]
pub struct Closing {
    queues: Arc<EventQueues>,
    shared: Arc<Mutex<Ended>>,
}

#[derive(Debug, Default)]
struct Ended {
    outcome: Option<Result<Closed, Error>>,
    waker: Option<Waker>,
}

/// Tells the outcome. Dropped without one, the thread could not be started.
struct Teller {
    shared: Arc<Mutex<Ended>>,
    outcome: Option<Result<Closed, Error>>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        let mut ended = self.shared.lock();
        ended.outcome = Some(self.outcome.take().unwrap_or(Err(Error::NotClosed)));
        let waker = ended.waker.take();
        drop(ended);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Closing {
    pub(super) fn new(queues: &Arc<EventQueues>) -> Closing {
        Closing { queues: Arc::clone(queues), shared: Arc::default() }
    }

    pub(super) fn teller(&self) -> impl FnOnce(Result<Closed, Error>) + Send + 'static {
        let mut teller = Teller { shared: Arc::clone(&self.shared), outcome: None };
        move |outcome| {
            teller.outcome = Some(outcome);
            drop(teller);
        }
    }
}

impl Future for Closing {
    type Output = Result<Closed, Error>;

    /// Not to be polled again after its outcome.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.queues.is_forked() {
            return Poll::Ready(Err(Error::Forked));
        }
        // No waker is cloned or dropped with the lock held: it is the executor's code.
        let mut waker = Some(cx.waker().clone());
        let mut ended = self.shared.lock();
        let outcome = ended.outcome.take();
        if outcome.is_none() {
            std::mem::swap(&mut ended.waker, &mut waker);
        }
        drop(ended);
        outcome.map_or(Poll::Pending, Poll::Ready)
    }
}
