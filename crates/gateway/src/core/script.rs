//! Scripts: replacements of a gateway's replies, request by request.

use super::{Gateway, Kind, Task, Transport, UdpPort};
use std::net::SocketAddr;
use std::time::Duration;

/// A request, as a script sees it. What its kind does not have is `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it came, on the gateway's clock.
    pub at: Duration,
    /// What it asks for.
    pub kind: Kind,
    pub from: SocketAddr,
    /// The path of an HTTP request.
    pub path: String,
    /// TCP or UDP, of a mapping.
    pub transport: Option<Transport>,
    /// The internal port.
    pub internal_port: Option<u16>,
    /// The external port that is suggested or named.
    pub external_port: Option<u16>,
    /// The lifetime that is asked for, in seconds.
    pub lifetime: Option<u32>,
}

impl Request {
    /// A request of which nothing is known but its kind.
    pub(super) fn of(gateway: &Gateway, kind: Kind, from: SocketAddr) -> Request {
        Request {
            at: gateway.now,
            kind,
            from,
            path: String::new(),
            transport: None,
            internal_port: None,
            external_port: None,
            lifetime: None,
        }
    }
}

/// Changes a reply.
type Edit = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// Decides what becomes of a request.
pub type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

/// The reply of a script to a request.
#[derive(Default)]
pub struct Reply {
    content: Content,
    has_no_effect: bool,
    delay: Duration,
    wait: Duration,
}

#[derive(Default)]
pub(super) enum Content {
    /// What the gateway would say without the script.
    #[default]
    Usual,
    /// Nothing. An HTTP connection stays open.
    Nothing,
    /// A PCP or NAT-PMP result code, or a UPnP error code.
    Code(i32),
    /// The usual reply (of HTTP the body), changed.
    Edited(Edit),
    /// An HTTP status and a body.
    Http(u16, String),
    /// So much of the usual HTTP reply, then the end of the connection.
    CutOff(usize),
    /// The end of the connection.
    Close,
    /// The same, by a reset.
    Reset,
}

impl Reply {
    fn new(content: Content) -> Reply {
        Reply { content, ..Reply::default() }
    }

    /// As without the script.
    pub fn usual() -> Reply {
        Reply::default()
    }

    /// No reply; the request is not carried out. An HTTP connection stays open.
    pub fn nothing() -> Reply {
        Reply::new(Content::Nothing).without_effect()
    }

    /// The request is refused with this result or error code.
    pub fn code(code: i32) -> Reply {
        Reply::new(Content::Code(code)).without_effect()
    }

    /// The request is carried out, and the reply changed: a datagram, or the body of an HTTP reply.
    pub fn edited(edit: impl FnOnce(&mut Vec<u8>) + Send + 'static) -> Reply {
        Reply::new(Content::Edited(Box::new(edit)))
    }

    /// The request is carried out, and these bytes come in place of the reply: a datagram, or the body of an HTTP reply.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Reply {
        let bytes = bytes.into();
        Reply::edited(move |reply| *reply = bytes)
    }

    /// The request is not carried out, and this HTTP status with a body comes back.
    pub fn http(status: u16, body: impl Into<String>) -> Reply {
        Reply::new(Content::Http(status, body.into())).without_effect()
    }

    /// The request is carried out, and so many octets of the HTTP reply come before the connection ends.
    pub fn cut_off(octets: usize) -> Reply {
        Reply::new(Content::CutOff(octets))
    }

    /// The connection is closed without a reply; the request is not carried out.
    pub fn close() -> Reply {
        Reply::new(Content::Close).without_effect()
    }

    /// The connection is reset without a reply; the request is not carried out.
    pub fn reset() -> Reply {
        Reply::new(Content::Reset).without_effect()
    }

    /// The same reply, and the table stays as it was.
    pub fn without_effect(self) -> Reply {
        Reply { has_no_effect: true, ..self }
    }

    /// The same reply, but the request is carried out.
    pub fn with_effect(self) -> Reply {
        Reply { has_no_effect: false, ..self }
    }

    /// The request is acted on at once, and the reply comes this much later. (Of a search: the answer with the gateway's own
    /// location.)
    pub fn after(self, delay: Duration) -> Reply {
        Reply { delay, ..self }
    }

    /// The request waits this long before it is acted on. (Datagrams only.)
    pub fn late(wait: Duration) -> Reply {
        Reply { wait, ..Reply::default() }
    }

    pub(super) fn content(&mut self) -> Content {
        std::mem::take(&mut self.content)
    }

    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    pub(super) fn has_no_effect(&self) -> bool {
        self.has_no_effect
    }

    fn says_something(&self) -> bool {
        !matches!(self.content, Content::Usual)
            || self.has_no_effect
            || !self.delay.is_zero()
            || !self.wait.is_zero()
    }
}

impl Gateway {
    /// Adds a script. Of several, the first that wants anything other than the usual reply decides.
    pub fn add_script(&mut self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        self.scripts.push(Box::new(script));
    }

    /// Takes all scripts away.
    pub fn clear_scripts(&mut self) {
        self.scripts.clear();
    }

    /// What the scripts make of a request.
    pub(super) fn ask_scripts(&mut self, request: &Request) -> Reply {
        let mut replies = self.scripts.iter_mut().map(|script| script(request));
        replies.find(Reply::says_something).unwrap_or_default()
    }

    /// The answer to a datagram, as its script wants it. `answer` makes the usual one, or one with a result code.
    pub(super) fn answer_datagram(
        &mut self,
        from: SocketAddr,
        request: &[u8],
        mut script: Reply,
        answer: impl FnOnce(&mut Gateway, Option<i32>) -> Option<Vec<u8>>,
    ) {
        if !script.wait.is_zero() {
            let task = Task::Request { from, bytes: request.to_vec() };
            return self.push(self.now + script.wait, task);
        }
        let content = script.content();
        let code = if let Content::Code(code) = content { Some(code) } else { None };
        if matches!(content, Content::Nothing) && script.has_no_effect {
            return;
        }
        let Some(mut bytes) = self.carry_out(&script, |gateway| answer(gateway, code)) else { return };
        match content {
            Content::Nothing => return,
            Content::Edited(edit) => edit(&mut bytes),
            _ => {}
        }
        self.reply_after(script.delay, UdpPort::Pcp, from, bytes);
    }

    /// Carries a request out, or only finds out what the gateway would say.
    pub(super) fn carry_out<T>(&mut self, script: &Reply, act: impl FnOnce(&mut Gateway) -> T) -> T {
        let before = script.has_no_effect.then(|| (self.table.clone(), self.pinholes.clone()));
        let result = act(self);
        if let Some(before) = before {
            (self.table, self.pinholes) = before;
        }
        result
    }
}
