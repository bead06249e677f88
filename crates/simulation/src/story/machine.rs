//! What happens to the machine of a story: its routes and addresses change, it sleeps, it is carried to another home.

use super::Story;
use crate::gateways::{percent, pick};
use crate::ipv6_homes::Families;
use crate::world::{GATEWAY, INTERFACE, LOCAL};
use plum_engine::io::{Route, Socket};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The number that the link may get.
const OTHER_INTERFACE: u32 = 4;
const SECOND_LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 101));

impl Story {
    pub(super) fn route(&mut self, route: Option<Route>) {
        let route = route.filter(|_| self.ipv6.families != Families::Ipv6);
        self.is_offline = route.is_none();
        self.world.change_route(route);
    }

    pub(super) fn change_host(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        match rng.u32(0..12) {
            0 | 1 => {
                let local = if rng.bool() { LOCAL } else { SECOND_LOCAL };
                let home = &mut self.homes[self.world.network.home()];
                if home.route.gateway == Some(GATEWAY) {
                    home.route.local = local;
                }
                let route = home.route;
                self.route(Some(route));
            }
            2 => {
                let interface = pick(rng, &[INTERFACE, OTHER_INTERFACE]);
                let here = self.world.network.home();
                let old = std::mem::replace(&mut self.homes[here].route.interface, interface);
                for node in self.world.network.nodes.iter_mut().filter(|node| node.home == here) {
                    if node.interface == old {
                        node.interface = interface;
                    }
                }
                self.rename_link(old, interface);
                let route = self.homes[here].route;
                self.route(Some(route));
            }
            3 | 4 => {
                self.route(None);
                let span = self.span(rng);
                self.pass(span);
                if percent(rng, 70) {
                    let route = self.homes[self.world.network.home()].route;
                    self.route(Some(route));
                }
            }
            5..8 => {
                let span = if rng.bool() { rng.u64(0..60) } else { rng.u64(0..100_000) };
                let span = Duration::from_secs(span);
                if rng.bool() && self.homes.len() > 1 {
                    self.move_house(rng);
                }
                self.sleep(span);
            }
            8 | 9 => {
                self.move_house(rng);
                let route = self.homes[self.world.network.home()].route;
                self.route(Some(route));
            }
            10 => {
                for _ in 0..rng.usize(1..50) {
                    self.world.change_network();
                    self.pass(Duration::from_millis(rng.u64(0..300)));
                }
            }
            _ => {
                let sockets =
                    [Socket::Pcp, Socket::NatPmp, Socket::Ssdp, Socket::Announcements, Socket::Notifications];
                self.world.unopenable.insert(pick(rng, &sockets));
            }
        }
    }

    pub(super) fn sleep(&mut self, span: Duration) {
        let wakes_at = self.world.now() + span;
        self.world.engine_mut().sleep(wakes_at, span);
        self.world.sleep_for(span);
    }

    fn move_house(&mut self, rng: &mut fastrand::Rng) {
        let home = rng.usize(0..self.homes.len());
        self.world.note(|| format!("the machine is in home {home}"));
        let from = self.world.network.home();
        self.world.network.move_to_home(home);
        self.move_ipv6(from, home);
        self.world.network.route = Some(self.homes[home].route).filter(|_| !self.is_offline);
        // Another gateway of the same address may have the same epoch.
        self.has_hidden_losses = true;
    }
}
