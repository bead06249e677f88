//! What holds at every step, whatever happens: each function is one promise, and names the page that makes it.
//!
//! The rules of callbacks are in `crates/testkit/src/world/checks.rs`, as every test on the virtual clock keeps them; what is
//! true of a quiet world only is in `agreement.rs`.

use plum_engine::io::{Config, EngineId, MappingId, Socket, Source};
use plum_engine::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What an engine without mappings may hold: its tables, a description that is being read, datagrams to be sent.
const HEAP: isize = 256 * 1024;
/// What each mapping may add: its entries in the tables of the core and of three protocols, and what of its
/// deletion is remembered for ten seconds.
const HEAP_A_MAPPING: isize = 4 * 1024;
/// What each engine beside that for IPv4 may add.
const HEAP_AN_ENGINE: isize = 128 * 1024;

/// memory is bounded by the number of mappings, and of engines.
///
/// By the highest number that there was at once, since tables keep the room they once had.
pub fn memory_is_bounded_by_the_mappings(heap: isize, most_live: usize, most_engines: usize) {
    let most = HEAP + HEAP_A_MAPPING * most_live as isize + HEAP_AN_ENGINE * most_engines as isize;
    assert!(heap <= most, "memory: the engine holds {heap} bytes for {most_live} mappings at most");
}

/// The mappings that the program would see as PENDING, and since when.
#[derive(Default)]
pub struct Pending {
    since: BTreeMap<MappingId, Time>,
    by_age: BTreeSet<(Time, MappingId)>,
}

impl Pending {
    /// It is being made (anew).
    pub fn begin(&mut self, now: Time, id: MappingId) {
        self.since.insert(id, now);
        self.by_age.insert((now, id));
    }

    /// It is made, or failed, or gone.
    pub fn end(&mut self, id: MappingId) {
        if let Some(since) = self.since.remove(&id) {
            self.by_age.remove(&(since, id));
        }
    }

    /// The network is another one: the search begins anew, and so do all waits.
    pub fn restart(&mut self, now: Time, is_affected: impl Fn(MappingId) -> bool) {
        self.shift(|id, since| if is_affected(id) { now } else { since });
    }

    /// The machine has slept: nobody waits in its sleep.
    pub fn sleep(&mut self, span: Duration) {
        self.shift(|_, since| since + span);
    }

    fn shift(&mut self, shift: impl Fn(MappingId, Time) -> Time) {
        for (&id, since) in &mut self.since {
            *since = shift(id, *since);
        }
        self.by_age = self.since.iter().map(|(&id, &since)| (since, id)).collect();
    }
}

/// The longest that a mapping may be PENDING.
///
/// docs/contract.md, functions: `discover_timeout` to find a gateway, then `mapping_timeout` for the mapping. A protocol
/// that refuses is followed by the next, so each of three may have its time. Where hundreds are made at once they wait
/// for each other: four HTTP exchanges at a time (docs/protocols.md, many mappings), and after a restart 100 packets a
/// second, six for an exchange.
pub fn longest_pending(config: &Config, mappings: usize) -> Duration {
    let mappings = u32::try_from(mappings).unwrap_or(u32::MAX);
    let finding = config.discover_timeout * 2;
    let queue = config.mapping_timeout * (mappings / 4);
    let pace = Duration::from_millis(130) * mappings;
    finding + config.mapping_timeout * 3 + queue + pace + Duration::from_secs(10)
}

/// docs/contract.md, callback rules 4 and 5: programs wait for a callback, so every wait has an end.
pub fn no_mapping_waits_for_ever(pending: &Pending, now: Time, longest: Duration) {
    if let Some(&(since, id)) = pending.by_age.first() {
        let span = now.since(since);
        assert!(
            span <= longest,
            "every wait has an end: {id} is PENDING for {span:?}, {longest:?} is the most"
        );
    }
}

/// The shortest time in which a request counts as lost: 250 ms, shortened at random by up to a tenth.
const SHORTEST_WAIT: Duration = Duration::from_millis(225);
/// docs/protocols.md, many mappings: a window of 64 requests in flight, at most 128.
const MOST_IN_FLIGHT: usize = 128;

/// So many answers to later requests, and a request is lost.
const LATER_ANSWERS: usize = 3;

