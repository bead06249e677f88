//! HTTP/1.1, the server's side: one request at a time a connection, and all the ways to answer it badly.

use super::script::{self, Content};
use super::{Framing, Gateway, Igd, Kind, Output, description, soap};
use std::net::SocketAddr;
use std::time::Duration;

/// A TCP connection to the gateway; whoever carries it chooses the number, and uses none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The longest request taken.
const MAX_REQUEST: usize = 64 * 1024;
/// The most connections open at one time.
const MAX_CONNECTIONS: usize = 256;

#[derive(Debug)]
pub(super) struct Connection {
    from: SocketAddr,
    received: Vec<u8>,
    /// Pieces of an answer that are not yet due keep later ones waiting.
    busy_until: Duration,
    /// Closed, or never to be answered any more.
    deaf: bool,
}

/// A request, taken apart.
struct Request {
    verb: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

/// How a reply goes out.
#[derive(Clone, Copy)]
struct Manner {
    /// When, from now.
    delay: Duration,
    /// So much of it only.
    cut_off: Option<usize>,
    /// Whether the connection ends with it.
    close: bool,
}

impl Reply {
    fn error(status: u16) -> Reply {
        let body = format!("<html><body>{status}</body></html>\r\n").into_bytes();
        Reply { status, headers: "Content-Type: text/html\r\n".into(), body }
    }

    fn xml(status: u16, body: String) -> Reply {
        let body = body.into_bytes();
        Reply { status, headers: "Content-Type: text/xml; charset=\"utf-8\"\r\n".into(), body }
    }
}

impl Gateway {
    /// A client connected (whoever carries it has looked at `refuses_tcp` before).
    pub fn handle_tcp_open(&mut self, now: Duration, connection: ConnectionId, from: SocketAddr) {
        self.handle_timeout(now);
        self.counts.http_connections += 1;
        let open = Connection { from, received: Vec::new(), busy_until: self.now, deaf: false };
        self.connections.insert(connection, open);
        self.counts.max_http_connections = self.counts.max_http_connections.max(self.connections.len());
        let most = self.faults.http.max_connections.unwrap_or(MAX_CONNECTIONS);
        if self.connections.len() > MAX_CONNECTIONS {
            self.close(connection, self.now);
        } else if self.connections.len() > most {
            self.output_at(self.now, Output::Reset { connection });
        }
    }

    /// Bytes came on a connection.
    pub fn handle_tcp_data(&mut self, now: Duration, connection: ConnectionId, bytes: &[u8]) {
        self.handle_timeout(now);
        let Some(open) = self.connections.get_mut(&connection).filter(|open| !open.deaf) else { return };
        open.received.extend_from_slice(bytes);
        loop {
            let Some(open) = self.connections.get_mut(&connection).filter(|open| !open.deaf) else { return };
            let from = open.from;
            match take_request(&mut open.received) {
                Ok(None) => return,
                Ok(Some(request)) => self.handle_request(connection, from, &request),
                Err(flaw) => {
                    self.count(Kind::Other, from, None, None);
                    self.complain(format!("HTTP: bad request from {from}: {flaw}"));
                    let manner = Manner { delay: self.faults.delay, cut_off: None, close: true };
                    self.answer(connection, &Reply::error(400), manner);
                }
            }
        }
    }

    /// The client closed a connection, or it broke.
    pub fn handle_tcp_end(&mut self, now: Duration, connection: ConnectionId) {
        self.handle_timeout(now);
        self.connections.remove(&connection);
    }

