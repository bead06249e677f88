//! Gateways at the far ends of cables.

use super::far_side::FarSide;
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::ip;

/// A gateway in a network namespace of its own, which has these addresses (and prefix lengths) there. The cable leads to it from our
/// interface `name`.
pub fn gateway_behind(name: &str, addresses: &[&str], config: Config) -> Server {
    let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
    FarSide::start(name, "far").run(move || {
        ip("link set lo up");
        for address in addresses {
            // IPv6: at once, without a search for duplicates.
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("addr add {address} dev far{nodad}"));
        }
        ip("link set far up");
        // Its sockets keep the namespace.
        Server::start(config).expect("a gateway")
    })
}
