//! The worker with a scripted machine in place of the engine, on loopback.
#![cfg(target_os = "linux")]

mod namespace;
mod script;

use plum::engine::io::{Event, ExchangeId, Output, Protocol, Route, Socket, TcpEnd};
use plum::net::clock;
use plum::worker::{Command, Worker};
use script::{Input, Reaction, Scripted, Seen, wanted};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EXCHANGE: ExchangeId = ExchangeId(41);
const PATIENCE: Duration = script::PATIENCE;

/// A socket of the test's, in the place of a gateway.
fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A port of loopback where nobody listens.
fn closed_port() -> SocketAddr {
    peer().1
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a listener");
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn open(socket: Socket, remote: Option<SocketAddr>) -> Output {
    Output::Open { socket, local: LOOPBACK, interface: 1, remote }
}

fn send(socket: Socket, to: SocketAddr, bytes: &[u8]) -> Output {
    Output::Send { socket, to, bytes: bytes.to_vec() }
}

fn event(id: i32, event: Event) -> Output {
    Output::Event { id, event }
}

fn success() -> Event {
    let port = NonZeroU16::new(4000).unwrap();
    Event::Success { protocol: Protocol::Pcp, address: LOOPBACK, port }
}

fn create(id: i32) -> Command {
    Command::Create(id, wanted())
}

#[test]
fn carries_datagrams_both_ways() {
    let (gateway, address) = peer();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Opened(socket, Some(_)) => reaction.output(send(*socket, address, b"request")),
        _ => {}
    });
    worker.send(create(0));
    let local = worker.expect(|seen| match seen {
        Seen::Input(Input::Opened(Socket::Pcp, local)) => Some(local.expect("it can be opened")),
        _ => None,
    });
    assert_eq!(local.ip(), LOOPBACK);
    let mut buffer = [0; 100];
    let (len, from) = gateway.recv_from(&mut buffer).expect("the request");
    assert_eq!((&buffer[..len], from), (&b"request"[..], local));
    // A connected socket hears its peer only.
    let (stranger, _) = peer();
    stranger.send_to(b"forged", local).unwrap();
    gateway.send_to(b"reply", local).unwrap();
    let bytes = worker.expect(|seen| match seen {
        Seen::Input(Input::Datagram(Socket::Pcp, from, bytes)) if *from == address => Some(bytes.clone()),
        Seen::Input(Input::Datagram(..)) => panic!("{seen:?}"),
        _ => None,
    });
    assert_eq!(bytes, b"reply");
}

#[test]
fn an_unconnected_socket_hears_anyone() {
    let (one, first) = peer();
    let (two, second) = peer();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Ssdp, None)),
        Input::Opened(..) => {
            reaction.output(send(Socket::Ssdp, first, b"search"));
            reaction.output(send(Socket::Ssdp, second, b"search"));
        }
        _ => {}
    });
    worker.send(create(0));
    for (socket, address) in [(one, first), (two, second)] {
        let (len, from) = socket.recv_from(&mut [0; 100]).expect("the search");
        assert_eq!(len, 6);
        socket.send_to(b"found", from).unwrap();
        worker.expect_input(&Input::Datagram(Socket::Ssdp, address, b"found".to_vec()));
    }
}

#[test]
fn a_listener_gets_its_group() {
    let worker = Scripted::start(|_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.output(open(Socket::Announcements, None));
        }
    });
    worker.send(create(0));
    let group = SocketAddr::from(([224, 0, 0, 1], 5350));
    worker.expect_input(&Input::Opened(Socket::Announcements, Some(group)));
    let (gateway, address) = peer();
    SockRef::from(&gateway).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    gateway.send_to(b"announce", group).unwrap();
    worker.expect_input(&Input::Datagram(Socket::Announcements, address, b"announce".to_vec()));
}

#[test]
fn says_when_a_socket_cannot_be_opened() {
    let worker = Scripted::start(|_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            // TEST-NET-3: not ours.
            let local = IpAddr::from([203, 0, 113, 7]);
            reaction.output(Output::Open { socket: Socket::Ssdp, local, interface: 1, remote: None });
        }
    });
    worker.send(create(0));
    worker.expect_input(&Input::Opened(Socket::Ssdp, None));
}

