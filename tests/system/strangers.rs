//! Answers to a search from hosts that are not on our link, or come in by another interface.

use crate::harness::{LONG, Program, Router, settings};
use plum_engine::io::Allowed;
use plum_runtime::client::Settings;
use plum_runtime::log::Level;
use plum_testkit::namespace::{add_cable, ip, is_inside};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// Where somebody is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// On this machine.
    Here,
    /// At the far end of the cable that the default route leads to.
    Beyond,
    /// At the far end of another one: a container, a peer of a VPN.
    Elsewhere,
}

/// Two routers that speak nothing; the default route leads to the first.
struct Networks {
    router: Router,
    other: Router,
}

impl Networks {
    fn start() -> Networks {
        ip("link set lo up");
        let silent = |net| {
            let router = Router::start_with(net, |config| config.multicast = false);
            router.with_gateway(|gateway| {
                let closed = &mut gateway.faults.closed;
                (closed.pcp, closed.natpmp, closed.ssdp) = (true, true, true);
            });
            router
        };
        let networks = Networks { router: silent(1), other: silent(2) };
        ip("route add default via 10.1.0.1");
        for (place, device) in [("all", "all"), ("lan1", "lan1"), ("lan2", "lan2")] {
            // Where the kernel drops what comes from elsewhere than its answer would go to, there is nothing to forge.
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"), "0").expect(place);
        }
        networks.router.ip("route add 10.1.0.2/32 dev wan src 10.1.0.1");
        networks.other.ip("route add default via 10.2.0.2");
        networks
    }

    /// Does something in a place.
    fn at<T: Send + 'static>(&self, place: Place, act: impl FnOnce() -> T + Send + 'static) -> T {
        match place {
            Place::Here => act(),
            Place::Beyond => self.router.run(act),
            Place::Elsewhere => self.other.run(act),
        }
    }
}

/// The port of the search, which any local user can read, too.
fn search_port() -> u16 {
    let until = Instant::now() + LONG;
    let own = format!("{:08X}:", u32::from_ne_bytes(OWN.octets()));
    while Instant::now() < until {
        let table = std::fs::read_to_string("/proc/net/udp").expect("procfs");
        let port = table.lines().skip(1).find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let port = words.next()?.strip_prefix(&own)?;
            let is_open_to_all = words.next()?.starts_with("00000000:");
            is_open_to_all.then(|| u16::from_str_radix(port, 16).expect("hexadecimal"))
        });
        if let Some(port) = port {
            return port;
        }
        std::thread::yield_now();
    }
    panic!("no search");
}

/// Answers the search of a program in somebody's name: whether the program then came for the description.
fn is_believed(networks: &Networks, place: Place, name: Ipv4Addr, described: Place) -> bool {
    let server = networks.at(described, move || TcpListener::bind((name, 0)).expect("a port"));
    server.set_nonblocking(true).expect("an open socket");
    let kind = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
    let location = server.local_addr().expect("it is bound");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nST: {kind}\r\nUSN: uuid:x::{kind}\r\nLOCATION: http://{location}/\r\n\r\n"
    );
    let program = Program::start(Settings {
        allowed: Allowed::Upnp,
        discover_timeout_millis: 500,
        log_level: Some(Level::Verbose),
        ..settings()
    });
    let id = program.create(4000);
    let at = SocketAddr::from((OWN, search_port()));
    let forger = networks.at(place, move || UdpSocket::bind((name, 0)).expect("a port"));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                forger.send_to(answer.as_bytes(), at).expect("it is sent");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        program.expect_failure(id);
        is_over.store(true, Ordering::Relaxed);
    });
    let has_come = server.accept().is_ok();
    if !has_come {
        // It was heard.
        program.expect_log(Level::Verbose, &["is not of this network", &name.to_string()]);
    }
    program.cleanup();
    has_come
}

#[test]
fn answers_count_from_the_link_of_our_interface_alone() {
    use Place::{Beyond, Elsewhere, Here};
    if !is_inside("strangers::answers_count_from_the_link_of_our_interface_alone") {
        return;
    }
    let networks = Networks::start();
    add_cable("docker0", "172.17.0.1/16");
    for address in ["10.1.0.77/24", "10.1.0.78/24", "10.9.9.9/32", "100.64.1.1/32", "169.254.169.254/32"] {
        networks.router.ip(&format!("addr add {address} dev wan"));
    }
    networks.other.ip("addr add 10.1.0.78/32 dev wan");
    for (place, name, described, expected) in [
        (Beyond, [10, 1, 0, 77], Beyond, true),
        (Beyond, [10, 9, 9, 9], Beyond, false),
        (Beyond, [100, 64, 1, 1], Beyond, false),
        (Beyond, [169, 254, 169, 254], Beyond, false),
        // A program of another user.
        (Here, [172, 17, 0, 1], Here, false),
        (Here, [10, 1, 0, 2], Here, true),
        (Elsewhere, [10, 2, 0, 1], Elsewhere, false),
        // In the name of a host on our link.
        (Elsewhere, [10, 1, 0, 78], Beyond, false),
    ] {
        let name = Ipv4Addr::from(name);
        assert_eq!(is_believed(&networks, place, name, described), expected, "{place:?} as {name}");
    }
}
