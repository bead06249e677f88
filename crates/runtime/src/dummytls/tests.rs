//! Names with a resolver and a clock of the tests', files from a server on loopback.

use super::*;
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The limit on resolving threads is the process's: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const LONG: Duration = Duration::from_secs(20);

/// A system whose resolver answers when the test does.
#[derive(Default)]
pub(crate) struct Fake {
    answers: Mutex<BTreeMap<String, Receiver<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
    now_micros: AtomicU64,
    /// By how much the clock goes on each time it is read.
    step_micros: AtomicU64,
    port: Mutex<u16>,
}

impl Fake {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    /// What `host` resolves to comes from the test.
    pub(crate) fn answer_later(&self, host: &str) -> Sender<Vec<IpAddr>> {
        let (sender, receiver) = unbounded();
        self.answers.lock().insert(host.to_owned(), receiver);
        sender
    }

    fn answer(&self, host: &str, addresses: &[&str]) {
        let sender = self.answer_later(host);
        for _ in 0..3 {
            sender.send(addresses.iter().map(|text| address(text)).collect()).expect("there is room");
        }
    }

    fn set_now(&self, now: Time) {
        self.now_micros.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl System for Fake {
    fn resolve(&self, host: &str) -> Vec<IpAddr> {
        self.asked.lock().push(host.to_owned());
        let answers = self.answers.lock().get(host).cloned();
        answers.and_then(|answers| answers.recv_timeout(LONG).ok()).unwrap_or_default()
    }

    fn now(&self) -> Time {
        Time::from_micros(
            self.now_micros.fetch_add(self.step_micros.load(Ordering::SeqCst), Ordering::SeqCst),
        )
    }

    fn port(&self) -> u16 {
        *self.port.lock()
    }
}

pub(crate) struct Service {
    pub(crate) system: Arc<Fake>,
    pub(crate) dummytls: Arc<DummyTls>,
    notices: Receiver<()>,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Whoever still waits for an answer gets none; then the next test finds no thread of this one.
        self.system.answers.lock().clear();
        while names::threads().load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
    }
}

pub(crate) fn service_of(domain: &str) -> Service {
    let alone = ONE_AT_A_TIME.lock();
    let (notify, notices) = unbounded();
    let system = Arc::new(Fake::default());
    let notify = move || notify.send(()).expect("there is room");
    let dummytls = Arc::new(DummyTls::new(domain.to_owned(), system.clone(), notify));
    Service { system, dummytls, notices, _alone: alone }
}

impl Service {
    fn wait_for_notice(&self) {
        self.notices.recv_timeout(LONG).expect("a notice that a name was resolved");
    }

    /// Names of four other addresses are asked for, which takes all threads until [`Service::free_threads`].
    pub(crate) fn take_threads(&self) -> [Sender<Vec<IpAddr>>; 4] {
        [1, 2, 3, 4].map(|n| {
            let answer = self.system.answer_later(&format!("1-2-3-{n}.tls.example"));
            self.dummytls.host_status(Time::ZERO, address(&format!("1.2.3.{n}")));
            answer
        })
    }