#[test]
fn a_socket_that_is_closed_or_replaced_is_heard_no_more() {
    let (gateway, address) = peer();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Destroy(_) => {
            reaction.output(Output::Close { socket: Socket::Pcp });
            // Dropped: there is no such socket now.
            reaction.output(send(Socket::Pcp, address, b"lost"));
        }
        Input::Opened(..) => reaction.output(send(Socket::Pcp, address, b"request")),
        _ => {}
    });
    let mut buffer = [0; 100];
    let mut ports = Vec::new();
    for id in 0..3 {
        worker.send(create(id));
        ports.push(gateway.recv_from(&mut buffer).expect("a request").1);
    }
    // Each of a socket of its own, of which one is left.
    gateway.send_to(b"late", ports[0]).unwrap();
    gateway.send_to(b"late", ports[1]).unwrap();
    gateway.send_to(b"reply", ports[2]).unwrap();
    let bytes = worker.expect(|seen| match seen {
        Seen::Input(Input::Datagram(_, _, bytes)) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(bytes, b"reply");
    worker.send(Command::Destroy(2));
    worker.expect_input(&Input::Destroy(2));
    worker.send(create(3));
    let (len, from) = gateway.recv_from(&mut buffer).expect("a request");
    assert_eq!(&buffer[..len], b"request");
    assert!(!ports.contains(&from));
}

#[test]
fn reports_a_closed_port() {
    let closed = closed_port();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::NatPmp, Some(closed))),
        Input::Opened(..) => reaction.output(send(Socket::NatPmp, closed, b"request")),
        _ => {}
    });
    worker.send(create(0));
    worker.expect_input(&Input::Refused(Socket::NatPmp));
}

#[test]
fn a_datagram_that_meets_an_earlier_ones_error_is_sent_nevertheless() {
    let address = closed_port();
    let (report, reported) = crossbeam_channel::unbounded();
    let worker = Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(open(Socket::Pcp, Some(address))),
        Input::Opened(..) => {
            reaction.output(send(Socket::Pcp, address, b"one"));
            // What is decided on its answer comes between the two.
            reaction.output(Output::LookUpRoute { toward: Some(LOOPBACK) });
        }
        Input::Route(_) => {
            let socket = UdpSocket::bind(address).expect("the port is still free");
            report.send(socket).unwrap();
            reaction.output(send(Socket::Pcp, address, b"two"));
        }
        _ => {}
    });
    worker.send(create(0));
    let gateway = reported.recv_timeout(PATIENCE).expect("the gateway is up");
    worker.expect_input(&Input::Refused(Socket::Pcp));
    gateway.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 100];
    let len = gateway.recv(&mut buffer).expect("the second datagram");
    assert_eq!(&buffer[..len], b"two");
}

#[test]
fn looks_up_routes() {
    let worker = Scripted::start(|_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.output(Output::LookUpRoute { toward: Some(LOOPBACK) });
        }
    });
    worker.send(create(0));
    let interface = namespace::index("lo");
    worker.expect_input(&Input::Route(Some(Route { gateway: None, local: LOOPBACK, interface })));
}

/// A machine that connects on `Create`, writes `request` once connected, and hangs up on `Destroy`.
fn connecting(to: SocketAddr, request: Vec<Vec<u8>>) -> Scripted {
    Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(Output::Connect { exchange: EXCHANGE, to }),
        Input::Connected(exchange, _) => {
            for bytes in request.clone() {
                reaction.output(Output::Write { exchange: *exchange, bytes });
            }
        }
        Input::Destroy(_) => reaction.output(Output::HangUp { exchange: EXCHANGE }),
        _ => {}
    })
}