    fn handle_request(&mut self, connection: ConnectionId, from: SocketAddr, request: &Request) {
        let services = self.config.igd.as_ref().map_or(0, |igd| igd.services.len());
        let control = request.path.rsplit_once("ctl/").and_then(|(_, name)| match name {
            "common" => Some(soap::COMMON),
            number => number.parse::<usize>().ok().filter(|&service| service < services),
        });
        let action = control
            .filter(|_| request.verb == "POST" && services > 0)
            .map(|service| soap::Request::parse(service, request.header("SOAPAction"), &request.body));
        let mut script = self.script_for(from, request, action.as_ref());
        let content = script.content();
        let is_silent = matches!(content, Content::Nothing | Content::Close | Content::Reset);
        let code = if let Content::Code(code) = content { Some(code) } else { None };
        let mut reply = match is_silent && script.has_no_effect() {
            true => Reply::error(503),
            false => self.carry_out(&script, |gateway| gateway.usual_reply(from, request, action, code)),
        };
        let delay = self.faults.delay + script.delay();
        let mut manner = Manner { delay, cut_off: None, close: !self.faults.http.keep_open };
        match content {
            Content::Nothing => {
                if let Some(open) = self.connections.get_mut(&connection) {
                    open.deaf = true;
                }
                return;
            }
            Content::Close => return self.close(connection, self.now + delay),
            Content::Reset => return self.output_at(self.now + delay, Output::Reset { connection }),
            Content::Edited(edit) => edit(&mut reply.body),
            Content::Http(status, body) => reply = Reply { body: body.into_bytes(), ..Reply::error(status) },
            Content::CutOff(octets) => manner.cut_off = Some(octets),
            Content::Usual | Content::Code(_) => {}
        }
        self.answer(connection, &reply, manner);
    }

    /// Counts a request; what becomes of it by the faults and the scripts.
    fn script_for(
        &mut self,
        from: SocketAddr,
        request: &Request,
        action: Option<&soap::Request>,
    ) -> script::Reply {
        let kind = match action {
            Some(action) => Kind::Soap(action.action),
            None if request.verb == "GET" && is_description(&request.path) => Kind::HttpDescription,
            None => Kind::Other,
        };
        let lifetime = action.and_then(soap::Request::lease);
        self.count(kind, from, action.and_then(soap::Request::port), lifetime);
        if self.faults.silence.http.strike() {
            return script::Reply::nothing();
        }
        if self.faults.http.hang_up.strike() {
            return script::Reply::close();
        }
        let asked = script::Request {
            path: request.path.clone(),
            transport: action.and_then(|action| action.transport().ok()),
            internal_port: action.and_then(soap::Request::internal_port),
            external_port: action.and_then(soap::Request::external_port),
            lifetime,
            ..script::Request::of(self, kind, from)
        };
        self.ask_scripts(&asked)
    }

    fn usual_reply(
        &mut self,
        from: SocketAddr,
        request: &Request,
        action: Option<soap::Request>,
        code: Option<i32>,
    ) -> Reply {
        if request.header("Host").is_none() {
            self.complain(format!("HTTP: no Host in the request of {from}"));
            Reply::error(400)
        } else if let Some(action) = action {
            match self.faults.http.soap_status {
                Some(status) => Reply { status, headers: String::new(), body: Vec::new() },
                None => {
                    let (status, body) = soap::carry_out(self, from, &action, code);
                    Reply::xml(status, body)
                }
            }
        } else if request.verb == "GET" && is_description(&request.path) {
            self.describe(&request.path)
        } else if request.verb == "GET" && request.path == "/scpd.xml" {
            Reply::xml(200, description::scpd())
        } else {
            self.complain(format!("HTTP: no such thing: {} {}", request.verb, request.path));
            Reply::error(404)
        }
    }

    fn describe(&mut self, path: &str) -> Reply {
        if let Some((status, _)) = self.faults.refusal(Kind::HttpDescription, None) {
            return Reply::error(status);
        }
        match &self.faults.http.redirect {
            Some(to) if path == "/rootDesc.xml" => {
                Reply { headers: format!("Location: {to}\r\n"), ..Reply::error(302) }
            }
            _ => Reply::xml(200, self.config.igd.as_ref().map_or_else(String::new, Igd::description)),
        }
    }