    pub(crate) fn free_threads(&self, hanging: [Sender<Vec<IpAddr>>; 4]) {
        drop(hanging);
        for _ in 0..4 {
            self.wait_for_notice();
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn host(text: &str) -> HostStatus {
    HostStatus::Host(text.into())
}

#[test]
fn a_name_that_resolves_to_the_address_is_reported() {
    for (text, name) in [
        ("1.2.3.4", "1-2-3-4.tls.example"),
        ("::ffff:1.2.3.4", "1-2-3-4.tls.example"),
        ("2001:db8::", "2001-db8--0.tls.example"),
    ] {
        let service = service_of("tls.example");
        service.system.answer(name, &["192.0.2.9", text]);
        let now = Time::from_secs(100);
        assert_eq!(
            service.dummytls.host_status(now, address(text)),
            HostStatus::Wait(now + Duration::from_secs(1))
        );
        service.wait_for_notice();
        assert_eq!(service.dummytls.host_status(now, address(text)), host(name));
        assert_eq!(service.system.asked(), [name], "it is asked once");
    }
}

#[test]
fn a_name_that_resolves_to_others_or_to_nothing_is_not_reported() {
    for found in [&[][..], &["1.2.3.5", "::1"]] {
        let service = service_of("tls.example");
        service.system.answer("1-2-3-4.tls.example", found);
        service.dummytls.host_status(Time::ZERO, address("1.2.3.4"));
        service.wait_for_notice();
        assert_eq!(service.dummytls.host_status(Time::ZERO, address("1.2.3.4")), host("1.2.3.4"));
    }
}

#[test]
fn a_name_that_takes_longer_than_a_second_is_not_reported_until_it_is_known() {
    let service = service_of("tls.example");
    let answer = service.system.answer_later("1-2-3-4.tls.example");
    let host_status = |millis| service.dummytls.host_status(Time::from_millis(millis), address("1.2.3.4"));
    assert_eq!(host_status(0), HostStatus::Wait(Time::from_secs(1)));
    assert_eq!(host_status(999), HostStatus::Wait(Time::from_secs(1)));
    assert_eq!(host_status(1000), host("1.2.3.4"));
    answer.send(vec![address("1.2.3.4")]).expect("it waits");
    service.wait_for_notice();
    assert_eq!(host_status(1001), host("1-2-3-4.tls.example"));
    assert_eq!(service.system.asked().len(), 1);
}

#[test]
fn an_answer_holds_for_a_minute() {
    let service = service_of("tls.example");
    service.system.answer("1-2-3-4.tls.example", &["1.2.3.4"]);
    let host_status = |millis| service.dummytls.host_status(Time::from_millis(millis), address("1.2.3.4"));
    host_status(0);
    service.wait_for_notice();
    assert_eq!(host_status(59_999), host("1-2-3-4.tls.example"));
    assert_eq!(host_status(60_000), HostStatus::Wait(Time::from_secs(61)));
    service.wait_for_notice();
    assert_eq!(service.system.asked().len(), 2);
}

#[test]
fn addresses_are_resolved_beside_each_other_but_not_too_many() {
    let service = service_of("tls.example");
    let addresses = ["1.2.3.1", "1.2.3.2", "1.2.3.3", "1.2.3.4", "1.2.3.5"].map(address);
    let answers: Vec<_> =
        (1..=5).map(|n| service.system.answer_later(&format!("1-2-3-{n}.tls.example"))).collect();
    for address in &addresses[..4] {
        assert_eq!(service.dummytls.host_status(Time::ZERO, *address), HostStatus::Wait(Time::from_secs(1)));
    }
    // The fifth waits for one of them: there may be four such threads in a process.
    let fifth = || service.dummytls.host_status(Time::from_millis(10), addresses[4]);
    assert_eq!(fifth(), HostStatus::Wait(Time::from_millis(1010)));
    assert!(!service.system.asked().contains(&"1-2-3-5.tls.example".to_owned()));
    for (answer, address) in answers.iter().zip(addresses) {
        answer.send(vec![address]).expect("it waits");
    }
    for _ in 0..4 {
        service.wait_for_notice();
    }
    assert_eq!(service.dummytls.host_status(Time::ZERO, addresses[3]), host("1-2-3-4.tls.example"));
    assert_eq!(
        fifth(),
        HostStatus::Wait(Time::from_millis(1010)),
        "it is asked, its second has begun before"
    );
    service.wait_for_notice();
    assert_eq!(fifth(), host("1-2-3-5.tls.example"));
}

#[test]
fn a_name_that_no_thread_was_free_for_is_not_taken_for_one_that_does_not_resolve() {
    let service = service_of("tls.example");
    let hanging = service.take_threads();
    service.system.answer("1-2-3-9.tls.example", &["1.2.3.9"]);
    let host_status = |millis| service.dummytls.host_status(Time::from_millis(millis), address("1.2.3.9"));
    assert_eq!(host_status(0), HostStatus::Wait(Time::from_secs(1)));
    // Nobody waits longer than a second for it, and it holds nobody up again.
    assert_eq!(host_status(1000), host("1.2.3.9"));
    assert_eq!(host_status(2000), host("1.2.3.9"));
    service.free_threads(hanging);
    // It is not forgotten for a minute: the next who wants it gets it.
    assert_eq!(host_status(3000), HostStatus::Wait(Time::from_secs(4)));
    service.wait_for_notice();
    assert_eq!(host_status(3001), host("1-2-3-9.tls.example"));
}

#[test]
fn a_file_waits_for_a_free_thread() {
    let service = service_of("tls.example");
    let requests = serve(&service.system, vec![ok(certificate("text").as_bytes())]);
    let hanging: Vec<_> = (1..=4)
        .map(|n| {
            let answer = service.system.answer_later(&format!("1-2-3-{n}.tls.example"));
            service.dummytls.host_status(Time::ZERO, address(&format!("1.2.3.{n}")));
            answer
        })
        .collect();
    std::thread::scope(|scope| {
        let file = scope.spawn(|| service.dummytls.file(File::Certificate));
        assert!(!file.is_finished() && requests.is_empty());
        hanging[0].send(Vec::new()).expect("it waits");
        assert_eq!(file.join().expect("no panic").map(|text| text.to_string()), Some(certificate("text")));
    });
    drop(hanging);
}

#[test]
fn a_name_that_is_too_long_is_not_asked_for() {
    let service = service_of(&"a".repeat(NAME_LIMIT));
    assert_eq!(service.dummytls.host_status(Time::ZERO, address("1.2.3.4")), host("1.2.3.4"));
    assert_eq!(service.system.asked(), [""; 0]);
}

#[test]
fn the_call_for_a_host_waits_for_the_name() {
    let service = service_of("tls.example");
    service.system.answer("1-2-3-4.tls.example", &["1.2.3.4"]);
    assert_eq!(&*service.dummytls.host(address("1.2.3.4")), "1-2-3-4.tls.example");
}

#[test]
fn the_call_for_a_host_gives_up_in_time() {
    let service = service_of("tls.example");
    let answer = service.system.answer_later("1-2-3-4.tls.example");
    // Two looks at this clock are over a second apart, so the test has a second to wait at most.
    service.system.step_micros.store(600_000, Ordering::SeqCst);
    assert_eq!(&*service.dummytls.host(address("1.2.3.4")), "1.2.3.4");
    drop(answer);
}

#[test]
fn a_thread_that_resolves_outlives_the_service() {
    let mut service = service_of("tls.example");
    let answer = service.system.answer_later("1-2-3-4.tls.example");
    service.dummytls.host_status(Time::ZERO, address("1.2.3.4"));
    let notify = |()| panic!("of another service");
    let dummytls = DummyTls::new("tls.example".into(), service.system.clone(), move || notify(()));
    service.dummytls = Arc::new(dummytls);
    answer.send(vec![address("1.2.3.4")]).expect("it waits");
    service.wait_for_notice();
}

#[test]
fn takes_for_a_domain_what_fits_into_a_request() {
    for domain in ["tls.example", "a", "A-b_c.9", &"a".repeat(253)] {
        assert!(valid_domain(domain), "{domain}");
    }
    for domain in ["", "a b", "a/b", "a:80", "a\r\nX: y", "a\0", "\u{e9}", &"a".repeat(254)] {
        assert!(!valid_domain(domain), "{domain:?}");
    }
}

/// A server of the service on loopback that gives these replies, one a connection; what it was asked.
fn serve(system: &Fake, replies: Vec<Vec<u8>>) -> Receiver<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    *system.port.lock() = listener.local_addr().expect("bound").port();
    system.answer("tls.example", &["127.0.0.1"]);
    let (sender, requests) = unbounded();
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().expect("a connection");
            let lines =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let _ = sender.send(lines.collect());
            // The client may have seen enough.
            let _ = stream.write_all(&reply);
        }
    });
    requests
}

