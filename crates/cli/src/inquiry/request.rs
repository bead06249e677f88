//! Requests that no driver sends: about mappings of other programs, whose nonce nobody knows, and about all ports.

use super::Inquiry;
use plum_engine::Reason;
use plum_engine::driver::Key;
use plum_engine::io::{Output, Socket};
use plum_engine::time::Time;
use std::time::Duration;

/// How long the first reply is waited for before the request is repeated; each further time twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Whether a datagram answers a request.
type IsReply = Box<dyn Fn(&[u8]) -> bool>;

/// A request by PCP or NAT-PMP, and what came of it.
pub struct Request {
    socket: Socket,
    bytes: Vec<u8>,
    is_reply: IsReply,
    /// When it is sent next.
    due_at: Time,
    wait: Duration,
    /// `None`: it is not answered yet.
    pub outcome: Option<Result<Vec<u8>, Reason>>,
}

/// What a MAP request by PCP asks for.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    pub key: Key,
    /// The suggested one; 0: none.
    pub external_port: u16,
    /// 0 deletes.
    pub lifetime_secs: u32,
}

impl Map {
    /// RFC 6887 §15.1: a deletion suggests nothing.
    pub fn deletion(key: Key) -> Map {
        Map { key, external_port: 0, lifetime_secs: 0 }
    }
}

impl Request {
    /// A request that is sent as soon as the sockets are polled.
    pub fn new(socket: Socket, bytes: Vec<u8>, is_reply: impl Fn(&[u8]) -> bool + 'static) -> Request {
        let is_reply = Box::new(is_reply);
        Request { socket, bytes, is_reply, due_at: Time::ZERO, wait: FIRST_WAIT, outcome: None }
    }

    /// When it is sent next; `None`: never.
    pub fn due_at(&self) -> Option<Time> {
        self.outcome.is_none().then_some(self.due_at)
    }
}

impl Inquiry {
    /// Sends the request, if it is due.
    pub fn send_request(&mut self, now: Time) {
        let (Some(request), Some(to)) = (&mut self.request, self.server) else { return };
        if request.due_at().is_none_or(|at| now < at) {
            return;
        }
        (request.due_at, request.wait) = (now + request.wait, 2 * request.wait);
        let (socket, bytes) = (request.socket, request.bytes.clone());
        self.cx.at(now).output(Output::Send { socket, to, bytes });
    }

    /// Whether a datagram answers the request.
    pub fn take_reply(&mut self, socket: Socket, bytes: &[u8]) -> bool {
        let Some(request) = &mut self.request else { return false };
        let is_reply = request.socket == socket && request.outcome.is_none() && (request.is_reply)(bytes);
        if is_reply {
            request.outcome = Some(Ok(bytes.to_vec()));
        }
        is_reply
    }

    /// The request cannot be sent, or its port is closed.
    pub fn fail_request(&mut self, socket: Socket, reason: Reason) {
        if let Some(request) = &mut self.request
            && request.socket == socket
        {
            request.outcome.get_or_insert(Err(reason));
        }
    }

    /// Goal: the request is answered.
    pub fn await_request(&self) -> Option<Time> {
        self.request.as_ref()?.outcome.is_none().then_some(self.ends_at)
    }
}