#[test]
fn carries_an_exchange_to_its_end() {
    let (listener, address) = listener();
    let worker = connecting(address, vec![b"GET ".to_vec(), b"/".to_vec()]);
    worker.send(create(0));
    let (mut stream, from) = listener.accept().expect("a connection");
    worker.expect_input(&Input::Connected(EXCHANGE, from));
    let mut request = [0; 5];
    stream.read_exact(&mut request).expect("the request");
    assert_eq!(&request, b"GET /");
    let body = vec![b'x'; 1_000_000];
    stream.write_all(&body).expect("the reply");
    drop(stream);
    let mut received = Vec::new();
    worker.expect(|seen| match seen {
        Seen::Input(Input::Data(EXCHANGE, bytes)) => {
            received.extend_from_slice(bytes);
            None
        }
        Seen::Input(Input::End(EXCHANGE, TcpEnd::Closed)) => Some(()),
        _ => None,
    });
    assert!(received == body, "{} bytes", received.len());
}

#[test]
fn tells_refused_broken_and_unreachable_connections() {
    let worker = connecting(closed_port(), Vec::new());
    worker.send(create(0));
    worker.expect_input(&Input::End(EXCHANGE, TcpEnd::Refused));

    let (listener, address) = listener();
    let worker = connecting(address, Vec::new());
    worker.send(create(0));
    let (stream, _) = listener.accept().expect("a connection");
    // Closing it now is a reset.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    worker.expect_input(&Input::End(EXCHANGE, TcpEnd::Failed));

    // Nobody can connect to a group.
    let worker = connecting("224.0.0.1:80".parse().unwrap(), Vec::new());
    worker.send(create(0));
    worker.expect_input(&Input::End(EXCHANGE, TcpEnd::Failed));
}

#[test]
fn nothing_is_told_of_a_connection_after_hanging_up() {
    let (listener, address) = listener();
    let worker = connecting(address, Vec::new());
    worker.send(create(0));
    let (mut stream, _) = listener.accept().expect("a connection");
    worker.expect(|seen| matches!(seen, Seen::Input(Input::Connected(..))).then_some(()));
    worker.send(Command::Destroy(0));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).expect("the end"), 0);
    let _ = stream.write_all(b"too late");
    worker.send(Command::Destroy(1));
    worker.expect(|seen| match seen {
        Seen::Input(Input::Destroy(1)) => Some(()),
        Seen::Input(Input::Data(..) | Input::End(..)) => panic!("{seen:?}"),
        _ => None,
    });
}

#[test]
fn what_the_other_side_does_not_take_waits_up_to_a_limit() {
    const CHUNK: usize = 64 * 1024;
    // One chunk a timeout, `count` of them, then a last timeout that does nothing.
    let writing = |address, count: usize| {
        let mut written = 0;
        Scripted::start(move |now, input, reaction| match input {
            Input::Create(_) => reaction.output(Output::Connect { exchange: EXCHANGE, to: address }),
            Input::Connected(..) => reaction.timeout = Some(now),
            Input::Timeout if written < count => {
                written += 1;
                reaction.output(Output::Write { exchange: EXCHANGE, bytes: vec![written as u8; CHUNK] });
                reaction.timeout = Some(now);
            }
            Input::End(..) => reaction.timeout = None,
            _ => {}
        })
    };
    let accept = |listener: &TcpListener| {
        let stream = listener.accept().expect("a connection").0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };

    // The system takes some, then the worker does, then it is too much.
    let (listener, address) = listener();
    SockRef::from(&listener).set_recv_buffer_size(CHUNK).unwrap();
    let worker = writing(address, 10_000);
    worker.send(create(0));
    let _unread = accept(&listener);
    let mut taken = 0;
    worker.expect(|seen| match seen {
        Seen::Input(Input::Timeout) => {
            taken += 1;
            None
        }
        Seen::Input(Input::End(EXCHANGE, TcpEnd::Failed)) => Some(()),
        _ => None,
    });
    assert!(taken * CHUNK < 64 << 20, "what the system takes is some MiB, and the worker less than one");

    // Three chunks less: the worker holds more than one of its four then, and all arrives when it is read at last.
    let count = taken - 3;
    let worker = writing(address, count);
    worker.send(create(0));
    let mut stream = accept(&listener);
    for _ in 0..=count {
        worker.expect_input(&Input::Timeout);
    }
    for number in 1..=count {
        let mut chunk = vec![0; CHUNK];
        stream.read_exact(&mut chunk).expect("a chunk");
        assert!(chunk.iter().all(|&byte| byte == number as u8), "chunk {number}");
    }
}

