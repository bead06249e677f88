//! The start and end of a session, and its restart in the child of a fork.

use super::deliveries::Deliveries;
use super::{
    Client, Error, Inner, Listener, MakeProgram, Phase, QueriedState, Settings, callbacks, settings,
};
use crate::dummytls::{DummyTls, RealSystem, System};
use crate::log::{self, Level, log};
use crate::net::generation;
use crate::sync::MutexGuard;
use crate::worker::{Command, Program, Wake, Worker};
use plum_engine::io::{Config, OnCleanup};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A session that ends: its worker, if it has one.
pub struct Ending(Option<Worker>);

impl<L: Listener> Client<L> {
    /// A client for the child of a fork: the same session as the parent's, but without mappings.
    pub fn after(parent: Option<&Client<L>>) -> Client<L> {
        let Some(parent) = parent else { return Client::new() };
        let client =
            Client { next_id: AtomicU32::new(parent.next_id.load(Ordering::Relaxed)), ..Client::new() };
        if let Some(settings) = parent.settings.inherited() {
            let dormant = Phase::Dormant { settings: settings.clone(), is_logging: false };
            client.leave_to_children(&dormant);
            client.inner.lock().phase = dormant;
        }
        client
    }

    /// Starts a session; `None`: an invalid configuration.
    ///
    /// # Errors
    ///
    /// `Invalid`: invalid settings. `Failed`: there is a session already, no thread can be started, or the caller is a
    /// log callback.
    pub fn init(&'static self, settings: Option<Settings>) -> Result<(), Error> {
        self.init_with(settings, Arc::new(RealSystem), |config, make_program| {
            Worker::start(config, make_program)
        })
    }

