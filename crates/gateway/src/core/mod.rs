//! The gateway without I/O: it takes (time, input) and returns outputs with the time when they are due.
//!
//! Times are spans since the gateway's clock started; they may not go backwards. One input (`handle_*`),
//! then the outputs that are due (`poll_output` until `None`), then wait until `poll_timeout`.

mod config;
mod counts;
mod description;
mod faults;
mod firewall;
mod grant;
mod http;
mod interface;
mod natpmp;
mod pcp;
mod pinholes;
mod random;
mod script;
mod soap;
mod ssdp;
mod table;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use counts::{Action, Counts, Kind, Received};
pub use description::{Igd, WanKind, WanService};
pub use faults::{
    AssignedPort, Chance, Closed, Faults, Framing, HttpFaults, Junk, Leases, Refusal, Silence, Spoken, Times,
    WrongSource,
};
pub use http::ConnectionId;
pub use interface::Link;
pub use pinholes::{Pinhole, PinholeKey, Pinholes};
pub use random::Random;
pub use script::{Reply, Request, Script};
pub use table::{Protocol, Table, TableEntry, Transport};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Where gateways announce themselves to PCP and NAT-PMP clients.
pub const ANNOUNCEMENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1)), 5350);
/// Where UPnP devices are searched and announce themselves.
pub const SSDP_GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);
/// Where gateways announce themselves to PCP clients of IPv6.
pub const ANNOUNCEMENTS_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)), 5350);
/// Where UPnP devices of the link are searched and announce themselves by IPv6.
pub const SSDP_GROUP_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc)), 1900);

/// A UDP port of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UdpPort {
    /// PCP and NAT-PMP.
    Pcp,
    /// SSDP, unicast and multicast.
    Ssdp,
}

/// An output, to be carried out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// From this address and port: the gateway's, but for the fault of wrong sources.
        from: SocketAddr,
        /// To whom; a multicast group goes out to all inside.
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Send on a TCP connection.
    Write { connection: ConnectionId, bytes: Vec<u8> },
    /// Close a TCP connection, after what was written; no input about it may follow.
    Close { connection: ConnectionId },
    /// Reset a TCP connection; no input about it may follow.
    Reset { connection: ConnectionId },
}

/// A gateway.
pub struct Gateway {
    config: Config,
    /// What goes wrong.
    pub faults: Faults,
    /// What it received.
    pub counts: Counts,
    scripts: Vec<Script>,
    table: Table,
    pinholes: Pinholes,
    now: Duration,
    /// When the epoch was `config.first_epoch`; signed, as a script may set the epoch to anything.
    epoch_base_secs: i64,
    boot_id: u32,
    random: Random,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    connections: BTreeMap<ConnectionId, http::Connection>,
    complaints: VecDeque<String>,
}

/// An output that waits for its time; those of one time keep their order.
#[derive(Debug, PartialEq, Eq)]
struct Queued {
    due: Duration,
    number: u64,
    task: Task,
}

