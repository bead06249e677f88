//! Sessions: their client and worker.

use super::end::{Closed, Closing, SessionEnd};
use super::events::{EventListener, EventQueues};
use super::log::{self, Number, Subscription};
use super::pool::{self, StaticClient};
use super::{Counters, Error, Events, Mapping, MappingId, Request};
use plum_engine::machine::Machine;
use plum_runtime::client::{self, EngineHandle, Settings};
use plum_runtime::net::Uplink;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// A running library: its mappings are maintained until they or the session are dropped.
///
/// [`Session::close`] removes all its mappings at the gateway, ends its thread, and tells what was removed. Dropping it starts
/// the same and does not wait for the gateway: when the drop returns, the first removals are sent, and a thread of its own sees to
/// the rest, for 5 s at most. So a program that ends at once after the drop leaves on the gateway what was not removed in one
/// round trip, until its lifetime ends; close the session at the end of a program.
///
/// To share it among threads put it into an [`Arc`]. Several sessions of a process know nothing of each other; two that map the
/// same internal port of one transport get into each other's way at the gateway.
///
/// The child of a fork has none of its parent's sessions: calls fail with [`Error::Forked`] or say that there is nothing, tasks do
/// not wait, and dropping does nothing. It can start sessions of its own.
pub struct Session {
    queues: Arc<EventQueues>,
    engine: EngineHandle,
    client: StaticClient,
    uplink: Uplink,
    log: Option<Number>,
    is_closed: bool,
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

    pub(super) fn start(
        mut settings: Settings,
        uplink: Uplink,
        log: Option<Subscription>,
    ) -> Result<Session, Error> {
        if plum_runtime::log::in_callback() {
            // Opening the log would wait for the message that is being written.
            return Err(Error::NotStarted(io::Error::other("a log callback cannot start one")));
        }
        let log = log.map(log::subscribe);
        settings.log_level = log::threshold();
        settings.log_callback = Some(log::tell_all());
        let client = pool::take();
        match client.init_queried(settings, uplink.clone()) {
            Ok(engine) => {
                Ok(Session { queues: EventQueues::new(), engine, client, uplink, log, is_closed: false })
            }
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
    /// [`Error::PortZero`], [`Error::PermanentPinhole`], [`Error::Forked`], [`Error::IdsUsedUp`], [`Error::NoMemory`].
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
            uplink: self.uplink.clone(),
        })
    }

    /// What happens to the session's mappings from now on.
    pub fn events(&self) -> Events {
        self.queues.listen()
    }

    /// Has the gateway asked now, as if the network had changed: whether it still has the mappings, and once more for those that
    /// failed because nothing answered. Returns at once; [`Events`] tell what came of it. However often it is called, the gateway is
    /// checked once a second at most; what a gateway has refused is asked again when its time has come.
    pub fn recheck(&self) {
        if !self.queues.is_forked() {
            self.engine.post(|now, engine| engine.handle_network_changed(now));
        }
    }

    /// Removes all mappings at the gateway and ends the session. Waits for the gateway's answers: 0.8 s after its last sign of life,
    /// 5 s at most. Returns what was removed.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`]; [`Error::NotClosed`], in a log callback, which must not wait: then it is as dropped.
    pub fn close(mut self) -> Result<Closed, Error> {
        if self.queues.is_forked() {
            return Err(Error::Forked);
        }
        if client::is_worker_thread() || plum_runtime::log::in_callback() {
            return Err(Error::NotClosed);
        }
        self.end().map_or(Err(Error::NotClosed), SessionEnd::run)
    }

    /// [`close`](Session::close) without blocking, on any executor. The end begins with this call; a future that is dropped is the
    /// end without its outcome.
    pub fn closing(mut self) -> Closing {
        let closing = Closing::new(&self.queues);
        if !self.queues.is_forked() {
            match self.end() {
                Some(end) => end.run_on_thread(closing.teller()),
                None => drop(closing.teller()),
            }
        }
        closing
    }

    /// Begins the end of the session; `None`: another call has.
    fn end(&mut self) -> Option<SessionEnd> {
        self.is_closed = true;
        // This cannot fail: the session runs, and only this ends it.
        let ending = self.client.begin_cleanup().ok()?;
        let (client, queues, engine) = (self.client, Arc::clone(&self.queues), self.engine.clone());
        Some(SessionEnd { client, queues, engine, log: self.log.take(), ending })
    }

    /// What was counted of all its mappings since its start. Zeros in the child of a fork. Waits as [`Mapping::renewal`] does.
    pub fn counters(&self) -> Counters {
        if self.queues.is_forked() {
            return Counters::default();
        }
        self.engine.query(|_, engine| engine.counters()).map_or_else(Counters::default, Counters::from)
    }

    /// The gateway that is asked, for IPv4 if both are; `None`: there is none, or nothing has been mapped yet. Waits as
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
        if self.is_closed || self.queues.is_forked() {
            return;
        }
        let Some(end) = self.end() else { return };
        end.run_on_thread(|_| {});
        // Commands are carried out before queries. Here, too, the worker is not waited for in a callback.
        self.engine.query(|_, _| ());
    }
}

/// Reopens the log for the remaining sessions, after a session has closed it or failed to start.
pub(super) fn end_log(log: Option<&Number>) {
    if let Some(number) = log {
        log::unsubscribe(number);
    }
    log::reopen();
}