/// A file with a certificate, or what is called one, in it.
fn pem(label: &str, content: &str) -> String {
    format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
}

fn certificate(content: &str) -> String {
    pem("CERTIFICATE", content)
}

fn ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[test]
fn files_are_fetched_and_kept_for_a_day() {
    let service = service_of("tls.example");
    let replies = ["first", "chain", "second"].map(|content| ok(certificate(content).as_bytes()));
    let requests = serve(&service.system, replies.to_vec());
    let get = |file| service.dummytls.file(file).map(|text| text.to_string());
    let next = || requests.recv_timeout(LONG).expect("a request");
    service.system.set_now(Time::from_secs(1));
    assert_eq!(get(File::Certificate).as_deref(), Some(certificate("first").as_str()));
    let request = next();
    assert_eq!(request[0], "GET /cert.pem HTTP/1.1");
    assert!(request.contains(&"Host: tls.example".to_owned()), "{request:?}");
    assert_eq!(get(File::Chain).as_deref(), Some(certificate("chain").as_str()));
    assert_eq!(next()[0], "GET /chain.pem HTTP/1.1");

    const DAY_SECS: u64 = 86_400;
    service.system.set_now(Time::from_secs(DAY_SECS));
    assert_eq!(get(File::Certificate).as_deref(), Some(certificate("first").as_str()));
    assert!(requests.is_empty());
    service.system.set_now(Time::from_secs(1 + DAY_SECS));
    assert_eq!(get(File::Certificate).as_deref(), Some(certificate("second").as_str()));
    assert_eq!(next()[0], "GET /cert.pem HTTP/1.1");
}