#[test]
fn timers_come_when_due_and_once() {
    let span = Duration::from_millis(30);
    let worker = Scripted::start(move |now, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.timeout = Some(now + span);
        }
    });
    let start = clock::now();
    worker.send(create(0));
    let mut created_at = start;
    let timed_out_at = worker.expect_at(|now, seen| match seen {
        Seen::Input(Input::Create(_)) => {
            created_at = now;
            None
        }
        Seen::Input(Input::Timeout) => Some(now),
        _ => None,
    });
    assert!(created_at >= start);
    assert!(timed_out_at >= created_at + span);
    worker.send(Command::Destroy(0));
    worker.expect(|seen| match seen {
        Seen::Input(Input::Destroy(_)) => Some(()),
        Seen::Input(Input::Timeout) => panic!("again"),
        _ => None,
    });
}

/// A machine with a socket to `gateway`; each `Create` of an id above 0 gives its program two events and, where a
/// span is given, starts a timer.
fn telling(
    gateway: SocketAddr,
    span: Option<Duration>,
) -> impl FnMut(plum::time::Time, &Input, &mut Reaction) {
    move |now, input, reaction| match input {
        Input::Create(0) => reaction.output(open(Socket::Pcp, Some(gateway))),
        Input::Create(id) => {
            reaction.output(event(*id, success()));
            reaction.output(event(*id, Event::Failure));
            reaction.timeout = span.map(|span| now + span);
        }
        _ => {}
    }
}

#[test]
fn what_came_during_a_callback_is_read_before_timers_and_the_next_callback() {
    let span = Duration::from_millis(20);
    let (gateway, address) = peer();
    let (to_callback, in_callback) = crossbeam_channel::unbounded::<SocketAddr>();
    let worker = Scripted::start_with(telling(address, Some(span)), move |_, event| {
        if event == success() {
            let local = in_callback.recv_timeout(PATIENCE).expect("where to send");
            gateway.send_to(b"reply", local).unwrap();
            // A slow program: the timer comes due meanwhile.
            let end = clock::now() + 2 * span;
            while clock::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    worker.send(create(0));
    let local = worker.expect(|seen| match seen {
        Seen::Input(Input::Opened(_, local)) => *local,
        _ => None,
    });
    to_callback.send(local).unwrap();
    worker.send(create(1));
    let mut order = Vec::new();
    worker.expect(|seen| {
        match seen {
            Seen::Told(1, event) => order.push(if *event == success() { "success" } else { "failure" }),
            Seen::Input(Input::Datagram(..)) => order.push("datagram"),
            Seen::Input(Input::Timeout) => order.push("timeout"),
            _ => {}
        }
        (order.len() == 4).then_some(())
    });
    assert_eq!(order, ["success", "datagram", "timeout", "failure"]);
}

#[test]
fn hundreds_of_replies_during_a_callback_are_all_read() {
    const REPLIES: usize = 500;
    let (gateway, address) = peer();
    let (to_callback, in_callback) = crossbeam_channel::unbounded::<SocketAddr>();
    let worker = Scripted::start_with(telling(address, None), move |_, event| {
        if event == success() {
            let local = in_callback.recv_timeout(PATIENCE).expect("where to send");
            for _ in 0..REPLIES {
                gateway.send_to(&[0; 60], local).unwrap();
            }
        }
    });
    worker.send(create(0));
    let local = worker.expect(|seen| match seen {
        Seen::Input(Input::Opened(_, local)) => *local,
        _ => None,
    });
    to_callback.send(local).unwrap();
    worker.send(create(1));
    let mut replies = 0;
    worker.expect(|seen| {
        replies += usize::from(matches!(seen, Seen::Input(Input::Datagram(..))));
        matches!(seen, Seen::Told(1, Event::Failure)).then_some(())
    });
    assert_eq!(replies, REPLIES);
}

#[test]
fn an_idle_worker_does_not_wake_up() {
    let worker = Scripted::start(|_, _, _| {});
    // Not a creation: changes of this machine's network would be told then.
    worker.send(Command::Destroy(7));
    worker.expect_input(&Input::Destroy(7));
    // It asks the machine for its timeout before each wait.
    let turns = || worker.turns.load(Ordering::SeqCst);
    let mut before = turns();
    let quiet = Duration::from_millis(200);
    let deadline = clock::now() + PATIENCE;
    // It may not have got to its wait yet.
    loop {
        assert!(worker.seen.recv_timeout(quiet).is_err(), "nothing is to happen");
        if turns() == before {
            break;
        }
        before = turns();
        assert!(clock::now() < deadline, "it never comes to rest");
    }
}

#[test]
fn wakes_call_the_program_soon() {
    let worker = Scripted::start(|_, _, _| {});
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| worker.wake.wake()));
        }
    });
    worker.expect(|seen| matches!(seen, Seen::ProgramTimeout).then_some(()));
    worker.send(Command::Destroy(7));
    let mut calls = 1;
    worker.expect(|seen| {
        calls += usize::from(matches!(seen, Seen::ProgramTimeout));
        matches!(seen, Seen::Input(Input::Destroy(7))).then_some(())
    });
    assert!(calls <= 4000);
    // Also one that comes after all that, to a worker at rest.
    worker.wake.wake();
    worker.expect(|seen| matches!(seen, Seen::ProgramTimeout).then_some(()));
}

