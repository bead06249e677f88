//! A driver on a clock of our own, and a transcript of what it says: tests read as a timetable.
//!
//! A line is `MILLIS > DATAGRAM` for what is sent and `MILLIS = NOTICE` for what the core is told. Requests are
//! read, and replies written, by the offsets of the RFCs and not by `wire`.

use crate::engine::driver::{Key, Notice, Refusal, Status};
use crate::engine::io::{Cx, Output, Random, Socket, Suggestion};
use crate::engine::natpmp::NatPmp;
use crate::engine::pcp::Pcp;
use crate::engine::schedule::Pace;
use crate::time::Time;
use crate::wire::Transport;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

pub const LOCAL: [u8; 4] = [192, 168, 1, 20];
pub const EXTERNAL: [u8; 4] = [203, 0, 113, 7];

pub fn udp(port: u16) -> Key {
    Key { transport: Transport::Udp, internal_port: NonZeroU16::new(port).unwrap() }
}

pub fn tcp(port: u16) -> Key {
    Key { transport: Transport::Tcp, ..udp(port) }
}

/// The longest of every random span, so that times are exact; bytes that count up, so that nonces differ.
#[derive(Default)]
pub struct Longest(u8);

impl Random for Longest {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }

    fn in_range(&mut self, _low: u64, high: u64) -> u64 {
        high
    }
}

/// Pseudo-random, from a seed.
pub struct Seeded(pub fastrand::Rng);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