/// A request that is in flight: its socket, and what of its bytes tells it from others.
type Request = (Socket, u8, u16);

/// PCP and NAT-PMP requests for mappings that were sent and not answered, as far as they cannot count as lost yet.
#[derive(Default)]
pub struct Flight {
    sent: BTreeMap<Request, (Time, u64)>,
    oldest: VecDeque<(Time, u64, Request)>,
    sendings: u64,
    /// The highest sendings that were answered, by socket.
    answered: BTreeMap<Socket, [u64; LATER_ANSWERS]>,
}

impl Flight {
    /// A datagram is sent. A deletion calls back what is in flight for its key, and may go beside the window.
    pub fn send(&mut self, now: Time, socket: Socket, bytes: &[u8]) {
        while let Some(&(at, sending, request)) = self.oldest.front()
            && at + SHORTEST_WAIT <= now
        {
            self.oldest.pop_front();
            if self.sent.get(&request).is_some_and(|&(_, last)| last == sending) {
                self.sent.remove(&request);
            }
        }
        match request(socket, bytes) {
            Some((request, true)) => {
                self.sent.remove(&request);
            }
            Some((request, false)) => {
                self.sendings += 1;
                self.sent.insert(request, (now, self.sendings));
                self.oldest.push_back((now, self.sendings, request));
            }
            None => {}
        }
    }

    /// A datagram came.
    pub fn handle_reply(&mut self, socket: Socket, bytes: &[u8]) {
        let request = match (socket, bytes.len()) {
            (Socket::Pcp, 44..) => (socket, bytes[36], u16::from_be_bytes([bytes[40], bytes[41]])),
            (Socket::NatPmp, 10..) => (socket, bytes[1] & 0x7f, u16::from_be_bytes([bytes[8], bytes[9]])),
            // UNSUPP_VERSION, without a key.
            _ => return self.clear(socket),
        };
        let Some((_, sending)) = self.sent.remove(&request) else { return };
        let answered = self.answered.entry(socket).or_default();
        if let Some(lowest) = answered.iter_mut().min() {
            *lowest = (*lowest).max(sending);
        }
        let lost_before = answered.iter().min().copied().unwrap_or(0);
        self.sent.retain(|&(of, ..), &mut (_, sending)| of != socket || sending >= lost_before);
    }

    /// Another network: all that was asked is dropped.
    pub fn clear_all(&mut self) {
        *self = Flight::default();
    }

    /// Nobody answers there: what was asked is dropped.
    pub fn clear(&mut self, socket: Socket) {
        self.sent.retain(|&(of, ..), _| of != socket);
    }
}

/// Socket, transport and internal port of a request about a mapping, and whether it deletes it.
fn request(socket: Socket, bytes: &[u8]) -> Option<(Request, bool)> {
    match (socket, bytes.len()) {
        (Socket::Pcp, 60) => {
            let key = (socket, bytes[36], u16::from_be_bytes([bytes[40], bytes[41]]));
            Some((key, bytes[4..8] == [0; 4]))
        }
        (Socket::NatPmp, 12) => {
            let key = (socket, bytes[1], u16::from_be_bytes([bytes[4], bytes[5]]));
            Some((key, bytes[8..12] == [0; 4]))
        }
        _ => None,
    }
}

/// docs/protocols.md, many mappings: at most 128 requests are in flight, by each protocol.
pub fn requests_in_flight_are_few(flight: &Flight, socket: Socket) {
    if flight.sent.len() <= MOST_IN_FLIGHT {
        return;
    }
    let count = flight.sent.keys().filter(|&&(of, ..)| of == socket).count();
    assert!(count <= MOST_IN_FLIGHT, "in flight: {count} requests, {MOST_IN_FLIGHT} are the most");
}

/// Packets that an HTTP exchange costs the gateway once the connection stands: the ACK of its SYN, the request, the
/// ACKs of the reply and of its end, FIN. The SYN comes before.
pub const PACKETS_OF_A_REQUEST: u32 = 5;
/// docs/protocols.md, many mappings: the most packets a second when nothing is created or destroyed.
const MOST_PACKETS: u32 = 100;