#[test]
fn the_program_has_its_own_timer_and_is_called_while_it_has_more() {
    let worker = Scripted::start(|_, _, _| {});
    let due = clock::now() + Duration::from_millis(20);
    *worker.program_timeout.lock() = Some((due, 3));
    // It looks at the timeout when it next waits.
    worker.send(Command::Destroy(7));
    for _ in 0..3 {
        let at = worker.expect_at(|now, seen| matches!(seen, Seen::ProgramTimeout).then_some(now));
        assert!(at >= due);
    }
}

#[test]
fn commands_come_in_order_and_pending_is_told() {
    let worker = Scripted::start(|_, input, reaction| match input {
        Input::Create(id) => {
            reaction.output(event(*id, Event::Pending));
            reaction.output(event(*id, success()));
        }
        Input::Destroy(id) => reaction.output(event(*id, Event::Destroyed)),
        _ => {}
    });
    const COUNT: i32 = 300;
    for id in 0..COUNT {
        worker.send(create(id));
        worker.send(Command::Destroy(id));
    }
    let (mut inputs, mut told) = (Vec::new(), Vec::new());
    worker.expect(|seen| {
        match seen {
            Seen::Input(Input::Create(id)) => inputs.push((*id, 'c')),
            Seen::Input(Input::Destroy(id)) => inputs.push((*id, 'd')),
            Seen::Told(id, event) => told.push((*id, *event)),
            _ => {}
        }
        (told.len() == 3 * COUNT as usize).then_some(())
    });
    assert_eq!(inputs, (0..COUNT).flat_map(|id| [(id, 'c'), (id, 'd')]).collect::<Vec<_>>());
    let expected = (0..COUNT).flat_map(|id| [Event::Pending, success(), Event::Destroyed].map(|e| (id, e)));
    assert_eq!(told, expected.collect::<Vec<_>>());
}

/// Answers `Destroy` and `Cleanup` as the engine does.
fn obedient(live: &mut Vec<i32>, input: &Input, reaction: &mut Reaction) {
    match input {
        Input::Create(id) => live.push(*id),
        Input::Destroy(id) => {
            live.retain(|other| other != id);
            reaction.output(event(*id, Event::Destroyed));
        }
        Input::Cleanup => {
            live.drain(..).for_each(|id| reaction.output(event(id, Event::Destroyed)));
            reaction.output(Output::Finished);
        }
        _ => {}
    }
}

