//! HTTP/1.1 as UPnP devices speak it: requests out, replies in, URLs.

#![forbid(unsafe_code)]
use super::{Malformed, printable};
use std::net::{IpAddr, SocketAddr};

mod pieces;
mod reply;
#[cfg(test)]
mod tests;

pub use reply::{ReadError, Reply, ReplyReader, Rest};

/// Longest URL that is followed, in bytes, before and after percent-encoding. Real ones stay below 200; the limit
/// keeps redirects from growing and a request within one packet or two.
const MAX_URL_BYTES: usize = 2048;

/// HTTP's own port.
const DEFAULT_PORT: u16 = 80;

/// A URL whose host is an IP address literal: the only kind the engine follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The address to connect to.
    pub address: SocketAddr,
    /// Path and query, always with a leading slash, cleaned of control characters and spaces (percent-encoded).
    pub path: String,
}

impl Url {
    /// Parses `http://ADDRESS[:PORT][/PATH]`: no other scheme, no names, no credentials, no fragment kept.
    pub fn parse(text: &str) -> Result<Url, Malformed> {
        Url::parse_at(text, |host| host)
    }

    /// Parses an absolute URL whose host may be a name or any address. `place` returns the address to connect to
    /// instead, given the address in the URL, if it has one; `None`: the URL is refused.
    pub fn parse_at(text: &str, place: impl Fn(Option<IpAddr>) -> Option<IpAddr>) -> Result<Url, Malformed> {
        let text = text.trim();
        let scheme = text.get(..7).ok_or(Malformed)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return Err(Malformed);
        }
        let rest = &text[7..];
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = parse_authority(authority)?;
        let address = SocketAddr::new(place(host).ok_or(Malformed)?, port);
        Ok(Url { address, path: encode_path(path)? })
    }

    /// Resolves `reference` against this URL: absolute, `//host/..`, absolute path or relative path (with or without
    /// `.`/`..`); a relative path may lack its slash.
    pub fn join(&self, reference: &str) -> Result<Url, Malformed> {
        let reference = reference.trim();
        // Whatever host the reference names, the server stays the same.
        let same_host = |_| Some(self.address.ip());
        if has_scheme(reference) {
            return Url::parse_at(reference, same_host);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::parse_at(&format!("http://{rest}"), same_host);
        }
        // RFC 3986 §5.2.2, without what cannot be here: the base has no fragment, and a path always.
        let reference = reference.split('#').next().unwrap_or_default();
        if reference.is_empty() {
            return Ok(self.clone());
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let whole = match reference.as_bytes()[0] {
            b'/' => reference.to_owned(),
            b'?' => format!("{base}{reference}"),
            _ => format!("{}/{reference}", base.rsplit_once('/').map_or("", |(folder, _)| folder)),
        };
        let (path, query) = whole.split_at(whole.find('?').unwrap_or(whole.len()));
        let path = format!("{}{query}", remove_dot_segments(path));
        Ok(Url { address: self.address, path: encode_path(&path)? })
    }
}

/// Whether a reference is absolute. A colon alone is not enough: Broadcom's control URLs are like
/// `uuid:0000e068/WANIPConnection:1`, and some lack the slash before them.
fn has_scheme(reference: &str) -> bool {
    reference.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}

/// `HOST[:PORT]` or `[ADDRESS6][:PORT]`: the address of the host, `None` for a name, and the port. Credentials do not fit.
fn parse_authority(authority: &str) -> Result<(Option<IpAddr>, u16), Malformed> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(Malformed)?;
            // RFC 6874: a zone means something on the sender's machine only.
            let address = host.split('%').next().unwrap_or_default();
            (Some(IpAddr::V6(address.parse().map_err(|_| Malformed)?)), port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            if host.is_empty() || host.contains('@') {
                return Err(Malformed);
            }
            (host.parse().ok().map(IpAddr::V4), port)
        }
    };
    // RFC 3986 §3.2.3: the port may be empty after its colon.
    let port = match port {
        "" | ":" => DEFAULT_PORT,
        _ => {
            let digits = port.strip_prefix(':').ok_or(Malformed)?;
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Malformed);
            }
            digits.parse().map_err(|_| Malformed)?
        }
    };
    if port == 0 { Err(Malformed) } else { Ok((host, port)) }
}

/// Path and query for a request line: nothing in it that could end the line or the path. What is already encoded
/// stays as it is.
fn encode_path(path: &str) -> Result<String, Malformed> {
    let path = path.split('#').next().unwrap_or_default();
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        encoded.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        if encoded.len() > MAX_URL_BYTES {
            return Err(Malformed);
        }
    }
    Ok(encoded)
}

/// RFC 3986 §5.2.4, for a path that starts with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
        if is_last && matches!(segment, "." | "..") {
            // "/a/." is the folder "/a/".
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// The lines that both requests have in common. UDA 2.0 §2.11 (GET), §3.2.1 (POST): HOST names the port, too.
fn emit_head(method: &str, url: &Url) -> String {
    let host = SocketAddr::new(url.address.ip(), url.address.port());
    format!(
        "{method} {} HTTP/1.1\r\n\
         Host: {host}\r\n\
         User-Agent: libplum/{} UPnP/1.1\r\n\
         Connection: close\r\n",
        url.path,
        env!("CARGO_PKG_VERSION"),
    )
}

/// A GET request, `Connection: close`, Host with port.
pub fn emit_get(url: &Url) -> Vec<u8> {
    let mut request = emit_head("GET", url);
    request.push_str("\r\n");
    request.into_bytes()
}

/// A SOAP POST request: `soap_action` is put in quotes.
pub fn emit_post(url: &Url, soap_action: &str, body: &str) -> Vec<u8> {
    let mut request = emit_head("POST", url);
    // It has the service type from the network, which must not end the quotes or the line.
    let soap_action = printable(soap_action, usize::MAX).replace('"', "");
    request.push_str(&format!(
        "Content-Type: text/xml; charset=\"utf-8\"\r\n\
         SOAPAction: \"{soap_action}\"\r\n\
         Content-Length: {}\r\n\
         \r\n\
         {body}",
        body.len(),
    ));
    request.into_bytes()
}
