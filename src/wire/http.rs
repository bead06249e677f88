//! HTTP/1.1 as UPnP devices speak it: requests out, replies in, URLs.

#![forbid(unsafe_code)]
use super::Malformed;
use std::net::{IpAddr, SocketAddr};

/// A URL whose host is an IP address literal: the only kind the engine follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Path and query, always with a leading slash, cleaned of control characters and spaces (percent-encoded).
    pub path: String,
}

impl Url {
    /// Parses `http://ADDRESS[:PORT][/PATH]`: no other scheme, no names, no credentials, no fragment kept.
    pub fn parse(_text: &str) -> Result<Url, Malformed> {
        todo!()
    }

    /// The URL that `reference` means on a page at `self`: absolute, `//host/..`, absolute path or relative path
    /// (with or without `.`/`..`); a relative path may lack its slash.
    pub fn join(&self, _reference: &str) -> Result<Url, Malformed> {
        todo!()
    }
}

/// A GET request, `Connection: close`, Host with port.
pub fn emit_get(_url: &Url) -> Vec<u8> {
    todo!()
}

/// A SOAP POST request: `soap_action` is put in quotes.
pub fn emit_post(_url: &Url, _soap_action: &str, _body: &str) -> Vec<u8> {
    todo!()
}

/// A complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The Location header, for redirects.
    pub location: Option<String>,
    /// The body, decoded if it was chunked.
    pub body: Vec<u8>,
}

/// Why a reply cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Not HTTP, or cut short so that nothing of the body is known.
    Malformed,
    /// Over the limit.
    TooLong,
}

/// Reads one reply from bytes as they come, at most `limit` bytes in all.
#[derive(Debug)]
pub struct ReplyReader {}

impl ReplyReader {
    /// A reader for a reply of at most `limit` bytes, head and body together.
    pub fn new(_limit: usize) -> ReplyReader {
        todo!()
    }

    /// Takes more bytes; the reply once it is complete by its own account (Content-Length, last chunk).
    /// Interim replies (1xx) are passed over.
    pub fn push(&mut self, _bytes: &[u8]) -> Result<Option<Reply>, ReadError> {
        todo!()
    }

    /// The connection was closed by the gateway: what is there counts, also when Content-Length promised more.
    pub fn finish(self) -> Result<Reply, ReadError> {
        todo!()
    }
}

/// Whether two addresses are of the same host.
pub fn same_host(a: &Url, host: IpAddr) -> bool {
    a.address.ip() == host
}