    fn answer(&mut self, connection: ConnectionId, reply: &Reply, manner: Manner) {
        let Manner { delay, cut_off, close } = manner;
        let mut bytes =
            if self.faults.http.junk.strike() { self.random.bytes(300) } else { self.frame(reply, close) };
        bytes.truncate(cut_off.unwrap_or(usize::MAX));
        let close = close || cut_off.is_some();
        let Some(open) = self.connections.get_mut(&connection) else { return };
        let stall_after = self.faults.http.stall_after.filter(|&most| most < bytes.len());
        let bytes = &bytes[..stall_after.unwrap_or(bytes.len())];
        let (piece, pause) = self.faults.http.dribble.unwrap_or((usize::MAX, Duration::ZERO));
        let mut due = open.busy_until.max(self.now + delay);
        let mut pieces = Vec::new();
        for bytes in bytes.chunks(piece.max(1)) {
            pieces.push((due, bytes.to_vec()));
            due += pause;
        }
        open.busy_until = due;
        open.deaf |= stall_after.is_some();
        for (due, bytes) in pieces {
            self.output_at(due, Output::Write { connection, bytes });
        }
        if close && stall_after.is_none() {
            self.close(connection, due);
        }
    }

    fn frame(&mut self, reply: &Reply, close: bool) -> Vec<u8> {
        let length = reply.body.len();
        let framing = match self.faults.http.framing {
            Framing::ContentLength => format!("Content-Length: {length}\r\n"),
            Framing::TooLong(more) => format!("Content-Length: {}\r\n", length.saturating_add(more)),
            Framing::TooShort(less) => format!("Content-Length: {}\r\n", length.saturating_sub(less)),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".into(),
            Framing::UntilClose => String::new(),
        };
        let connection = if close { "Connection: close\r\n" } else { "" };
        let reason = match reply.status {
            200 => "OK",
            302 => "Found",
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            405 => "Method Not Allowed",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            _ => "Other",
        };
        let head =
            format!("HTTP/1.1 {} {reason}\r\n{}{framing}{connection}\r\n", reply.status, reply.headers);
        let mut bytes = head.into_bytes();
        if self.faults.http.framing == Framing::Chunked {
            let mut rest = &reply.body[..];
            while !rest.is_empty() {
                let size = (1 + self.random.below(200) as usize).min(rest.len());
                let (chunk, after) = rest.split_at(size);
                bytes.extend_from_slice(format!("{size:x};part=yes\r\n").as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
                rest = after;
            }
            bytes.extend_from_slice(b"0\r\nX-Trailer: yes\r\n\r\n");
        } else {
            bytes.extend_from_slice(&reply.body);
        }
        bytes
    }

    /// Closes at `due`; what still comes in before is not looked at.
    pub(super) fn close(&mut self, connection: ConnectionId, due: Duration) {
        if let Some(open) = self.connections.get_mut(&connection) {
            open.deaf = true;
        }
        self.output_at(due, Output::Close { connection });
    }
}

fn is_description(path: &str) -> bool {
    matches!(path, "/rootDesc.xml" | "/moved.xml")
}

/// Takes the first whole request out of what was received; `Err`: it will never be one.
fn take_request(received: &mut Vec<u8>) -> Result<Option<Request>, &'static str> {
    let too_long = if received.len() > MAX_REQUEST { Err("too long") } else { Ok(None) };
    let Some(end) = received.windows(4).position(|w| w == b"\r\n\r\n") else { return too_long };
    let head = String::from_utf8(received[..end].to_vec()).map_err(|_| "not text")?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(verb), Some(path), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("its first line is wrong");
    };
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err("a header with a wrong name");
        }
        headers.push((name.to_string(), value.trim().to_string()));
    }
    let mut request = Request { verb: verb.into(), path: path.into(), headers, body: Vec::new() };
    let length = match request.header("Content-Length") {
        Some(text) => text.parse::<usize>().map_err(|_| "a wrong Content-Length")?,
        None => 0,
    };
    if length > MAX_REQUEST {
        return Err("too long");
    }
    let (start, stop) = (end + 4, end + 4 + length);
    if received.len() < stop {
        return too_long;
    }
    request.body = received[start..stop].to_vec();
    received.drain(..stop);
    Ok(Some(request))
}
