//! What optional features add.
#![cfg(any(feature = "log", feature = "serde"))]

use plum::{Builder, Request};
use plum_gateway::server::Server;
use std::time::Duration;

/// Whatever has not happened after this long never will.
const LONG: Duration = Duration::from_secs(20);

#[cfg(feature = "log")]
#[test]
fn messages_go_to_the_logger_of_the_log_crate() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    struct Logger;
    impl log::Log for Logger {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.target() == "plum" && record.level() == log::Level::Info {
                SEEN.fetch_add(usize::from(record.args().to_string().contains("made at")), Ordering::SeqCst);
            }
        }
        fn flush(&self) {}
    }
    static LOGGER: Logger = Logger;
    log::set_logger(&LOGGER).expect("the only logger");
    let server = Server::start_on_own_address(|_| {}).expect("a gateway on loopback");
    let map = || {
        let session = Builder::new().gateway(server.address()).log_crate().start().expect("a session");
        let mapping = session.map(Request::tcp(80)).expect("a mapping can be asked for");
        mapping.wait(LONG).expect("it is made");
        session.close().expect("its outcome");
        SEEN.load(Ordering::SeqCst)
    };
    assert_eq!(map(), 0, "the maximum level is Off");
    log::set_max_level(log::LevelFilter::Info);
    assert!(map() > 0, "those of other sessions, too");
}

#[cfg(feature = "serde")]
#[test]
fn values_are_written_and_read() {
    use plum::{Gateway, Protocol, State};
    fn copy<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> (String, T) {
        let text = serde_json::to_string(value).expect("it can be written");
        let copy = serde_json::from_str(&text).expect("it can be read");
        (text, copy)
    }
    assert_eq!(copy(&Protocol::NatPmp), ("\"NAT-PMP\"".to_owned(), Protocol::NatPmp));
    let gateway: Gateway = "[fe80::1%eth0]:5351".parse().expect("a gateway");
    assert_eq!(copy(&gateway).1, gateway);
    let request = Request::udp(6881).external_port(16881).lifetime(LONG);
    let described = request.description("seeds").expect("a description");
    for request in [request, described] {
        assert_eq!(copy(&request).1, request);
    }
    let text = copy(&described).0;
    assert!(text.contains("\"seeds\""), "{text}");
    assert!(serde_json::from_str::<Request>(&text.replace("seeds", "\\n")).is_err());
    let server = Server::start_on_own_address(|_| {}).expect("a gateway on loopback");
    let session = Builder::new().gateway(server.address()).start().expect("a session");
    let mut events = session.events();
    let mapping = session.map(request).expect("a mapping can be asked for");
    mapping.wait(LONG).expect("it is made");
    assert_eq!(copy(&mapping.state()).1, mapping.state());
    assert!(matches!(mapping.state(), State::Mapped(_)));
    let event = events.next_within(LONG).expect("it is made");
    assert_eq!(copy(&event).1, event);
    let closed = session.close().expect("its outcome");
    assert_eq!(copy(&closed).1, closed);
}
