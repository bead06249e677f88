//! The same with real sockets, the kernel's part included: a worker and the engine on loopback, in a namespace where a port
//! of its own number is needed.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the report of a test")]
#![cfg(target_os = "linux")]

use crate::harness::{WAN, answer, description};
use crate::sweep::lies;
use plum_engine::io::{Allowed, Config, Event, MappingId, Protocol, Suggestion, Wanted};
use plum_engine::time::Time;
use plum_gateway::server::{Config as Place, Server as Gateway};
use plum_runtime::worker::{Command, Program, Worker};
use plum_testkit::namespace::{ip, is_inside};
use plum_wire::Transport;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// What is waited for comes within a second or two; this is for machines that are very busy.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct EventSender(Sender<Event>);

impl Program for EventSender {
    fn handle_event(&mut self, _now: Time, _id: MappingId, event: Event) {
        // The test may be over.
        let _ = self.0.send(event);
    }
    fn poll_timeout(&self) -> Option<Time> {
        None
    }
    fn handle_timeout(&mut self, _now: Time) -> bool {
        false
    }
    fn handle_finished(&mut self, _now: Time) {}
    fn handle_panic(&mut self) {
        panic!("the worker has panicked");
    }
}

/// A worker that looks for one mapping at the gateway 127.0.0.1.
fn start(allowed: Allowed, port: Option<u16>) -> (Worker, Receiver<Event>) {
    let (tell, told) = channel();
    let config = Config {
        allowed,
        gateway: Some((LOOPBACK, port)),
        discover_timeout: Duration::from_secs(1),
        mapping_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let worker = Worker::start(config, |_| Box::new(EventSender(tell))).expect("a worker");
    let internal_port = NonZeroU16::new(8000).expect("not 0");
    let wanted =
        Wanted { transport: Transport::Tcp, internal_port, wish: Suggestion::default(), description: None };
    worker.send(Command::Create(0, wanted));
    (worker, told)
}

/// The first that the program is called for.
fn first(told: &Receiver<Event>) -> Event {
    loop {
        match told.recv_timeout(PATIENCE).expect("the program is told in time") {
            Event::Pending => {}
            event => return event,
        }
    }
}

/// The program ends, in time.
fn end(worker: Worker, told: &Receiver<Event>) {
    worker.send(Command::Cleanup);
    while told.recv_timeout(PATIENCE).expect("the end comes in time") != Event::Destroyed {}
    worker.join();
}

fn listen(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

#[test]
fn perfect_answers_from_another_address_or_port_are_not_heard() {
    let gateway = listen("127.0.0.1:0");
    let port = gateway.local_addr().expect("an address").port();
    let (worker, told) = start(Allowed::Pcp, Some(port));
    let mut request = [0; 1100];
    let (client, reply) = loop {
        let (len, client) = gateway.recv_from(&mut request).expect("a request");
        if len == 60 && request[0] == 2 {
            let mut reply = request[..60].to_vec();
            reply[1] |= 0x80;
            reply[8..24].fill(0);
            break (client, reply);
        }
    };
    let mut lie = reply.clone();
    lie[56..60].copy_from_slice(&[198, 51, 100, 66]);
    // Whoever has seen the request knows the nonce and our port.
    for forger in [listen(&format!("127.0.0.2:{port}")), listen("127.0.0.1:0"), listen("127.0.0.3:0")] {
        for _ in 0..100 {
            forger.send_to(&lie, client).expect("it is sent");
        }
    }
    let mut truth = reply;
    truth[56..60].copy_from_slice(&[203, 0, 113, 7]);
    gateway.send_to(&truth, client).expect("it is sent");
    let Event::Success { address, .. } = first(&told) else { panic!("no success") };
    assert_eq!(address.to_string(), "203.0.113.7");
    end(worker, &told);
}

/// Answers searches, to the gateway's port 1900, with this location.
fn answer_searches(location: SocketAddr) {
    let socket = listen("127.0.0.1:1900");
    std::thread::spawn(move || {
        let mut search = [0; 1500];
        while let Ok((_, from)) = socket.recv_from(&mut search) {
            let _ = socket.send_to(&answer(&format!("http://{location}/x")), from);
        }
    });
}

type Serve = Box<dyn Fn(TcpStream) + Send>;

/// The gateway's HTTP server does this with each connection. In a namespace of its own.
fn fails_with(serve: Option<Serve>) {
    ip("link set lo up");
    let server = TcpListener::bind("127.0.0.1:0").expect("a socket");
    answer_searches(server.local_addr().expect("an address"));
    let never_accepted = match serve {
        None => Some(server),
        Some(serve) => {
            std::thread::spawn(move || server.incoming().flatten().for_each(serve));
            None
        }
    };
    let (worker, told) = start(Allowed::Upnp, None);
    assert_eq!(first(&told), Event::Failure);
    end(worker, &told);
    drop(never_accepted);
}

/// Reads until the request is complete.
fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(len) if len > 0 => request.extend_from_slice(&buffer[..len]),
            _ => return,
        }
    }
}

#[test]
fn a_server_that_never_accepts_is_a_failure() {
    if is_inside("sockets::a_server_that_never_accepts_is_a_failure") {
        fails_with(None);
    }
}