#[test]
fn every_file_has_its_name() {
    let service = service_of("tls.example");
    // RFC 7468 §10, §13, and how OpenSSL writes keys of elliptic curves.
    let key = [pem("EC PARAMETERS", "p"), pem("EC PRIVATE KEY", "k")].concat();
    let chain = ["subject=a\r\n", &certificate("a"), &certificate("b").replace('\n', "\r\n")].concat();
    let requests = serve(&service.system, vec![ok(chain.as_bytes()), ok(key.as_bytes())]);
    for (file, line) in
        [(File::FullChain, "GET /fullchain.pem HTTP/1.1"), (File::PrivateKey, "GET /privkey.pem HTTP/1.1")]
    {
        assert!(service.dummytls.file(file).is_some());
        assert_eq!(requests.recv_timeout(LONG).expect("a request")[0], line);
    }
}

#[test]
fn what_is_no_file_is_not_kept() {
    let service = service_of("tls.example");
    let good = certificate("text");
    let bad = vec![
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".to_vec(),
        ok(b"with a \0 in it"),
        ok(b"\xff\xfe"),
        b"nonsense".to_vec(),
        Vec::new(),
        // Complete, but another file, or nothing.
        ok(b""),
        ok(b"<html><body>Please sign in</body></html>"),
        ok(pem("PRIVATE KEY", "k").as_bytes()),
        // Cut off, by the sender's own account or by what is missing.
        [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", good.as_bytes()].concat(),
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", good.as_bytes()].concat(),
        [format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", good.len()), good.clone()]
            .concat()
            .into_bytes(),
        b"HTTP/1.0 200 OK\r\n\r\n-----BEGIN CERTIFICATE-----\ntext\n".to_vec(),
        [b"HTTP/1.0 200 OK\r\n\r\n", &good.as_bytes()[..good.len() - 3]].concat(),
        ok([&good, "-----BEGIN CERTIFICATE-----\n"].concat().as_bytes()),
        ok([&good[..28], &good].concat().as_bytes()),
        ok(b"-----END CERTIFICATE-----\n"),
    ];
    for reply in bad {
        // A server each, since the resolver's answers are counted.
        let requests = serve(&service.system, vec![reply.clone()]);
        assert_eq!(service.dummytls.file(File::Certificate), None, "{}", String::from_utf8_lossy(&reply));
        requests.recv_timeout(LONG).expect("a request");
    }
    // Its end is that of the connection.
    serve(&service.system, vec![[b"HTTP/1.0 200 OK\r\n\r\n", good.as_bytes()].concat()]);
    assert_eq!(service.dummytls.file(File::Certificate).map(|text| text.to_string()), Some(good));
}

/// A server on 127.0.0.1 that, when it is asked, sets the clock and sends a byte; then `late`, unless the client hangs up.
fn stall(system: &Arc<Fake>, now: Time, late: Vec<u8>) -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    *system.port.lock() = port;
    let system = Arc::clone(system);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        system.set_now(now);
        stream.write_all(&late[..1]).expect("the client reads");
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        if lines.next().is_some_and(|line| line.is_err()) {
            let _ = stream.write_all(&late[1..]);
        }
    });
    (port, server)
}

