//! A whole UPnP conversation: everything that the engine hears of the network stands in the input.
//!
//! The input is a list of records, each an octet that says what it is, a length of two octets, and so many octets. Messages are
//! handed over as they stand there, to whoever waits for one: an answer to a search, the reply to the oldest request. What must
//! hold is in `host`, and of our requests in `requests`.

mod host;
pub mod requests;

use host::{Host, Origin};
use plum_engine::io::TcpEnd;
use std::time::Duration;

/// What a record is, by the low half of its first octet; the high half says how.
#[allow(missing_docs)]
pub mod record {
    pub const CREATE: u8 = 0;
    pub const DESTROY: u8 = 1;
    pub const TIME: u8 = 2;
    pub const ANSWER: u8 = 3;
    pub const NOTIFY: u8 = 4;
    pub const REPLY: u8 = 5;
    pub const END: u8 = 6;
    pub const TROUBLE: u8 = 7;
    pub const NETWORK_CHANGED: u8 = 8;
    pub const COUNT: u8 = 9;
}

/// How a `REPLY` is framed; 0 is: not at all, head and body are those of the record.
#[allow(missing_docs)]
pub mod framing {
    pub const RAW: u8 = 0;
    pub const LENGTH: u8 = 1;
    pub const FAULT: u8 = 2;
    pub const UNTIL_CLOSE: u8 = 3;
    pub const CHUNKED: u8 = 4;
    pub const NOT_FOUND: u8 = 5;
    pub const REDIRECT: u8 = 6;
    pub const TOO_LONG: u8 = 7;
}

/// The most records of one input.
const MAX_RECORDS: usize = 200;
/// Spans that matter to the schedule, in milliseconds.
const SPANS: [u64; 12] = [0, 1, 20, 100, 260, 520, 1300, 4000, 10_000, 60_000, 310_000, 4_000_000];

/// The first octet says what the world is like.
pub fn run(data: &[u8]) {
    let Some((&setup, mut rest)) = data.split_first() else { return };
    // The log of a process is made with its first use, and stays.
    plum_runtime::log::close();
    let mut host = Host::new(setup);
    for _ in 0..MAX_RECORDS {
        let Some((&[what, low, high], payload)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_le_bytes([low, high])).min(payload.len());
        let (payload, after) = payload.split_at(length);
        rest = after;
        carry_out(&mut host, what & 15, what >> 4, payload);
    }
    host.end();
}

fn carry_out(host: &mut Host, what: u8, how: u8, payload: &[u8]) {
    let first = payload.first().copied().unwrap_or_default();
    match what % record::COUNT {
        record::CREATE => host.create(how, first),
        record::DESTROY => host.destroy(first.into()),
        record::TIME => host.run_for(Duration::from_millis(SPANS[usize::from(how) % SPANS.len()])),
        record::ANSWER => host.hear(false, origin(how), payload),
        record::NOTIFY => host.hear(true, origin(how), payload),
        record::REPLY => host.reply(&framed(how & 7, payload), how & 8 != 0, how & 7 == framing::UNTIL_CLOSE),
        record::END => host.end_exchange([TcpEnd::Closed, TcpEnd::Failed][usize::from(how & 1)]),
        record::TROUBLE => host.trouble = how,
        _ => host.change_network(how),
    }
}

fn origin(how: u8) -> Origin {
    match how {
        0..8 => Origin::Gateway,
        8..11 => Origin::Neighbour(how - 8),
        11 => Origin::Ourselves,
        12 => Origin::Loopback,
        13 => Origin::LinkLocal,
        _ => Origin::Internet,
    }
}

/// A reply with this body.
fn framed(framing: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = match framing {
        framing::RAW => return body.to_vec(),
        framing::FAULT => format!("500 Internal Server Error\r\nContent-Length: {length}\r\n\r\n"),
        framing::UNTIL_CLOSE => "200 OK\r\n\r\n".into(),
        framing::CHUNKED => format!("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"),
        framing::NOT_FOUND => format!("404 Not Found\r\nContent-Length: {length}\r\n\r\n"),
        framing::REDIRECT => "302 Found\r\nContent-Length: 0\r\nLocation: ".into(),
        framing::TOO_LONG => format!("200 OK\r\nContent-Length: {}\r\n\r\n", length + 9),
        _ => format!("200 OK\r\nContent-Length: {length}\r\n\r\n"),
    };
    let end: &[u8] = match framing {
        framing::CHUNKED => b"\r\n0\r\n\r\n",
        framing::REDIRECT => b"\r\n\r\n",
        _ => b"",
    };
    [b"HTTP/1.1 ", head.as_bytes(), body, end].concat()
}