#[derive(Debug, PartialEq, Eq)]
enum Task {
    Output(Output),
    /// A datagram to UDP 5351 that is looked at only now.
    Request {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A PCP ANNOUNCE and a NAT-PMP address announcement, with the epoch of when they go out.
    Announcement,
}

impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Gateway {
    /// How many outputs may wait; more are dropped, as a full buffer does.
    pub const MAX_QUEUED: usize = 100_000;
    const MAX_COMPLAINTS: usize = 100;

    /// A gateway that boots at `now`, without faults.
    pub fn new(config: Config, now: Duration) -> Gateway {
        let epoch_base_secs = whole_secs(now) - i64::from(config.first_epoch);
        Gateway {
            random: Random::new(config.seed),
            config,
            faults: Faults::default(),
            counts: Counts::default(),
            scripts: Vec::new(),
            table: Table::default(),
            pinholes: Pinholes::default(),
            now,
            epoch_base_secs,
            boot_id: 1,
            queue: BinaryHeap::new(),
            queued: 0,
            connections: BTreeMap::new(),
            complaints: VecDeque::new(),
        }
    }

    /// What it is.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its port table.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Its port table, for the script to put in and take out what it likes.
    pub const fn table_mut(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Seconds since its start, as PCP and NAT-PMP answers say it.
    pub fn epoch(&self) -> u32 {
        u32::try_from((whole_secs(self.now) - self.epoch_base_secs).max(0)).unwrap_or(u32::MAX)
    }

    /// Makes the epoch this number, from where it goes on counting.
    pub fn set_epoch(&mut self, epoch: u32) {
        self.epoch_base_secs = whole_secs(self.now) - i64::from(epoch);
    }

    /// What was wrong with requests that it did not carry out for their form, latest last: for the
    /// message of a failing test.
    pub fn complaints(&self) -> impl Iterator<Item = &str> {
        self.complaints.iter().map(String::as_str)
    }

    /// Takes this address outside, and with `announce` tells NAT-PMP clients (RFC 6886 §3.2.1).
    pub fn set_external_address(&mut self, address: Ipv4Addr, announce: bool) {
        self.config.external_address = address;
        if announce {
            self.announce();
        }
    }

    /// Loses all mappings without a restart or an announcement.
    pub fn forget_mappings(&mut self) {
        self.table.clear();
        self.pinholes.clear();
    }

    /// Maps an external port to another internal host.
    pub fn occupy(&mut self, transport: Transport, external_port: u16, internal: SocketAddr) {
        self.table.insert(TableEntry {
            transport,
            external_port,
            internal,
            made_by: Protocol::Script,
            nonce: None,
            description: "taken".into(),
            granted_at: self.now,
            expires_at: None,
        });
    }

    /// Restarts: what was under way is lost, the epoch starts anew (unless `faults` say otherwise), and
    /// without memory the table is empty. Then it announces itself in all its protocols.
    pub fn restart(&mut self, keep_mappings: bool) {
        self.queue.clear();
        let open: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in open {
            self.close(connection, self.now);
        }
        if !keep_mappings {
            self.forget_mappings();
        }
        self.pinholes.restart();
        if !self.faults.epoch_survives_restart {
            self.set_epoch(0);
        }
        self.boot_id += 1;
        if !self.faults.never_announces {
            self.announce();
            self.notify(true);
        }
    }

    /// Is another UPnP device from now on.
    pub fn set_igd(&mut self, igd: Option<Igd>) {
        self.config.igd = igd;
    }

    /// Has its description and its actions at this TCP port from now on.
    pub const fn set_http_port(&mut self, port: u16) {
        self.config.http_port = port;
    }

    /// Tells UPnP clients that the device is there (or leaves): SSDP NOTIFY.
    pub fn notify(&mut self, alive: bool) {
        if self.faults.closed.ssdp || self.faults.silence.ssdp == Times::Always {
            return;
        }
        for to in self.config.groups([SSDP_GROUP, SSDP_GROUP_V6]) {
            let from = SocketAddr::new(self.config.address_for(to.ip()), self.config.ssdp_port);
            for bytes in ssdp::notifications(self, to, alive) {
                self.output_at(self.now, Output::Send { from, to, bytes });
            }
        }
    }

    /// Tells PCP and NAT-PMP clients the epoch and the external address, as often as the configuration says.
    pub fn announce(&mut self) {
        let mut due = self.now;
        let mut interval = Duration::from_millis(250);
        for _ in 0..self.config.announcements {
            self.push(due, Task::Announcement);
            due += interval;
            interval *= 2;
        }
    }

    /// Whether a datagram to this port meets a closed port: whoever carries it reports port unreachable.
    pub fn refuses(&self, port: UdpPort, bytes: &[u8]) -> bool {
        match port {
            UdpPort::Pcp if bytes.first() == Some(&0) => self.faults.closed.natpmp,
            UdpPort::Pcp => self.faults.closed.pcp,
            UdpPort::Ssdp => self.faults.closed.ssdp || self.config.igd.is_none(),
        }
    }

    /// Whether TCP connections are refused.
    pub fn refuses_tcp(&self) -> bool {
        let http = &self.faults.http;
        self.faults.closed.http || self.config.igd.is_none() || self.is_full() && !http.resets_beyond
    }

    fn is_full(&self) -> bool {
        self.faults.http.max_connections.is_some_and(|most| self.connections.len() >= most)
    }

    /// Time has passed: mappings expire.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.table.expire(self.now);
        self.pinholes.expire(self.now);
    }

    /// A datagram came to one of its ports, also by multicast.
    pub fn handle_datagram(&mut self, now: Duration, port: UdpPort, from: SocketAddr, bytes: &[u8]) {
        self.handle_timeout(now);
        // Notifications come to the SSDP group too, also its own: they are nothing that was asked of it.
        if port == UdpPort::Ssdp && bytes.starts_with(b"NOTIFY ") {
            return;
        }
        if self.random.chance(self.faults.loss.requests) {
            self.counts.lost_requests += 1;
            return;
        }
        let copies = if self.random.chance(self.faults.duplicate.requests) { 2 } else { 1 };
        for _ in 0..copies {
            self.counts.count_datagram(self.now);
            match port {
                UdpPort::Ssdp => ssdp::handle(self, from, bytes),
                UdpPort::Pcp => self.handle_pcp_port(from, bytes),
            }
        }
    }

    fn handle_pcp_port(&mut self, from: SocketAddr, bytes: &[u8]) {
        // RFC 6887 §9: the version tells NAT-PMP (0) from PCP (1 and above) on the same port.
        match bytes.first() {
            Some(0) if from.is_ipv6() && self.config.ipv6.is_some() => {
                self.count(Kind::Other, from, None, None);
                self.complain(format!("NAT-PMP: a request by IPv6, from {from}"));
            }
            Some(0) => natpmp::handle(self, from, bytes),
            _ => pcp::handle(self, from, bytes),
        }
    }

    /// What is to be done by `now`, in order, until `None`.
    pub fn poll_output(&mut self, now: Duration) -> Option<Output> {
        self.handle_timeout(now);
        loop {
            if self.queue.peek()?.0.due > self.now {
                return None;
            }
            match self.queue.pop()?.0.task {
                Task::Output(output) => {
                    if let Output::Close { connection } | Output::Reset { connection } = output {
                        self.connections.remove(&connection);
                    }
                    return Some(output);
                }
                Task::Request { from, bytes } => {
                    let scripts = std::mem::take(&mut self.scripts);
                    self.handle_pcp_port(from, &bytes);
                    self.scripts = scripts;
                }
                Task::Announcement => self.send_announcements(),
            }
        }
    }

    /// When something is due next, if nothing comes in.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let output = self.queue.peek().map(|queued| queued.0.due);
        output.into_iter().chain(self.table.next_expiry()).chain(self.pinholes.next_expiry()).min()
    }

