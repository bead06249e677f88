//! The gateway with sockets: one thread, which any number of tests may talk to.

mod address;
mod alarm;
mod event_loop;
mod forward;
mod relay;

pub use address::unique_loopback;

use crate::core::{self, Gateway};
use event_loop::EventLoop;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where the gateway runs, and what it forwards.
#[derive(Clone, Debug)]
pub struct Config {
    /// The gateway itself. Port 0 means any free one (HTTP), or none at all (PCP and SSDP).
    pub gateway: core::Config,
    /// Mapped external ports are opened on this address and forwarded; `None`: nothing is forwarded.
    pub forward_on: Option<IpAddr>,
    /// Take part in multicast on the interface of the gateway's address: searches and announcements. IPv4 only.
    pub multicast: bool,
}

impl Config {
    /// A gateway with all protocols at this address, without multicast, forwarding nothing; HTTP on any free port.
    pub fn at(address: impl Into<IpAddr>) -> Config {
        Config {
            gateway: core::Config { http_port: 0, ..core::Config::at(address.into()) },
            forward_on: None,
            multicast: false,
        }
    }
}

/// A running gateway. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    address: IpAddr,
    pcp: SocketAddr,
    http: SocketAddr,
    forward_on: Option<IpAddr>,
}

/// What the thread and those who talk to it share.
struct Shared {
    core: Mutex<Gateway>,
    started: Instant,
    waker: mio::Waker,
    progress: Mutex<Progress>,
    progressed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// How many changes were made from outside.
    changes: u64,
    /// How many of them the thread has acted on.
    seen: u64,
    stop: bool,
    ended: bool,
}

impl Shared {
    /// The gateway, its clock set.
    fn core(&self) -> MutexGuard<'_, Gateway> {
        // A test that panicked while it held the gateway must not end the others.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        core.handle_timeout(self.now());
        core
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only where the poll is gone, and with it the thread.
        let _ = self.waker.wake();
    }
}

impl Server {
    /// Opens the sockets and starts the thread: when this returns, the gateway answers.
    ///
    /// # Errors
    /// A socket cannot be opened; the message says which.
    pub fn start(config: Config) -> io::Result<Server> {
        let mut config = config;
        let address = config.gateway.address;
        let poll = mio::Poll::new()?;
        let sockets = event_loop::Sockets::open(&mut config, poll.registry())?;
        let shared = Arc::new(Shared {
            core: Mutex::new(Gateway::new(config.gateway.clone(), Duration::ZERO)),
            started: Instant::now(),
            waker: mio::Waker::new(poll.registry(), event_loop::WAKER)?,
            progress: Mutex::default(),
            progressed: Condvar::new(),
        });
        let event_loop = EventLoop::new(Arc::clone(&shared), poll, sockets, config.forward_on)?;
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(move || event_loop.run())?;
        Ok(Server {
            shared,
            thread: Some(thread),
            address,
            pcp: SocketAddr::new(address, config.gateway.pcp_port),
            http: SocketAddr::new(address, config.gateway.http_port),
            forward_on: config.forward_on,
        })
    }

    /// Starts a gateway on a loopback address of its own, forwarding on another; `change` may alter the
    /// configuration.
    ///
    /// # Errors
    /// A socket cannot be opened on any of several addresses.
    pub fn start_on_own_address(change: impl Fn(&mut Config)) -> io::Result<Server> {
        let mut attempts = 20;
        loop {
            let mut config = Config::at(unique_loopback());
            config.forward_on = Some(IpAddr::V4(unique_loopback()));
            change(&mut config);
            match Server::start(config) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => attempts -= 1,
                result => return result,
            }
        }
    }

    /// The gateway's address inside: what goes into `PLUM_GATEWAY`.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Address and port of PCP and NAT-PMP.
    pub const fn pcp_address(&self) -> SocketAddr {
        self.pcp
    }

    /// Address and port of HTTP, as it was started.
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where mapped external ports are open.
    pub const fn forward_address(&self) -> Option<IpAddr> {
        self.forward_on
    }

    /// Looks at the gateway, or changes it. When this returns, changes have taken effect: ports are open or
    /// closed as the faults say, what is due has been sent, what is mapped is forwarded.
    ///
    /// # Panics
    /// Where the server's thread has ended.
    pub fn with_core<T>(&self, act: impl FnOnce(&mut Gateway) -> T) -> T {
        let result = act(&mut self.shared.core());
        let mut progress = self.shared.progress();
        progress.changes += 1;
        let change = progress.changes;
        self.shared.wake();
        while progress.seen < change {
            assert!(!progress.ended, "the gateway's thread has ended");
            progress = self.shared.progressed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        drop(progress);
        result
    }

    /// Waits until the gateway is as wanted; false where it is not within `patience`.
    pub fn wait_until(&self, patience: Duration, is_so: impl Fn(&Gateway) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut progress = self.shared.progress();
        loop {
            drop(progress);
            if is_so(&self.shared.core()) {
                return true;
            }
            // The thread notifies after whatever it did; the span bounds what time alone brings about.
            progress = self.shared.progress();
            let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
            if left.is_zero() || progress.ended {
                return false;
            }
            let waited = self.shared.progressed.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Stops it: its sockets are closed when this returns.
    pub fn stop(mut self) {
        self.end();
    }

    /// Waits until it ends, which by itself it never does.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by its own hook.
            let _ = thread.join();
        }
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.progress().stop = true;
            self.shared.wake();
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