/// Where mappings are FAILURE, attempts at them are paced as four exchanges each; an attempt may take twelve (docs/protocols.md,
/// UPnP: at most 12 requests a mapping), and two of them begin in one second at most.
const MOST_PACKETS_WITH_RETRIES: u32 = MOST_PACKETS + 2 * 8 * (PACKETS_OF_A_REQUEST + 1);

/// How long after the program, or another network, had the engine make or remove something packets are not counted:
/// the search and the first answers, and at a gateway that knows UPnP only some time for each mapping.
pub fn busy_for(mappings: usize) -> Duration {
    Duration::from_secs(30) + Duration::from_millis(300) * u32::try_from(mappings).unwrap_or(u32::MAX)
}

/// Packets that go to each address, lately.
#[derive(Default)]
pub struct Packets {
    /// Requests get lost, or are not answered: how often they are sent again is the schedule's to say.
    pub is_troubled: bool,
    /// A gateway ends connections without a reply: each such exchange is made once more (docs/protocols.md, many mappings).
    pub are_repeated: bool,
    busy_until: Time,
    to: BTreeMap<(IpAddr, u32), LastSecond>,
    /// The most that any gateway saw in any second.
    pub most: u32,
}

/// Packets of the last second.
#[derive(Default)]
struct LastSecond {
    packets: VecDeque<(Time, u32)>,
    count: u32,
}

impl Packets {
    /// What goes out until then is what the program asked for.
    pub fn be_busy_until(&mut self, until: Time) {
        self.busy_until = self.busy_until.max(until);
    }

    /// Packets go out. What goes to a group goes to all that anything went to before.
    ///
    /// `retries`: there are mappings that failed.
    pub fn send(&mut self, now: Time, to: (IpAddr, u32), packets: u32, retries: bool) {
        if now < self.busy_until || self.is_troubled {
            self.to.clear();
            return;
        }
        let (address, interface) = to;
        if !address.is_multicast() {
            self.to.entry(to).or_default();
        }
        let is_of_group = |known: &(IpAddr, u32)| {
            address.is_multicast() && known.1 == interface && known.0.is_ipv4() == address.is_ipv4()
        };
        for (_, second) in self.to.iter_mut().filter(|(known, _)| **known == to || is_of_group(known)) {
            while let Some(&(at, packets)) = second.packets.front()
                && at + Duration::from_secs(1) <= now
            {
                second.packets.pop_front();
                second.count -= packets;
            }
            second.packets.push_back((now, packets));
            second.count += packets;
            self.most = self.most.max(second.count);
            let times = if self.are_repeated { 2 } else { 1 };
            a_quiet_library_sends_few_packets(second.count, times, retries);
        }
    }
}

/// docs/protocols.md, many mappings: when nothing is created or destroyed a gateway never sees more than 100 packets a
/// second.
///
/// `times`: how often each of them may have been sent.
pub fn a_quiet_library_sends_few_packets(count: u32, times: u32, retries: bool) {
    let most = if retries { MOST_PACKETS_WITH_RETRIES } else { MOST_PACKETS };
    assert!(
        count <= most * times,
        "packets: {count} within a second in which nothing is created or destroyed"
    );
}

/// docs/protocols.md, IPv6: the engine for IPv4 sends nothing by IPv6, and those for IPv6 nothing by IPv4, but for one
/// search for a device that answers no search by IPv6.
pub fn families_are_apart(engine: EngineId, socket: Socket, to: SocketAddr) {
    let is_right = match socket {
        Socket::Ipv4Ssdp => to.is_ipv4(),
        _ => to.is_ipv4() == (engine == EngineId::IPV4),
    };
    assert!(is_right, "families: {engine:?} sends to {to} by {socket:?}");
}

/// docs/protocols.md, IPv6: connections come from the address that the pinhole leads to, and only those of IPv6 do.
pub fn connections_have_their_source(engine: EngineId, to: IpAddr, source: Option<Source>) {
    let is_ipv6 = engine != EngineId::IPV4;
    assert!(to.is_ipv6() == is_ipv6 && source.is_some() == is_ipv6, "families: {engine:?} connects to {to}");
}

/// RFC 6887 §8.1: the client's address in a request is its source.
pub fn the_client_is_the_sender(local: IpAddr, request: &[u8]) {
    let local = match local {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    assert_eq!(request.get(8..24), Some(&local.octets()[..]), "client: a request of another than {local}");
}
