//! Answers to the command's search in the name of hosts that are not on the link.

use super::harness::{Running, plum};
use plum_testkit::namespace::{add_cable, ip, is_inside};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// The port of the search, as anybody can read it; `None`: there is none (any more).
fn search_port() -> Option<u16> {
    let own = format!("{:08X}:", u32::from_ne_bytes(OWN.octets()));
    let table = std::fs::read_to_string("/proc/net/udp").expect("procfs");
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let port = words.next()?.strip_prefix(&own)?;
        let is_open_to_all = words.next()?.starts_with("00000000:");
        is_open_to_all.then(|| u16::from_str_radix(port, 16).expect("hexadecimal"))
    })
}

/// Answers the search of a command in these names: for whose descriptions the command then came. `None`: the command has ended before
/// its search was seen.
fn believed(words: &str, names: &[Ipv4Addr]) -> Option<Vec<bool>> {
    let listen = |&name: &Ipv4Addr| {
        let server = TcpListener::bind((name, 0)).expect("a port");
        server.set_nonblocking(true).expect("an open socket");
        server
    };
    let servers: Vec<TcpListener> = names.iter().map(listen).collect();
    let mut running = Running::start(plum(words));
    let port = loop {
        // A socket of PCP or NAT-PMP is open to all for the moment before it is connected.
        let port = search_port();
        thread::sleep(Duration::from_millis(5));
        if let Some(port) = port.filter(|_| port == search_port()) {
            break port;
        }
        if running.has_ended() {
            return None;
        }
    };
    let forge = |server: &TcpListener| {
        let at = server.local_addr().expect("it is bound");
        let kind = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
        let answer = format!(
            "HTTP/1.1 200 OK\r\nST: {kind}\r\nUSN: uuid:x::{kind}\r\nLOCATION: http://{at}/latest/meta-data/\r\n\r\n"
        );
        (UdpSocket::bind((at.ip(), 0)).expect("a port"), answer)
    };
    let forgers: Vec<(UdpSocket, String)> = servers.iter().map(forge).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for (forger, answer) in &forgers {
                    let to = SocketAddr::from((OWN, port));
                    forger.send_to(answer.as_bytes(), to).expect("it is sent");
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        running.end();
        is_over.store(true, Ordering::Relaxed);
    });
    Some(servers.iter().map(|server| server.accept().is_ok()).collect())
}

#[test]
fn a_forged_answer_makes_no_command_ask_elsewhere() {
    if !is_inside("forged::a_forged_answer_makes_no_command_ask_elsewhere") {
        return;
    }
    ip("link set lo up");
    add_cable("lan1", "10.1.0.2/24");
    // Nobody has that address.
    ip("route add default via 10.1.0.1");
    let names = [[169, 254, 169, 254], [10, 9, 9, 9], [172, 17, 0, 1], OWN.octets()].map(Ipv4Addr::from);
    for name in &names[..3] {
        ip(&format!("addr add {name}/32 dev lan1x"));
    }
    for words in ["probe", "list", "unmap 8080"] {
        // On a busy machine the command ends before the test has answered, unless it has longer.
        let is_answered = ["1s", "4s", "16s"].iter().any(|timeout| {
            let believed = believed(&format!("{words} --timeout {timeout}"), &names);
            let Some([others @ .., own]) = believed.as_deref() else { return false };
            assert_eq!(others, [false; 3], "{words}");
            *own
        });
        assert!(is_answered, "{words}: a device on this machine counts");
    }
}
