//! Who is there: searches by SSDP.

use crate::datagram::{DATAGRAM_LEN_MAX, is_refusal};
use plum_engine::io::Arrival;
use plum_engine::upnp::{MULTICAST, MX_SECS, Network, location, may_answer, searches};
use plum_runtime::net::{self, Route, udp};
use plum_wire::http::Url;
use plum_wire::ssdp;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The searches are sent again after this long without an answer.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// After the first gateway that was found others may still answer for this long.
const STRAGGLER_TIMEOUT: Duration = Duration::from_millis(200);

/// How long it takes to hear of work that ended for want of time.
const REPORT_TIMEOUT: Duration = Duration::from_millis(250);

/// Descriptions that are fetched at most: anyone may answer a search.
const MAX_LOCATIONS: usize = 16;

/// How a search is made.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Nobody but this host is asked.
    pub only: Option<IpAddr>,
    /// The gateway, if it has an address.
    pub gateway: Option<IpAddr>,
    /// The address that is asked from.
    pub local: IpAddr,
    /// The index of its interface; 0: not known.
    pub interface: u32,
    /// How long to wait while nobody answers.
    pub silence: Duration,
    /// Everybody is waited for, not only the first gateway that answers and those just behind it.
    pub everybody: bool,
}

/// A device that somebody has named.
#[derive(Clone, Debug)]
pub struct Found {
    /// The host that its description is on: the one that answered, or the gateway.
    pub from: IpAddr,
    /// Where the description is.
    pub location: Url,
    /// When.
    pub at: Instant,
}

enum Note<T> {
    Found(Found),
    /// Nothing could be sent.
    NotSent(io::Error),
    Done(Option<T>),
}

impl Search {
    /// A search for the gateway of the route toward `only`, or toward the internet.
    pub fn toward(only: Option<IpAddr>, silence: Duration) -> io::Result<Search> {
        let Route { gateway, local, interface } = net::look_up_route(only)
            .ok_or_else(|| io::Error::new(ErrorKind::NetworkUnreachable, "there is no route to a gateway"))?;
        Ok(Search { only, gateway: only.or(gateway), local, interface, silence, everybody: false })
    }

    /// The network as the engine knows it, whose rules decide which answers count.
    fn network(&self) -> Network {
        let Search { only, gateway, local, interface, .. } = *self;
        Network { gateway, local, interface, named: only.is_some() }
    }

    /// Sends the searches, and reads the answers until nobody wants them.
    fn run<T>(self, socket: &UdpSocket, until: Instant, stop: &AtomicBool, notes: &Sender<Note<T>>) {
        let group = self.only.is_none().then_some(MULTICAST);
        let to: Vec<SocketAddr> = self
            .gateway
            .into_iter()
            .chain(group)
            .filter(|address| address.is_ipv4() == self.local.is_ipv4())
            .map(|address| SocketAddr::new(address, ssdp::PORT))
            .collect();
        let (network, prefix) = (self.network(), net::find_prefix(self.local));
        let mut search_at = Instant::now();
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= search_at {
                search_at = now + SEARCH_INTERVAL;
                if let Err(error) = send(socket, &to) {
                    // What was not sent now may be sent the next time.
                    let _ = notes.send(Note::NotSent(error));
                }
            }
            match receive(socket, &network, prefix, search_at.min(until)) {
                Ok(Some(found)) => {
                    let _ = notes.send(Note::Found(found));
                }
                Ok(None) => {}
                Err(error) => {
                    let _ = notes.send(Note::NotSent(error));
                    return;
                }
            }
        }
    }
}

/// Searches, and has `work` done for each that answers, all of them at the same time; until the answers are there, or
/// `until`, by when any work ends. An error: nothing could be sent.
pub fn each<T: Send + 'static>(
    search: Search,
    until: Instant,
    work: impl Fn(&Found) -> Option<T> + Send + Sync + 'static,
) -> io::Result<Vec<T>> {
    let begun = Instant::now();
    let socket = UdpSocket::bind(SocketAddr::new(search.local, 0))?;
    udp::request_interfaces(&socket);
    if search.local.is_ipv4() {
        // §1.3.2: 2 by default.
        socket.set_multicast_ttl_v4(2)?;
    }
    let mut listen_until = until.min(begun + search.silence);
    let (notes, noted) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let searching = {
        let (notes, stop) = (notes.clone(), Arc::clone(&stop));
        // It is left alone when the answers are there: it ends with its next wait, or with the command.
        move || search.run(&socket, listen_until, &stop, &notes)
    };
    thread::Builder::new().spawn(searching)?;
    let work = Arc::new(work);
    let (mut locations, mut at_work, mut results, mut error) = (BTreeSet::new(), 0, Vec::new(), None);
    loop {
        let waits_for_work = at_work > 0 && (results.is_empty() || search.everybody);
        let wait_until = if waits_for_work { until + REPORT_TIMEOUT } else { listen_until };
        let Some(left) = left(wait_until) else { break };
        match noted.recv_timeout(left) {
            Ok(Note::Found(found)) => {
                let name = (found.location.address, found.location.path.clone());
                if found.at > listen_until || locations.len() >= MAX_LOCATIONS || !locations.insert(name) {
                    continue;
                }
                let (work, notes) = (Arc::clone(&work), notes.clone());
                thread::Builder::new().spawn(move || {
                    // Nobody waits any more for what comes too late.
                    let _ = notes.send(Note::Done(work(&found)));
                })?;
                at_work += 1;
            }
            Ok(Note::NotSent(reason)) => error = Some(reason),
            Ok(Note::Done(result)) => {
                at_work -= 1;
                if result.is_some() && results.is_empty() {
                    let now = Instant::now();
                    let others_until = if search.everybody && search.only.is_none() {
                        begun + Duration::from_secs(MX_SECS.into()) + STRAGGLER_TIMEOUT
                    } else {
                        now
                    };
                    listen_until = listen_until.min(others_until.max(now + STRAGGLER_TIMEOUT));
                }
                results.extend(result);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    stop.store(true, Ordering::Relaxed);
    match error {
        Some(error) if results.is_empty() && locations.is_empty() => Err(error),
        _ => Ok(results),
    }
}

/// Sends all searches; an error: not one of them could be sent.
fn send(socket: &UdpSocket, to: &[SocketAddr]) -> io::Result<()> {
    let mut result = Ok(());
    let mut is_sent = false;
    for &to in to {
        for bytes in searches(to) {
            match socket.send_to(&bytes, to) {
                Ok(_) => is_sent = true,
                Err(error) => result = Err(error),
            }
        }
    }
    if is_sent { Ok(()) } else { result }
}

/// The next answer to a search. `None`: it is `until`.
fn receive(
    socket: &UdpSocket,
    network: &Network,
    prefix: Option<u8>,
    until: Instant,
) -> io::Result<Option<Found>> {
    let mut buffer = vec![0; DATAGRAM_LEN_MAX];
    loop {
        let Some(left) = left(until) else { return Ok(None) };
        socket.set_read_timeout(Some(left))?;
        let (len, from, interface) = match udp::receive_from(socket, &mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted || is_refusal(&error) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if may_answer(network, Arrival { from, interface, prefix })
            && let Ok(ssdp::Message::Reply(headers)) = ssdp::parse(&buffer[..len])
            && let Some(location) = location(network, from.ip(), &headers.location)
        {
            let from = location.address.ip();
            return Ok(Some(Found { from, location, at: Instant::now() }));
        }
    }
}

/// How long until then, where that is a time at all (a timeout of zero would mean none).
pub(super) fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}
