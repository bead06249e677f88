//! DummyTLS: an HTTP service that has a name for every address (`1-2-3-4.DOMAIN`) and gives everyone the certificate
//! for these names.
//!
//! The worker never waits here: `names` resolves on its own threads. Calls of the program wait a bounded time, the end
//! of a session not at all: the data of these threads is shared, and lives as long as they do.

#![forbid(unsafe_code)]

mod files;
mod names;
#[cfg(test)]
pub(crate) mod tests;

pub use files::File;
pub use names::HostStatus;

use files::Files;
use names::Names;
use plum_engine::time::Time;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

/// RFC 1035 §2.3.4: a name has at most 255 octets on the wire, which are 253 in text.
const NAME_LIMIT: usize = 253;

/// The port of the service.
const HTTP_PORT: u16 = 80;

/// The system functions that this module uses, replaceable in tests.
pub trait System: Send + Sync + 'static {
    /// The addresses of a host name, however long that takes; empty if there are none.
    fn resolve(&self, host: &str) -> Vec<IpAddr>;

    /// The current time.
    fn now(&self) -> Time;

    /// The TCP port of the service.
    fn port(&self) -> u16;
}

/// The real system.
pub struct RealSystem;

impl System for RealSystem {
    fn resolve(&self, host: &str) -> Vec<IpAddr> {
        (host, 0).to_socket_addrs().map_or_else(|_| Vec::new(), |found| found.map(|one| one.ip()).collect())
    }

    fn now(&self) -> Time {
        crate::net::clock::now()
    }

    fn port(&self) -> u16 {
        HTTP_PORT
    }
}

/// The service of one domain, for one session.
pub struct DummyTls {
    system: Arc<dyn System>,
    names: Names,
    files: Files,
}

impl DummyTls {
    /// The service of `domain` (see [`valid_domain`]). `notify` is called from any thread when a host status may have
    /// changed.
    pub fn new(
        domain: String,
        system: Arc<dyn System>,
        notify: impl Fn() + Send + Sync + 'static,
    ) -> DummyTls {
        DummyTls {
            names: Names::new(domain.clone(), Arc::clone(&system), Box::new(notify)),
            files: Files::new(domain),
            system,
        }
    }

    /// The host to report for an external address, if it is known. Never waits.
    pub fn host_status(&self, now: Time, address: IpAddr) -> HostStatus {
        self.names.host_status(now, address)
    }

    /// The host to report for an external address. Waits a second at most.
    pub fn host(&self, address: IpAddr) -> Arc<str> {
        self.names.wait_for(address)
    }

    /// A file of the service, at most a day old. Waits ten seconds at most.
    pub fn file(&self, file: File) -> Option<Arc<String>> {
        self.files.get(&self.names, &*self.system, file)
    }
}

/// Whether a domain can be part of a host name: letters, digits, `-`, `_` and `.`, not too long. (It is sent in HTTP
/// requests.)
pub fn valid_domain(domain: &str) -> bool {
    domain.len() <= NAME_LIMIT
        && !domain.is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