#[test]
fn a_server_that_resets_is_a_failure() {
    if is_inside("sockets::a_server_that_resets_is_a_failure") {
        fails_with(Some(Box::new(|stream| {
            // socket(7): closed with SO_LINGER of 0, it is reset.
            let socket = socket2::Socket::from(stream);
            socket.set_linger(Some(Duration::ZERO)).expect("an open socket");
        })));
    }
}

#[test]
fn a_server_that_closes_early_is_a_failure() {
    if is_inside("sockets::a_server_that_closes_early_is_a_failure") {
        fails_with(Some(Box::new(|mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
        })));
    }
}

#[test]
fn a_server_that_sends_without_end_is_hung_up_on() {
    if !is_inside("sockets::a_server_that_sends_without_end_is_hung_up_on") {
        return;
    }
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    fails_with(Some(Box::new(move |mut stream| {
        read_request(&mut stream);
        let mut bytes = &b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"[..];
        while let Ok(len) = stream.write(bytes)
            && count.fetch_add(len, Ordering::SeqCst) < 1_000_000_000
        {
            bytes = &[b'<'; 65_536];
        }
    })));
    // Three fetches of 1 MiB each, and what the kernel's buffers hold of a connection, at most 6 MiB and 4 MiB.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent <= 3 * (11 << 20), "{sent} bytes");
}

#[test]
fn a_server_that_drips_is_a_failure() {
    if is_inside("sockets::a_server_that_drips_is_a_failure") {
        fails_with(Some(Box::new(|mut stream| {
            read_request(&mut stream);
            // It ends when the other side hangs up; each wait is that of the attack, none of the test's.
            for byte in b"HTTP/1.1 200 OK\r\nServer: ".iter().chain(std::iter::repeat(&b'x')) {
                let drip = stream.set_read_timeout(Some(Duration::from_millis(100)));
                let is_open = stream.read(&mut [0]).is_err();
                if drip.is_err() || !is_open || stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        })));
    }
}

#[test]
fn a_server_whose_control_url_is_on_another_host_gets_no_action() {
    if !is_inside("sockets::a_server_whose_control_url_is_on_another_host_gets_no_action") {
        return;
    }
    let other = TcpListener::bind("127.0.0.2:0").expect("a socket");
    let at = other.local_addr().expect("an address");
    let xml = description("Gateway", "", &[(WAN, &format!("http://{at}/ctl"))]);
    fails_with(Some(Box::new(move |mut stream| {
        read_request(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", xml.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(xml.as_bytes()));
    })));
    other.set_nonblocking(true).expect("an open socket");
    assert!(other.accept().is_err(), "the other host was contacted");
}

/// The ports that Linux gives to sockets (/proc/sys/net/ipv4/ip_local_port_range), unless it is told otherwise.
const PORTS: std::ops::Range<u16> = 32_768..61_000;
/// How many sweeps the test sees.
const SWEEPS: usize = 8;

/// Sends the lies to all ports, again and again, and says after each time how long it took, until nobody listens.
fn sweep(forger: &UdpSocket, done: &Sender<Duration>) {
    let lies = lies(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 66)), 8000);
    loop {
        let begun_at = Instant::now();
        for port in PORTS {
            for lie in &lies {
                // Ports are closed, and the buffers of some are full.
                let _ = forger.send_to(lie, (LOOPBACK, port));
            }
        }
        if done.send(begun_at.elapsed()).is_err() {
            return;
        }
    }
}

#[test]
fn a_sweep_of_all_ports_over_real_sockets_takes_no_mapping_from_upnp() {
    if !is_inside("sockets::a_sweep_of_all_ports_over_real_sockets_takes_no_mapping_from_upnp") {
        return;
    }
    plum_runtime::log::open(
        Some(plum_runtime::log::Level::Debug),
        Some(Arc::new(|_, t: &std::ffi::CStr| eprintln!("{}", t.to_string_lossy()))),
    ); //TMP
    ip("link set lo up");
    // What is sent from here comes from the gateway's address and port; the gateway itself is silent there.
    let forger = listen("127.0.0.1:5351");
    let (done, sweeps) = channel();
    let thread = std::thread::spawn(move || sweep(&forger, &done));
    let mut place = Place::at(LOOPBACK);
    place.gateway.pcp_port = 0;
    let gateway = Gateway::start(place).expect("a gateway");
    let mut took = sweeps.recv().expect("a sweep");
    let (worker, told) = start(Allowed::Any, None);
    let made = first(&told);
    let Event::Success { protocol: Protocol::UpnpIgd, address, .. } = made else { panic!("{made:?}") };
    assert_eq!(address.to_string(), "203.0.113.7");
    for _ in 0..SWEEPS {
        took = took.min(sweeps.recv().expect("a sweep"));
    }
    println!("{} ports are swept in {took:?}", PORTS.len());
    for event in told.try_iter() {
        assert!(event == Event::Pending || event == made, "{event:?} after it was made");
    }
    end(worker, &told);
    assert!(gateway.with_core(|gateway| gateway.table().is_empty()), "something is left");
    drop(sweeps);
    thread.join().expect("the sweep ends");
}