    fn send_announcements(&mut self) {
        let faults = &self.faults;
        let pcp = faults.pcp == Spoken::Yes && faults.silence.pcp != Times::Always && !faults.closed.pcp;
        let natpmp =
            faults.natpmp == Spoken::Yes && faults.silence.natpmp != Times::Always && !faults.closed.natpmp;
        for to in self.config.groups([ANNOUNCEMENTS, ANNOUNCEMENTS_V6]) {
            let from = SocketAddr::new(self.config.address_for(to.ip()), self.config.pcp_port);
            if pcp {
                let bytes = pcp::announcement(self.epoch());
                self.output_at(self.now, Output::Send { from, to, bytes });
            }
            if natpmp && to.is_ipv4() {
                let bytes = natpmp::address_reply(self.epoch(), self.config.external_address);
                self.output_at(self.now, Output::Send { from, to, bytes });
            }
        }
    }

    /// Sends a UDP answer, through all that may go wrong on its way, this much later than others.
    fn reply_after(&mut self, delay: Duration, port: UdpPort, to: SocketAddr, bytes: Vec<u8>) {
        let number = match port {
            UdpPort::Pcp => self.config.pcp_port,
            UdpPort::Ssdp => self.config.ssdp_port,
        };
        let own = self.config.address_for(to.ip());
        let from = match self.faults.wrong_source {
            None => SocketAddr::new(own, number),
            // 0: whoever carries it chooses a free one.
            Some(WrongSource::Port) => SocketAddr::new(own, 0),
            Some(WrongSource::Address(address)) => SocketAddr::new(address, number),
        };
        let mut due = self.now + self.faults.delay + delay;
        if self.random.chance(self.faults.reorder) {
            due += self.faults.reorder_by;
        }
        let junk = (self.faults.junk != Junk::None).then(|| self.junk(&bytes));
        let bytes = Some(bytes);
        let datagrams = match self.faults.junk {
            Junk::None => [bytes, None],
            Junk::Before => [junk, bytes],
            Junk::After => [bytes, junk],
            Junk::Instead => [junk, None],
        };
        for bytes in datagrams.into_iter().flatten() {
            if self.random.chance(self.faults.duplicate.replies) {
                self.send_lossy(due, from, to, bytes.clone());
            }
            self.send_lossy(due, from, to, bytes);
        }
    }

    fn send_lossy(&mut self, due: Duration, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.random.chance(self.faults.loss.replies) {
            self.counts.lost_replies += 1;
        } else {
            self.output_at(due, Output::Send { from, to, bytes });
        }
    }

    /// Random bytes, or the start of an answer that is too short for any protocol.
    fn junk(&mut self, answer: &[u8]) -> Vec<u8> {
        if self.random.chance(0.5) {
            let most = answer.len().saturating_sub(1).min(11) as u64;
            return answer[..self.random.below(most + 1) as usize].to_vec();
        }
        let length = self.random.below(200) as usize;
        self.random.bytes(length)
    }

    fn output_at(&mut self, due: Duration, output: Output) {
        self.push(due, Task::Output(output));
    }

    fn push(&mut self, due: Duration, task: Task) {
        if self.queue.len() >= Gateway::MAX_QUEUED {
            self.complain("too many answers waiting: one dropped".into());
            return;
        }
        self.queued += 1;
        self.queue.push(Reverse(Queued { due, number: self.queued, task }));
    }

    fn count(&mut self, kind: Kind, from: SocketAddr, port: Option<u16>, lifetime: Option<u32>) {
        self.counts.count(Received { at: self.now, kind, from, port, lifetime });
    }

    fn complain(&mut self, text: String) {
        if self.complaints.len() >= Gateway::MAX_COMPLAINTS {
            self.complaints.pop_front();
        }
        self.complaints.push_back(text);
    }
}

fn whole_secs(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX / 2)
}

/// The big-endian number at `offset`, where the bytes reach that far.
fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// The big-endian number at `offset`, where the bytes reach that far.
fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}