#[test]
fn cleanup_tells_all_and_ends_the_thread() {
    let mut live = Vec::new();
    let worker = Scripted::start(move |_, input, reaction| obedient(&mut live, input, reaction));
    (0..3).for_each(|id| worker.send(create(id)));
    worker.send(Command::Cleanup);
    worker.send(Command::Cleanup);
    let wake = worker.wake.clone();
    let seen = worker.join();
    let end: Vec<_> = seen.into_iter().filter(|seen| !matches!(seen, Seen::Input(_))).collect();
    let destroyed = |id| Seen::Told(id, Event::Destroyed);
    assert_eq!(end, [destroyed(0), destroyed(1), destroyed(2), Seen::Finished]);
    wake.wake();
}

#[test]
fn a_worker_that_is_dropped_cleans_up() {
    let mut live = Vec::new();
    let worker = Scripted::start(move |_, input, reaction| obedient(&mut live, input, reaction));
    worker.send(create(0));
    let seen = worker.seen.clone();
    drop(worker);
    let deadline = std::iter::from_fn(|| seen.recv_timeout(PATIENCE).ok()).map(|(_, seen)| seen);
    let told: Vec<_> = deadline.filter(|seen| !matches!(seen, Seen::Input(_))).collect();
    assert_eq!(told, [Seen::Told(0, Event::Destroyed), Seen::Finished]);
}

#[test]
fn callbacks_are_on_a_thread_named_plum_with_all_signals_blocked() {
    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        line.trim_start_matches(':').trim().to_owned()
    }
    let before = status("SigBlk");
    let (to_callback, in_callback) = crossbeam_channel::unbounded::<Arc<Worker>>();
    let (report, reported) = crossbeam_channel::unbounded();
    let worker = Scripted::start_with(
        |_, input, reaction| {
            if let Input::Create(id) = input {
                reaction.output(event(*id, success()));
            }
        },
        move |_, _| {
            let worker = in_callback.recv_timeout(PATIENCE).expect("the worker");
            report.send((status("Name"), status("SigBlk"), worker.is_current_thread())).unwrap();
        },
    );
    assert_eq!(status("SigBlk"), before, "the caller's signals are as they were");
    to_callback.send(worker.worker.clone()).unwrap();
    worker.send(create(0));
    let (name, blocked, is_worker) = reported.recv_timeout(PATIENCE).expect("a callback");
    assert_eq!(name, "plum");
    assert!(is_worker && !worker.worker.is_current_thread());
    // All of 1..=64 but KILL, STOP, and those that the C library keeps for itself (32 and 33; musl 34 too).
    let never =
        [9, 19].into_iter().chain(32..libc::SIGRTMIN()).fold(0u64, |mask, signal| mask | 1 << (signal - 1));
    let blocked = u64::from_str_radix(&blocked, 16).expect("hexadecimal");
    assert_eq!(blocked | never, u64::MAX, "{blocked:x}");
}

#[test]
fn descriptors_are_closed_on_exec() {
    let (listener, address) = listener();
    let worker = Scripted::start(move |_, input, reaction| {
        if matches!(input, Input::Create(_)) {
            reaction.output(open(Socket::Pcp, Some(address)));
            reaction.output(open(Socket::Ssdp, None));
            reaction.output(open(Socket::Announcements, None));
            reaction.output(Output::Connect { exchange: EXCHANGE, to: address });
        }
    });
    worker.send(create(0));
    worker.expect(|seen| matches!(seen, Seen::Input(Input::Connected(..))).then_some(()));
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("procfs").flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let info = std::path::Path::new("/proc/self/fdinfo").join(entry.file_name());
        let Ok(info) = std::fs::read_to_string(info) else { continue };
        if !target.starts_with("socket:") && !target.starts_with("anon_inode:") {
            continue;
        }
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim();
        let flags = u32::from_str_radix(flags, 8).expect("octal");
        // The standard streams may be anything. O_CLOEXEC is 02000000.
        let standard = ["0", "1", "2"].contains(&entry.file_name().to_string_lossy().as_ref());
        assert!(standard || flags & 0o2_000_000 != 0, "{target} is inherited");
        kinds.push(target);
    }
    for kind in ["socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"] {
        assert!(kinds.iter().any(|target| target.starts_with(kind)), "{kind} is not among {kinds:?}");
    }
    drop(listener);
}