    /// [`Client::init`] with another system or worker, for tests.
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
        let settings = settings.ok_or(Error::Invalid)?;
        {
            let mut inner = self.inner.lock();
            if !matches!(inner.phase, Phase::Idle) {
                return Err(Error::Failed);
            }
            inner.phase = Phase::Starting;
        }
        log::open(settings.log_level, settings.log_callback.clone());
        let process = generation();
        let library = settings.library;
        match self.start(settings, system, start_worker) {
            Ok((running, errors)) => {
                self.begin(running);
                for (level, error) in errors {
                    log::write(level, format_args!("{error}"));
                }
                log!(Info, "{library} is initialised");
                Ok(())
            }
            Err(error) => {
                log!(Error, "libplum cannot be initialised: {error}");
                // Unless this is a child forked by the log callback.
                if process == generation() {
                    self.end_log();
                }
                Err(Error::Failed)
            }
        }
    }

    /// Starts the worker. No message is logged.
    fn start(
        &'static self,
        mut settings: Settings,
        system: Arc<dyn System>,
        start_worker: impl FnOnce(Config, MakeProgram<'_>) -> io::Result<Worker>,
    ) -> io::Result<(Phase, settings::SettingsErrors)> {
        let domain = settings.check_dummytls_domain();
        let errors = std::mem::take(&mut settings.errors);
        let mut dummytls = None;
        let make_program = |wake: Wake| -> Box<dyn Program> {
            dummytls = domain.map(|domain| Arc::new(DummyTls::new(domain, system, move || wake.wake())));
            Box::new(Deliveries::new(self, dummytls.clone()))
        };
        let worker = start_worker(settings::engine_config(&settings), Box::new(make_program))?;
        Ok((Phase::Running { settings, worker, dummytls }, errors))
    }

    fn begin(&self, running: Phase) {
        let mut inner = self.inner.lock();
        self.leave_to_children(&running);
        inner.phase = running;
    }

    /// Takes the lock. In the child of a fork, starts the session first if the parent had one. (Nothing is logged
    /// meanwhile, and no log callback can run while the log is opened, so the lock may be held.)
    pub(super) fn lock_awake(&'static self) -> Result<MutexGuard<'static, Inner<L>>, Error> {
        let mut inner = self.inner.lock();
        let Phase::Dormant { settings, is_logging } = &mut inner.phase else { return Ok(inner) };
        let settings = settings.clone();
        if !std::mem::replace(is_logging, true) {
            log::open(settings.log_level, settings.log_callback.clone());
        }
        match self.start(settings, Arc::new(RealSystem), |config, make| Worker::start(config, make)) {
            Ok((running, _)) => {
                inner.phase = running;
                Ok(inner)
            }
            Err(error) => {
                drop(inner);
                log!(Error, "libplum cannot be started in this child of a fork: {error}");
                // The next call tries again.
                Err(Error::Failed)
            }
        }
    }

    /// Records the settings that a child of a fork inherits. To be called with the lock held when a session has started
    /// or is about to end, and when its settings have changed.
    fn leave_to_children(&self, phase: &Phase) {
        self.settings.set(match phase {
            Phase::Dormant { settings, .. } | Phase::Running { settings, .. } => Some(settings.clone()),
            Phase::Idle | Phase::Starting | Phase::Cleaning => None,
        });
    }

    /// Sets the lowest level that is logged; `None`: nothing is. No effect without a session.
    pub fn set_log_level(&self, level: Option<Level>) {
        let mut inner = self.inner.lock();
        if let Phase::Dormant { settings, .. } | Phase::Running { settings, .. } = &mut inner.phase {
            settings.log_level = level;
            self.leave_to_children(&inner.phase);
        }
        log::set_threshold(level);
    }

    /// Ends the session: every mapping is destroyed (at the gateway, granted ones may be kept), and the worker has
    /// ended.
    ///
    /// # Errors
    ///
    /// `Failed`: there is no session, another cleanup has ended it, or the caller is a callback.
    pub fn cleanup(&'static self) -> Result<(), Error> {
        if log::in_callback() || callbacks::in_callback() {
            return Err(Error::Failed);
        }
        let ending = self.begin_cleanup()?;
        self.finish_cleanup(ending)
    }

    /// The first half of [`Client::cleanup`], which waits for nothing unless another cleanup runs: from now on nothing can be
    /// created. May be called in a callback. [`Client::finish_cleanup`] has to follow.
    ///
    /// # Errors
    ///
    /// `Failed`: there is no session, or another cleanup has ended it.
    pub fn begin_cleanup(&'static self) -> Result<Ending, Error> {
        let mut inner = self.inner.lock();
        let worker = match std::mem::replace(&mut inner.phase, Phase::Cleaning) {
            Phase::Running { settings, worker, .. } => {
                if settings.on_cleanup == OnCleanup::Keep {
                    inner.destroy_unmade(&worker);
                }
                Some(worker)
            }
            Phase::Dormant { .. } => None,
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
        self.leave_to_children(&inner.phase);
        inner.cleanups += 1;
        if let Some(worker) = &worker {
            worker.send(Command::Cleanup);
        }
        Ok(Ending(worker))
    }

    /// The second half of [`Client::cleanup`]: waits until the worker has ended. Not to be called in a callback.
    ///
    /// # Errors
    ///
    /// `Failed`: this is a child forked by the log callback; the session is the parent's.
    pub fn finish_cleanup(&'static self, ending: Ending) -> Result<(), Error> {
        if let Some(worker) = ending.0 {
            self.end(worker)?;
        }
        self.end_log();
        Ok(())
    }

    /// Waits for the end of the worker.
    ///
    /// # Errors
    ///
    /// `Failed`: this is a child forked by the log callback; the session is the parent's.
    fn end(&'static self, worker: Worker) -> Result<(), Error> {
        let process = generation();
        log!(Debug, "libplum is cleaning up");
        if process != generation() {
            // The worker's thread does not exist here, and its waker is shared with the parent.
            std::mem::forget(worker);
            return Err(Error::Failed);
        }
        worker.join();
        self.destroy_left_over();
        log!(Info, "libplum is cleaned up");
        if process == generation() { Ok(()) } else { Err(Error::Failed) }
    }

    /// The last step of a session: no log callback follows, and a new session may open the log.
    fn end_log(&self) {
        log::close();
        self.inner.lock().phase = Phase::Idle;
        self.changed.notify_all();
    }

    /// Destroys mappings that a worker left over by a defect. Their listeners get DESTROYED on a thread that is not the
    /// program's.
    fn destroy_left_over(&'static self) {
        if self.inner.lock().table.is_empty() {
            return;
        }
        match crate::net::start_thread("plum", None, Box::new(|| self.destroy_rest())) {
            Ok(thread) => {
                if let Err(panic) = thread.join() {
                    log!(Fatal, "defect in the library: a callback panicked: {}", log::panic_text(&*panic));
                }
            }
            Err(_) => {
                log!(
                    Fatal,
                    "defect in the library: mappings are left over, and there is no thread to destroy them"
                );
                self.inner.lock().table.clear();
            }
        }
    }
}

impl<L> Inner<L> {
    /// For a cleanup that keeps granted mappings, as queries show them: destroys the others first, also those whose
    /// grant was not delivered yet.
    fn destroy_unmade(&self, worker: &Worker) {
        for (id, entry) in self.table.iter() {
            if matches!(entry.state, QueriedState::Pending | QueriedState::Failure) {
                worker.send(Command::Destroy(id));
            }
        }
    }
}