/// What the two drivers have in common.
pub trait Driver {
    const SOCKET: Socket;
    /// Where a reply has the lifetime. (Both have the result code in octet 3.)
    const LIFETIME: std::ops::Range<usize>;
    fn new(mapping_timeout: Duration) -> Self;
    fn start(&mut self, remote: SocketAddr);
    fn handle_opened(&mut self, cx: &mut Cx<'_>, local: Option<SocketAddr>);
    fn map(&mut self, cx: &mut Cx<'_>, key: Key, suggestion: Suggestion);
    fn delete(&mut self, cx: &mut Cx<'_>, key: Key);
    fn abandon(&mut self, cx: &mut Cx<'_>, key: Key);
    fn probe(&mut self, cx: &mut Cx<'_>);
    fn handle_datagram(&mut self, cx: &mut Cx<'_>, bytes: &[u8]);
    fn handle_timeout(&mut self, cx: &mut Cx<'_>);
    fn poll_timeout(&self) -> Option<Time>;
    fn poll_notice(&mut self) -> Option<Notice>;
    fn status(&self) -> Status;
    /// What a request is about (`None`: the gateway itself), whether it deletes, and the transcript's word for it.
    fn read(bytes: &[u8]) -> (Option<Key>, String);
    /// The reply to a request of a server that does as it is told.
    fn reply(request: &[u8], epoch_secs: u32) -> Vec<u8>;
}

macro_rules! forward {
    ($driver:ty) => {
        fn new(mapping_timeout: Duration) -> Self {
            <$driver>::new(mapping_timeout)
        }
        fn start(&mut self, remote: SocketAddr) {
            <$driver>::start(self, remote)
        }
        fn handle_opened(&mut self, cx: &mut Cx<'_>, local: Option<SocketAddr>) {
            <$driver>::handle_opened(self, cx, local)
        }
        fn map(&mut self, cx: &mut Cx<'_>, key: Key, suggestion: Suggestion) {
            <$driver>::map(self, cx, key, suggestion)
        }
        fn delete(&mut self, cx: &mut Cx<'_>, key: Key) {
            <$driver>::delete(self, cx, key)
        }
        fn abandon(&mut self, cx: &mut Cx<'_>, key: Key) {
            <$driver>::abandon(self, cx, key);
        }
        fn probe(&mut self, cx: &mut Cx<'_>) {
            <$driver>::probe(self, cx)
        }
        fn handle_datagram(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) {
            <$driver>::handle_datagram(self, cx, bytes)
        }
        fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
            <$driver>::handle_timeout(self, cx)
        }
        fn poll_timeout(&self) -> Option<Time> {
            <$driver>::poll_timeout(self)
        }
        fn poll_notice(&mut self) -> Option<Notice> {
            <$driver>::poll_notice(self)
        }
        fn status(&self) -> Status {
            <$driver>::status(self)
        }
    };
}

impl Driver for Pcp {
    const SOCKET: Socket = Socket::Pcp;
    const LIFETIME: std::ops::Range<usize> = 4..8;
    forward!(Pcp);

    fn read(bytes: &[u8]) -> (Option<Key>, String) {
        assert_eq!(bytes[8..24], [&[0; 10][..], &[0xff; 2], &LOCAL].concat(), "client address");
        if bytes[..8] == [2, 0, 0, 0, 0, 0, 0, 0] && bytes.len() == 24 {
            return (None, "announce".into());
        }
        assert_eq!((bytes[0], bytes[1], bytes.len()), (2, 1, 60), "neither ANNOUNCE nor MAP");
        let transport = if bytes[36] == 6 { Transport::Tcp } else { Transport::Udp };
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        (Some(key(transport, port(40))), told(key(transport, port(40)), &bytes[4..8], port(42)))
    }

    fn reply(request: &[u8], epoch_secs: u32) -> Vec<u8> {
        let mut bytes = request.to_vec();
        bytes[1] |= 0x80;
        bytes[8..12].copy_from_slice(&epoch_secs.to_be_bytes());
        bytes[12..24].fill(0);
        if bytes.len() == 60 {
            bytes[56..60].copy_from_slice(&EXTERNAL);
        }
        bytes
    }
}

impl Driver for NatPmp {
    const SOCKET: Socket = Socket::NatPmp;
    const LIFETIME: std::ops::Range<usize> = 12..16;
    forward!(NatPmp);

    fn read(bytes: &[u8]) -> (Option<Key>, String) {
        if bytes == [0, 0] {
            return (None, "address?".into());
        }
        assert_eq!((bytes[0], bytes.len()), (0, 12), "not a mapping request");
        let transport = if bytes[1] == 2 { Transport::Tcp } else { Transport::Udp };
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        (Some(key(transport, port(4))), told(key(transport, port(4)), &bytes[8..12], port(6)))
    }

    fn reply(request: &[u8], epoch_secs: u32) -> Vec<u8> {
        let mut bytes = vec![0, request[1] | 128, 0, 0];
        bytes.extend(epoch_secs.to_be_bytes());
        if request.len() == 2 {
            bytes.extend(EXTERNAL);
        } else {
            bytes.extend(&request[4..12]);
        }
        bytes
    }
}

fn key(transport: Transport, port: u16) -> Key {
    Key { transport, internal_port: NonZeroU16::new(port).expect("internal port 0") }
}

fn told(key: Key, lifetime: &[u8], external_port: u16) -> String {
    match lifetime {
        [0, 0, 0, 0] => format!("delete {key}{}", if external_port == 0 { "" } else { " with a port" }),
        [0, 0, 0x1c, 0x20] if external_port == key.internal_port.get() => format!("map {key}"),
        [0, 0, 0x1c, 0x20] => format!("map {key} as {external_port}"),
        other => panic!("asks for lifetime {other:?}"),
    }
}

/// A driver whose socket is open, its clock, and what it has said.
pub struct Timetable<D> {
    pub driver: D,
    now: Time,
    random: Box<dyn Random>,
    outputs: VecDeque<Output>,
    transcript: Vec<String>,
    /// The last request of each key, as bytes.
    requests: BTreeMap<Option<Key>, Vec<u8>>,
    /// Everything sent since `take_sent`.
    sent: Vec<Vec<u8>>,
    pub notices: Vec<(Time, Notice)>,
    /// How often a timer of the driver's came.
    pub timeouts: usize,
}

impl<D: Driver> Timetable<D> {
    pub fn new() -> Timetable<D> {
        Timetable::with_random(Box::<Longest>::default())
    }

    pub fn with_random(random: Box<dyn Random>) -> Timetable<D> {
        let mut driver = D::new(Duration::from_secs(10));
        driver.start(SocketAddr::from(([192, 168, 1, 1], 5351)));
        let mut timetable = Timetable {
            driver,
            now: Time::ZERO,
            random,
            outputs: VecDeque::new(),
            transcript: Vec::new(),
            requests: BTreeMap::new(),
            sent: Vec::new(),
            notices: Vec::new(),
            timeouts: 0,
        };
        timetable.open();
        timetable
    }

    /// A driver whose gateway has answered: its epoch is 1000 at 0 ms. The transcript is empty.
    pub fn known() -> Timetable<D> {
        let mut timetable = Timetable::new();
        timetable.call(|driver: &mut D, cx| {
            driver.probe(cx);
            driver.map(cx, udp(1), Suggestion::default());
        });
        timetable.answer(None, 1000);
        timetable.answer(Some(udp(1)), 1000);
        timetable.take();
        assert_eq!(timetable.driver.status(), Status::Up);
        timetable
    }

    pub fn open(&mut self) {
        self.call(|driver, cx| driver.handle_opened(cx, Some(SocketAddr::from((LOCAL, 40000)))));
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// Calls the driver now.
    pub fn call<R>(&mut self, call: impl FnOnce(&mut D, &mut Cx<'_>) -> R) -> R {
        let mut cx = Cx {
            now: self.now,
            random: &mut *self.random,
            outputs: &mut self.outputs,
            pace: &mut Pace::default(),
        };
        let result = call(&mut self.driver, &mut cx);
        self.drain();
        result
    }

    fn drain(&mut self) {
        let millis = self.now.as_millis();
        while let Some(output) = self.outputs.pop_front() {
            let Output::Send { socket, to, bytes } = output else { panic!("not a datagram: {output:?}") };
            assert_eq!((socket, to), (D::SOCKET, SocketAddr::from(([192, 168, 1, 1], 5351))));
            let (key, word) = D::read(&bytes);
            self.transcript.push(format!("{millis} > {word}"));
            self.requests.insert(key, bytes.clone());
            self.sent.push(bytes);
        }
        while let Some(notice) = self.driver.poll_notice() {
            self.transcript.push(format!("{millis} = {}", word(notice)));
            self.notices.push((self.now, notice));
        }
    }

    /// Lets time pass; the driver's timers come when they are due.
    pub fn at(&mut self, millis: u64) -> &mut Timetable<D> {
        self.run_until(Time::from_millis(millis));
        self
    }

    pub fn run_until(&mut self, until: Time) {
        assert!(until >= self.now, "time runs backwards");
        let mut idle = 0;
        while let Some(due) = self.driver.poll_timeout().filter(|&due| due <= until) {
            idle = if due <= self.now { idle + 1 } else { 0 };
            assert!(idle < 1000, "the timer of {due:?} never comes to rest");
            self.now = due.max(self.now);
            self.timeouts += 1;
            self.call(|driver, cx| driver.handle_timeout(cx));
        }
        self.now = until;
    }

    pub fn map(&mut self, key: Key) -> &mut Timetable<D> {
        self.call(|driver, cx| driver.map(cx, key, Suggestion::default()));
        self
    }

    pub fn map_as(&mut self, key: Key, port: u16) -> &mut Timetable<D> {
        let suggestion = Suggestion { address: None, port: NonZeroU16::new(port) };
        self.call(|driver, cx| driver.map(cx, key, suggestion));
        self
    }

    pub fn delete(&mut self, key: Key) -> &mut Timetable<D> {
        self.call(|driver, cx| driver.delete(cx, key));
        self
    }

    pub fn abandon(&mut self, key: Key) -> &mut Timetable<D> {
        self.call(|driver, cx| driver.abandon(cx, key));
        self
    }

    pub fn receive(&mut self, bytes: &[u8]) -> &mut Timetable<D> {
        self.call(|driver, cx| driver.handle_datagram(cx, bytes));
        self
    }

    /// The reply to the last request about `key`, changed by `edit`.
    pub fn answer_with(
        &mut self,
        key: Option<Key>,
        epoch_secs: u32,
        edit: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Timetable<D> {
        if let Some(request) = self.requests.get(&key) {
            let mut reply = D::reply(request, epoch_secs);
            edit(&mut reply);
            self.receive(&reply);
        }
        self
    }

    /// The reply to the last request about `key` (`None`: the gateway itself), if there was one.
    pub fn answer(&mut self, key: Option<Key>, epoch_secs: u32) -> &mut Timetable<D> {
        self.answer_with(key, epoch_secs, |_| ())
    }

    /// An error in place of the reply.
    pub fn refuse(&mut self, key: Option<Key>, epoch_secs: u32, result: u8) -> &mut Timetable<D> {
        self.answer_with(key, epoch_secs, |bytes| bytes[3] = result)
    }

    /// The reply to a map request about `key`, though others may have followed it.
    pub fn grant(&mut self, key: Key, epoch_secs: u32) -> &mut Timetable<D> {
        self.answer_with(Some(key), epoch_secs, |bytes| {
            bytes[D::LIFETIME].copy_from_slice(&7200_u32.to_be_bytes());
            let port = if D::SOCKET == Socket::Pcp { 42 } else { 10 };
            bytes[port..port + 2].copy_from_slice(&key.internal_port.get().to_be_bytes());
        })
    }

    /// The bytes of the last request about `key`.
    pub fn request(&self, key: Key) -> Vec<u8> {
        self.requests.get(&Some(key)).expect("was never asked").clone()
    }

    pub fn take_sent(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    pub fn take(&mut self) -> Vec<String> {
        self.sent.clear();
        std::mem::take(&mut self.transcript)
    }

    /// What was said since the last look.
    #[track_caller]
    pub fn says(&mut self, expected: &[&str]) -> &mut Timetable<D> {
        assert_eq!(self.take(), expected);
        self
    }
}

fn word(notice: Notice) -> String {
    let external = |address: IpAddr, port| match address {
        IpAddr::V4(v4) if v4.octets() == EXTERNAL => format!(":{port}"),
        other => format!("{other}:{port}"),
    };
    match notice {
        Notice::Granted { key, address, port, lifetime } => {
            format!("granted {key} {} {}s", external(address, port), lifetime.map_or(0, |l| l.as_secs()))
        }
        Notice::Refused { key, refusal: Refusal::NextProtocol { retry_after } } => {
            format!("refused {key} for good, {}s", retry_after.as_secs())
        }
        Notice::Refused { key, refusal: Refusal::Failed { retry_after } } => {
            format!("refused {key}, {}s", retry_after.as_secs())
        }
        Notice::TimedOut { key } => format!("timed out {key}"),
        Notice::Deleted { key, answered: true } => format!("deleted {key}"),
        Notice::Deleted { key, answered: false } => format!("deletion given up {key}"),
        Notice::Restarted { shown_by: Some(key) } => format!("restarted, shown by {key}"),
        Notice::Restarted { shown_by: None } => "restarted".into(),
        other => format!("{other:?}"),
    }
}