#[test]
fn a_change_of_the_network_reaches_the_machine() {
    if !namespace::is_inside("a_change_of_the_network_reaches_the_machine") {
        return;
    }
    namespace::ip("link set lo up");
    let worker = Scripted::start(|_, _, _| {});
    worker.send(create(0));
    worker.expect_input(&Input::Create(0));
    // While nobody else changes anything here.
    namespace::ip("addr add 10.1.0.2/24 dev lo");
    worker.expect_input(&Input::NetworkChanged);
    namespace::add_cable("lan", "10.2.0.2/24");
    worker.expect_input(&Input::NetworkChanged);
}

#[test]
fn after_a_panic_every_mapping_still_gets_its_end() {
    let mut live = Vec::new();
    let worker = Scripted::start(move |_, input, reaction| {
        assert!(*input != Input::Destroy(2), "this panic is part of a test");
        obedient(&mut live, input, reaction);
    });
    (0..4).for_each(|id| worker.send(create(id)));
    worker.send(Command::Destroy(0));
    worker.expect(|seen| matches!(seen, Seen::Told(0, Event::Destroyed)).then_some(()));
    worker.send(Command::Destroy(2));
    worker.expect(|seen| matches!(seen, Seen::Panicked).then_some(()));
    // The one whose destruction panicked, at once.
    worker.expect(|seen| matches!(seen, Seen::Told(2, Event::Destroyed)).then_some(()));
    worker.send(Command::Destroy(1));
    worker.send(Command::Destroy(1));
    worker.send(create(4));
    worker.wake.wake();
    worker.expect(|seen| matches!(seen, Seen::Told(1, Event::Destroyed)).then_some(()));
    worker.expect(|seen| matches!(seen, Seen::Told(4, Event::Failure)).then_some(()));
    worker.expect(|seen| matches!(seen, Seen::ProgramTimeout).then_some(()));
    worker.send(Command::Cleanup);
    let destroyed = |id| Seen::Told(id, Event::Destroyed);
    assert_eq!(worker.join(), [destroyed(3), destroyed(4), Seen::Finished]);
}

#[test]
fn a_panic_in_cleanup_does_not_hold_it_up() {
    let worker = Scripted::start(|_, input, reaction| {
        if *input == Input::Cleanup {
            reaction.output(event(0, Event::Destroyed));
            reaction.output(Output::LookUpRoute { toward: Some(LOOPBACK) });
        }
        assert!(!matches!(input, Input::Route(_)), "this panic is part of a test");
    });
    (0..2).for_each(|id| worker.send(create(id)));
    worker.send(Command::Cleanup);
    let seen = worker.join();
    let end: Vec<_> = seen.into_iter().filter(|seen| !matches!(seen, Seen::Input(_))).collect();
    let destroyed = |id| Seen::Told(id, Event::Destroyed);
    assert_eq!(end, [Seen::Panicked, destroyed(0), destroyed(1), Seen::Finished]);
}

#[test]
fn a_panic_in_a_callback_is_survived() {
    let mut live = Vec::new();
    let worker = Scripted::start_with(
        move |_, input, reaction| obedient(&mut live, input, reaction),
        |id, _| assert!(id != 0, "this panic is part of a test"),
    );
    (0..2).for_each(|id| worker.send(create(id)));
    worker.send(Command::Destroy(0));
    worker.expect(|seen| matches!(seen, Seen::Panicked).then_some(()));
    worker.send(Command::Cleanup);
    // Not a second time for the one that panicked on it.
    assert_eq!(worker.join(), [Seen::Told(1, Event::Destroyed), Seen::Finished]);
}

#[test]
fn the_engine_can_be_carried() {
    // What it does is the matter of its own tests; here it has nothing to do and ends.
    let config = plum::engine::io::Config::default();
    let worker = Worker::start(config, |_| script::silent_program()).expect("a worker");
    assert!(!worker.is_current_thread());
}
