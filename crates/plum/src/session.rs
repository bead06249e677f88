//! Sessions: their client, worker and end.

use super::events::{EventListener, EventQueues};
use super::log::{self, Number, Subscription};
use super::pool::{self, StaticClient};
use super::{Error, Events, Mapping, MappingId, Request};
use plum_runtime::client::{self, EngineHandle, Settings};
use plum_runtime::net::start_thread;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// A running library: its mappings are maintained until they or the session are dropped.
///
/// Dropping it removes all its mappings at the gateway and ends its thread. That waits for the gateway's answers: 0.8 s
/// after its last sign of life, 5 s at most. (In a log callback, which must not wait, a thread does it.)
///
/// To share it among threads put it into an [`Arc`]. Several sessions of a process know nothing of each other; two that map the
/// same internal port of one transport get into each other's way at the gateway.
pub struct Session {
    queues: Arc<EventQueues>,
    engine: EngineHandle,
    client: StaticClient,
    log: Option<Number>,
}

impl Session {
    /// A session with the default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start).
    pub fn start_default() -> Result<Session, Error> {
        super::Builder::new().start()
    }

    pub(super) fn start(mut settings: Settings, log: Option<Subscription>) -> Result<Session, Error> {
        if plum_runtime::log::in_callback() {
            // Opening the log would wait for the message that is being written.
            return Err(Error::NotStarted(io::Error::other("a log callback cannot start one")));
        }
        let log = log.map(log::subscribe);
        settings.log_level = log::threshold();
        settings.log_callback = Some(log::tell_all());
        let client = pool::take();
        match client.init_queried(settings) {
            Ok(engine) => Ok(Session { queues: EventQueues::new(), engine, client, log }),
            Err(error) => {
                end_log(log.as_ref());
                pool::give_back(client);
                Err(Error::NotStarted(error))
            }
        }
    }

    /// Asks for a mapping. Returns at once: the work is done by the session's thread, and goes on until the mapping is
    /// dropped. [`Mapping::wait`] waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::PortZero`], [`Error::Forked`], [`Error::IdsUsedUp`].
    pub fn map(&self, request: Request) -> Result<Mapping, Error> {
        if self.queues.is_forked() {
            return Err(Error::Forked);
        }
        let wanted = request.wanted()?;
        // The session runs as long as there is `self`.
        let id =
            self.client.create(wanted, EventListener(Arc::clone(&self.queues))).map_err(
                |error| match error {
                    plum_runtime::client::Error::NoMemory => Error::NoMemory,
                    _ => Error::IdsUsedUp,
                },
            )?;
        Ok(Mapping {
            client: self.client,
            id: MappingId(id),
            request,
            queues: Arc::clone(&self.queues),
            engine: self.engine.clone(),
        })
    }

    /// What happens to the session's mappings from now on.
    pub fn events(&self) -> Events {
        self.queues.listen()
    }

    /// The gateway that is asked; `None`: there is none, or nothing has been mapped yet. Waits as
    /// [`Mapping::renewal`] does.
    pub fn gateway(&self) -> Option<IpAddr> {
        if self.queues.is_forked() {
            return None;
        }
        self.engine.query(|_, engine| engine.gateway())?
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.queues.is_forked() {
            return;
        }
        let end = SessionEnd { client: self.client, queues: Arc::clone(&self.queues), log: self.log.take() };
        // The client does not clean up in a log callback: it would wait for itself.
        if client::is_worker_thread() || plum_runtime::log::in_callback() {
            // Without a thread the session continues unused.
            let _ = start_thread("plum-end", None, Box::new(move || end.run()));
        } else {
            end.run();
        }
    }
}

/// What is left of a session that is dropped.
struct SessionEnd {
    client: StaticClient,
    queues: Arc<EventQueues>,
    log: Option<Number>,
}

impl SessionEnd {
    fn run(self) {
        // This cannot fail: the session runs, only this ends it, and this is no callback.
        if self.client.cleanup().is_ok() {
            end_log(self.log.as_ref());
            pool::give_back(self.client);
        }
        self.queues.end();
    }
}

/// Reopens the log for the remaining sessions, after a session has closed it or failed to start.
fn end_log(log: Option<&Number>) {
    if let Some(number) = log {
        log::unsubscribe(number);
    }
    log::reopen();
}
