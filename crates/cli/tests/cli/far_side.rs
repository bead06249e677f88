//! Gateways at the far ends of cables.

use super::harness::LONG;
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::ip;
use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};
use std::sync::mpsc::channel;
use std::thread;

/// A gateway in a network namespace of its own, which has these addresses (and prefix lengths) there. The cable leads to it from our
/// interface `name`.
pub fn gateway_behind(name: &str, addresses: &[&str], config: Config) -> Server {
    let (tell, told) = channel();
    let (go, wait) = channel();
    let (give, given) = channel();
    let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
    thread::spawn(move || {
        // SAFETY: it shares no descriptors anew; with NEWNET it concerns this thread and its children alone.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("the test may make namespaces");
        tell.send(gettid()).expect("the test waits");
        wait.recv().expect("the cable is there");
        ip("link set lo up");
        for address in addresses {
            // IPv6: at once, without a search for duplicates.
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("addr add {address} dev far{nodad}"));
        }
        ip("link set far up");
        give.send(Server::start(config).expect("a gateway")).expect("the test waits");
        // The namespace lives as long as the sockets in it.
    });
    let thread_id = told.recv_timeout(LONG).expect("a thread in a namespace of its own");
    ip(&format!("link add {name} type veth peer name far netns {}", thread_id.as_raw_nonzero()));
    ip(&format!("link set {name} up"));
    go.send(()).expect("the thread waits");
    given.recv_timeout(LONG).expect("the gateway runs")
}
