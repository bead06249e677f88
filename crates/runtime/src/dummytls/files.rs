//! The files of the service: fetched on request, cached for a day.

use super::System;
use super::names::Names;
use crate::log::log;
use crate::sync::Mutex;
use plum_engine::time::Time;
use plum_wire::http::{Reply, ReplyReader};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long fetching a file may take in total.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a file is cached: certificates are renewed from time to time.
const FILE_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer replies, in bytes, are refused. A chain of certificates has about 10 kB.
const REPLY_LIMIT: usize = 256 * 1024;

/// A file of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The certificate.
    Certificate,
    /// The chain from the certificate to a root.
    Chain,
    /// Both.
    FullChain,
    /// The private key.
    PrivateKey,
}

impl File {
    const ALL: usize = 4;

    /// The end of the file's PEM label (RFC 7468; labels of keys may begin with the algorithm).
    const fn label(self) -> &'static str {
        match self {
            File::Certificate | File::Chain | File::FullChain => "CERTIFICATE",
            File::PrivateKey => "PRIVATE KEY",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            File::Certificate => "cert.pem",
            File::Chain => "chain.pem",
            File::FullChain => "fullchain.pem",
            File::PrivateKey => "privkey.pem",
        }
    }
}

/// The files of one domain.
pub(super) struct Files {
    domain: String,
    cached: Mutex<[Option<CachedFile>; File::ALL]>,
}

struct CachedFile {
    fetched_at: Time,
    text: Arc<String>,
}

impl Files {
    pub(super) fn new(domain: String) -> Files {
        Files { domain, cached: Mutex::default() }
    }

    /// A file, at most a day old. The lock is not held during the fetch: two callers may both fetch it.
    pub(super) fn get(&self, names: &Names, system: &dyn System, file: File) -> Option<Arc<String>> {
        let now = system.now();
        if let Some(cached) = &self.cached.lock()[file as usize]
            && now.since(cached.fetched_at) < FILE_LIFETIME
        {
            return Some(Arc::clone(&cached.text));
        }
        match self.fetch(names, system, now + FETCH_TIMEOUT, file) {
            Ok(text) => {
                self.cached.lock()[file as usize] =
                    Some(CachedFile { fetched_at: now, text: Arc::clone(&text) });
                Some(text)
            }
            Err(why) => {
                log!(Error, "DummyTLS: cannot fetch http://{}/{}: {why}", self.domain, file.name());
                None
            }
        }
    }

    pub(super) fn fetch(
        &self,
        names: &Names,
        system: &dyn System,
        deadline_at: Time,
        file: File,
    ) -> Result<Arc<String>, String> {
        let mut why = String::from("the name does not resolve");
        let addresses = names.addresses_of_domain(deadline_at)?;
        // Each address gets an equal share of the remaining time.
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            let now = system.now();
            let share = deadline_at.since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            let server = SocketAddr::new(*address, system.port());
            let reply = self.fetch_from(server, system, now + share, file).map_err(explain);
            match reply.and_then(|reply| text(reply, file)) {
                Ok(text) => return Ok(text),
                Err(error) => why = format!("{server}: {error}"),
            }
        }
        Err(why)
    }

    /// Sends one request to one address of the service.
    fn fetch_from(
        &self,
        server: SocketAddr,
        system: &dyn System,
        deadline_at: Time,
        file: File,
    ) -> io::Result<Reply> {
        let left = || match deadline_at.since(system.now()) {
            Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
            left => Ok(left),
        };
        let mut stream = TcpStream::connect_timeout(&server, left()?)?;
        stream.set_write_timeout(Some(left()?))?;
        // RFC 9112 §3.2: Host is the authority of the URL, here without the default port.
        let request = format!(
            "GET /{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: libplum\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            file.name(),
            self.domain
        );
        stream.write_all(request.as_bytes())?;
        let mut reader = ReplyReader::new(REPLY_LIMIT);
        let mut bytes = [0; 4096];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            let length = match stream.read(&mut bytes) {
                Ok(0) if reader.is_cut() => return Err(io::Error::other("the reply is cut off")),
                Ok(0) => {
                    return reader
                        .finish()
                        .map_err(|error| io::Error::other(format!("the reply is {error}")));
                }
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match reader.push(&bytes[..length]) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(io::Error::other(format!("the reply is {error}"))),
            }
        }
    }
}

/// Describes an I/O error. A read that has timed out reports WouldBlock on some systems.
fn explain(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => String::from("timed out"),
        _ => error.to_string(),
    }
}

/// The file in a reply: it must be a text without NUL, and a PEM file of the expected kind.
fn text(reply: Reply, file: File) -> Result<Arc<String>, String> {
    if reply.status != 200 {
        return Err(format!("status {}", reply.status));
    }
    match String::from_utf8(reply.body) {
        Ok(text) if text.contains('\0') => Err(String::from("the file is no text")),
        Ok(text) if is_pem(&text, file.label()) => Ok(Arc::new(text)),
        Ok(_) => Err(format!("the file is no complete PEM with a {}", file.label())),
        Err(_) => Err(String::from("the file is no text")),
    }
}

/// Whether a text has complete PEM blocks, one of them with a label that ends with `label`. (Other text may stand
/// between.)
fn is_pem(text: &str, label: &str) -> bool {
    let (mut open, mut found) = (None, false);
    for line in text.lines() {
        let Some(boundary) = line.trim().strip_prefix("-----").and_then(|line| line.strip_suffix("-----"))
        else {
            continue;
        };
        if let Some(begun) = boundary.strip_prefix("BEGIN ") {
            if open.replace(begun).is_some() {
                return false;
            }
        } else if let Some(ended) = boundary.strip_prefix("END ") {
            if open.take() != Some(ended) {
                return false;
            }
            found |= ended.ends_with(label);
        }
    }
    found && open.is_none()
}