#[test]
fn addresses_share_the_time() {
    let service = service_of("tls.example");
    let (late, good) = (certificate("late"), certificate("good"));
    let (port, server) = stall(&service.system, Time::from_secs(5), ok(late.as_bytes()));
    let second = TcpListener::bind(("127.0.0.2", port)).expect("loopback");
    let second = std::thread::spawn(move || {
        let (mut stream, _) = second.accept().expect("a connection");
        let _ = stream.write_all(&ok(good.as_bytes()));
        // All of the request, so that the end of the connection is no reset.
        BufReader::new(stream).lines().map_while(Result::ok).count()
    });
    service.system.answer("tls.example", &["127.0.0.1", "127.0.0.2"]);
    let file = service.dummytls.file(File::Certificate);
    assert_eq!(
        file.map(|text| text.to_string()),
        Some(certificate("good")),
        "the first has half of the ten seconds"
    );
    server.join().expect("no panic");
    second.join().expect("no panic");
}

#[test]
fn an_address_that_gives_no_file_is_not_the_last() {
    let service = service_of("tls.example");
    let requests = serve(&service.system, vec![ok(b"Please sign in"), ok(certificate("good").as_bytes())]);
    service.system.answer("tls.example", &["127.0.0.1", "127.0.0.1"]);
    assert_eq!(
        service.dummytls.file(File::Certificate).map(|text| text.to_string()),
        Some(certificate("good"))
    );
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_timeout_is_called_one() {
    for now in [9_999, 10_000] {
        let service = service_of("tls.example");
        let (_, server) = stall(&service.system, Time::from_millis(now), b"HTTP".to_vec());
        service.system.answer("tls.example", &["127.0.0.1"]);
        let DummyTls { files, names, .. } = &*service.dummytls;
        let fetched = files.fetch(names, &*service.system, Time::from_secs(10), File::Certificate);
        let why = fetched.expect_err("nothing comes");
        assert!(why.ends_with(": timed out"), "{why}");
        server.join().expect("no panic");
    }
}

#[test]
fn a_file_without_end_is_given_up() {
    let service = service_of("tls.example");
    serve(&service.system, vec![[b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 300 * 1024]].concat()]);
    assert_eq!(service.dummytls.file(File::Certificate), None);
}

#[test]
fn a_service_that_is_not_there_has_no_files() {
    let service = service_of("tls.example");
    assert_eq!(service.dummytls.file(File::Certificate), None, "the name does not resolve");
    let unused = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port();
    *service.system.port.lock() = unused;
    service.system.answer("tls.example", &["127.0.0.1"]);
    assert_eq!(service.dummytls.file(File::Certificate), None, "the connection is refused");
}

#[test]
fn a_server_that_says_nothing_is_given_up_after_ten_seconds() {
    let service = service_of("tls.example");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    *service.system.port.lock() = listener.local_addr().expect("bound").port();
    service.system.answer("tls.example", &["127.0.0.1"]);
    // By this clock the ten seconds are over before the first read would begin.
    service.system.step_micros.store(3_300_000, Ordering::SeqCst);
    assert_eq!(service.dummytls.file(File::Certificate), None);
}
