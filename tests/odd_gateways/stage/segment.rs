//! Several machines behind a cable, in a network namespace of their own. This process is in another, where it finds the first of
//! them as the next hop.

use super::sockets::Gateways;
use super::{Lan, Machine, Program, Start};
use crate::router::Router;
use plum_gateway::core::{Config, Gateway};
use plum_gateway::server::{self, Server};
use plum_testkit::namespace::ip;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The third and last octets of the machines' addresses count up from here: 10.1.0.1.
const NET: u8 = 1;

fn address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, NET, 0, u8::try_from(n + 1).expect("few machines"))
}

/// The machines of a network. None is named 10.1.0.2: that is this process.
pub struct Segment {
    router: Router,
    others: Vec<Server>,
    /// The gateways of other networks, and an empty place for that of the present one.
    homes: Vec<Option<Gateway>>,
    /// The place of the present one.
    home: usize,
}

impl Segment {
    fn start_all(machines: Vec<Machine>) -> Segment {
        ip("link set lo up");
        let router = Router::start(NET);
        ip(&format!("route add default via {}", address(0)));
        // The machines reach us whichever of their addresses are there.
        router.ip("route add 10.1.0.2/32 dev wan");
        let start_other = |n: usize| {
            router.ip(&format!("addr add {}/32 dev wan", other(n)));
            let config = server::Config {
                gateway: Config { http_port: 0, ..Config::at(IpAddr::V4(other(n))) },
                forward_on: None,
                multicast: true,
            };
            router.run(move || Server::start(config).expect("a machine on the network"))
        };
        let others = (1..machines.len()).map(start_other).collect();
        let mut segment = Segment { others, router, homes: Vec::new(), home: 0 };
        for (n, odd) in machines.into_iter().enumerate() {
            segment.look(n, odd);
        }
        segment
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // The cable would go with the namespace, some time later.
        if !std::thread::panicking() {
            ip(&format!("link del lan{NET}"));
        }
    }
}

/// Gives the gateway of a network the hardware address that tells it from the others.
fn name(router: &Router, home: usize) {
    router.ip(&format!("link set wan address 02:00:00:00:00:{:02x}", home + 1));
    // What was learned of the one before is of the past.
    ip(&format!("neigh flush dev lan{NET}"));
}

/// The address of another machine than the first.
fn other(n: usize) -> Ipv4Addr {
    address(n + 9)
}

impl Gateways for Segment {
    fn start(odd: impl FnOnce(&mut Gateway)) -> Segment {
        let mut segment = Segment::start_all(vec![Box::new(|_| {})]);
        segment.look(0, odd);
        segment
    }

    fn look<T>(&mut self, n: usize, act: impl FnOnce(&mut Gateway) -> T) -> T {
        if let Some(Some(gateway)) = self.homes.get_mut(n) {
            return act(gateway);
        }
        match n.checked_sub(1).filter(|_| self.homes.is_empty()) {
            None => self.router.with_gateway(act),
            Some(other) => self.others[other].with_core(act),
        }
    }
}

impl Lan for Program<Segment> {
    fn begin_lan(start: Start, machines: Vec<Machine>) -> Program<Segment> {
        Program::begin_among(Segment::start_all(machines), start)
    }

    fn begin_at_home(start: Start, homes: Vec<Machine>) -> Program<Segment> {
        let mut homes = homes.into_iter();
        let first = homes.next().expect("a home");
        let mut segment = Segment::start_all(vec![first]);
        let config = segment.look(0, |gateway| gateway.config().clone());
        segment.homes.push(None);
        name(&segment.router, 0);
        for odd in homes {
            let mut gateway = Gateway::new(config.clone(), Duration::ZERO);
            odd(&mut gateway);
            segment.homes.push(Some(gateway));
        }
        Program::begin_among(segment, start)
    }

    fn go_to(&mut self, home: usize) {
        ip(&format!("link set lan{NET} down"));
        let Segment { router, homes, home: present, .. } = &mut self.gateways;
        let gateway = homes[home].take().expect("the gateway of another home");
        homes[*present] = Some(router.with_gateway(|core| std::mem::replace(core, gateway)));
        *present = home;
        name(router, home);
        ip(&format!("link set lan{NET} up"));
        ip(&format!("route add default via {}", address(0)));
    }

    fn machine<T>(&mut self, n: usize, act: impl FnOnce(&mut Gateway) -> T) -> T {
        self.gateways.look(n, act)
    }

    fn set_power(&mut self, n: usize, is_on: bool) {
        // Without its address it hears nothing and says nothing.
        let verb = if is_on { "add" } else { "del" };
        let (address, length) = if n == 0 { (address(0), 24) } else { (other(n), 32) };
        self.gateways.router.ip(&format!("addr {verb} {address}/{length} dev wan"));
    }

    fn spend(&mut self, span: Duration) {
        // How long a machine is away is the story, not a time to wait for anything.
        std::thread::sleep(span);
    }
}
