//! What happens to IPv6 in a story: addresses come and go, routes change, firewalls are obstinate.

use super::Story;
use crate::gateways::{percent, pick};
use crate::ipv6_homes::{
    self, Families, SECOND_ROUTER, deprecate, is_global, is_lasting, providers, temporary,
};
use crate::pinholes;
use crate::world::{INTERFACE, Ipv6Home, gateway_time, stable};
use plum_engine::ipv6::{LocalAddress, NextHop};
use plum_gateway::core::{Action, Kind, Refusal, Times};
use std::time::Duration;

impl Story {
    /// The part of IPv6 in a step.
    pub(super) fn ipv6_step(&mut self) {
        let mut rng = self.ipv6.rng.clone();
        if self.ipv6.families == Families::Ipv4 {
            // Mappings fail at once, and cost IPv4 nothing.
            if percent(&mut rng, 10) {
                self.create_pinhole(&mut rng, 8000);
            }
            return;
        }
        match rng.u32(0..20) {
            0..6 => self.live_on_ipv6(&mut rng),
            6 => self.create_many_pinholes(&mut rng),
            7 => self.destroy_pinholes(&mut rng),
            8..16 => self.trouble_ipv6(&mut rng),
            _ => return,
        }
        let span = self.span(&mut rng);
        self.pass(span);
    }

    /// Addresses or routes change, and the system says so.
    fn change_ipv6(&mut self, what: &str, change: impl FnOnce(&mut Ipv6Home)) {
        self.disturb_ipv6();
        self.world.note(|| format!("IPv6: {what}"));
        self.world.change_ipv6(change);
        let ipv6 = self.world.network.ipv6.clone();
        self.ipv6.note_addresses(&ipv6);
    }

    fn main_interface(&self) -> u32 {
        self.world.network.ipv6.addresses.interface.unwrap_or(INTERFACE)
    }

    fn provider(&self) -> u16 {
        providers(self.world.network.home())[0]
    }

    /// A number that no address of this story has had.
    fn number(&mut self) -> u16 {
        self.ipv6.next_number += 1;
        self.ipv6.next_number - 1
    }

    pub(super) fn trouble_ipv6(&mut self, rng: &mut fastrand::Rng) {
        match rng.u32(0..13) {
            0 => self.refresh_lifetimes(rng),
            1 => self.rotate_temporary_addresses(),
            2 => self.renumber(rng),
            3 => self.renumber_at_once(),
            4 => self.be_tentative(rng),
            5 => self.lose_route(rng),
            6 => self.change_routers(rng),
            7 => self.change_ipv6("all addresses are deprecated", |ipv6| {
                ipv6.addresses.list.iter_mut().for_each(deprecate);
            }),
            8 | 9 => self.trouble_firewall(rng),
            10 => {
                for _ in 0..rng.usize(1..40) {
                    self.change_ipv6("nothing is different", |_| {});
                    self.pass(Duration::from_millis(rng.u64(0..300)));
                }
            }
            11 => self.flap(rng),
            _ => self.add_addresses(rng),
        }
    }

    /// Router advertisements that tell nothing new: no packet follows.
    pub(super) fn refresh_lifetimes(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(1..20) {
            let sent = |story: &Story| {
                let counts = story.world.engine().counts;
                (counts.datagrams_sent, counts.exchanges)
            };
            let before = sent(self);
            let seconds = rng.u32(1..7200);
            self.world.change_ipv6(|ipv6| {
                for known in ipv6.addresses.list.iter_mut().filter(|known| !known.is_deprecated) {
                    known.preferred_secs = seconds;
                }
            });
            // What could not be opened is tried again with every lookup.
            let may_retry = !self.world.unopenable.is_empty();
            assert!(
                may_retry || sent(self) == before,
                "refresh: a router advertisement that tells nothing new costs packets"
            );
            self.pass(Duration::from_millis(rng.u64(0..4000)));
        }
    }

    /// RFC 8981 §3.4: a new temporary address, and the one before is deprecated; the one before that is gone.
    pub(super) fn rotate_temporary_addresses(&mut self) {
        let (provider, interface, host) = (self.provider(), self.main_interface(), self.number());
        let prefix = self.prefix();
        self.change_ipv6("temporary addresses rotate", |ipv6| {
            let list = &mut ipv6.addresses.list;
            list.retain(|known| !(known.is_temporary && known.is_deprecated));
            list.iter_mut().filter(|known| known.is_temporary).for_each(deprecate);
            list.push(temporary(ipv6_homes::address(provider, prefix, 0x1000 + host), interface));
        });
    }

    /// The number of the present prefix.
    fn prefix(&self) -> u16 {
        let provider = self.provider();
        let list = self.world.network.ipv6.addresses.list.iter();
        let mut of_provider = list.filter(|known| known.address.segments()[0] == provider);
        of_provider.next_back().map_or(1, |known| known.address.segments()[1])
    }

    /// A new prefix; the addresses of the old one are deprecated, and later gone.
    pub(super) fn renumber(&mut self, rng: &mut fastrand::Rng) {
        let (provider, interface, prefix) = (self.provider(), self.main_interface(), self.number());
        let is_tentative = rng.bool();
        let new = ipv6_homes::address(provider, prefix, 0x100);
        let (was_quiet, begun_at) = (self.ipv6.settled_since.is_some(), self.world.now());
        self.change_ipv6("renumbering", |ipv6| {
            let list = &mut ipv6.addresses.list;
            list.iter_mut().filter(|known| known.interface == interface).for_each(deprecate);
            list.push(LocalAddress { is_tentative, ..stable(new, interface) });
        });
        if is_tentative {
            self.pass(Duration::from_millis(rng.u64(100..3000)));
            self.ready_all();
        }
        let span = self.span(rng);
        self.pass(span);
        if was_quiet {
            // The old address holds until the new one is made.
            let place = self.ipv6_place();
            pinholes::nothing_is_lost_in_quiet(&self.world, &place, &self.ipv6.live, begun_at);
        }
        if percent(rng, 60) {
            self.change_ipv6("the old prefix is gone", |ipv6| {
                ipv6.addresses.list.retain(|known| !known.is_deprecated);
            });
        }
    }

    fn ready_all(&mut self) {
        self.change_ipv6("addresses are ready", |ipv6| {
            ipv6.addresses.list.iter_mut().for_each(|known| known.is_tentative = false);
        });
    }

    pub(super) fn renumber_at_once(&mut self) {
        let (provider, interface, prefix) = (self.provider(), self.main_interface(), self.number());
        self.change_ipv6("another prefix at once", |ipv6| {
            let list = &mut ipv6.addresses.list;
            list.retain(|known| known.interface != interface);
            list.push(stable(ipv6_homes::address(provider, prefix, 0x100), interface));
        });
    }

    fn be_tentative(&mut self, rng: &mut fastrand::Rng) {
        self.change_ipv6("addresses are tentative", |ipv6| {
            ipv6.addresses.list.iter_mut().for_each(|known| known.is_tentative = true);
        });
        let span = self.span(rng);
        self.pass(span);
        self.ready_all();
    }

    fn lose_route(&mut self, rng: &mut fastrand::Rng) {
        let is_whole = rng.bool();
        self.change_ipv6("no route", |ipv6| {
            (ipv6.route, ipv6.addresses.interface) = (None, None);
            if is_whole {
                ipv6.addresses.list.clear();
                ipv6.routes_from.clear();
            }
        });
        let span = self.span(rng);
        self.pass(span);
        if percent(rng, 60) {
            self.heal_ipv6();
        }
    }

    fn change_routers(&mut self, rng: &mut fastrand::Rng) {
        let what = rng.u32(0..4);
        self.change_ipv6("other routers", |ipv6| {
            let Some(route) = &mut ipv6.route else { return };
            match what {
                0 => route.other_routers = vec![SECOND_ROUTER],
                1 => route.other_routers.clear(),
                2 => route.next_hop = NextHop::Router(SECOND_ROUTER),
                _ => route.next_hop = NextHop::Unknown,
            }
        });
    }

    /// Addresses are away for moments.
    fn flap(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(1..6) {
            let list = self.world.network.ipv6.addresses.list.clone();
            self.change_ipv6("addresses are away", |ipv6| ipv6.addresses.list.clear());
            self.pass(Duration::from_millis(rng.u64(0..2000)));
            self.change_ipv6("addresses are back", |ipv6| ipv6.addresses.list = list);
            self.pass(Duration::from_millis(rng.u64(0..2000)));
        }
    }

    fn add_addresses(&mut self, rng: &mut fastrand::Rng) {
        let count = if percent(rng, 25) { 10 } else { rng.u16(1..3) };
        let (provider, interface, prefix) = (self.provider(), self.main_interface(), self.prefix());
        for _ in 0..count {
            let host = self.number();
            self.change_ipv6("one address more", |ipv6| {
                let known = stable(ipv6_homes::address(provider, prefix, 0x2000 + host), interface);
                ipv6.addresses.list.push(known);
            });
        }
    }

    /// Firewall control refuses for a while.
    fn trouble_firewall(&mut self, rng: &mut fastrand::Rng) {
        self.disturb_ipv6();
        let n = rng.usize(0..self.world.network.nodes.len());
        let actions =
            [Action::GetFirewallStatus, Action::AddPinhole, Action::UpdatePinhole, Action::DeletePinhole];
        let (action, code) = (pick(rng, &actions), pick(rng, &[402, 403, 501, 606, 701, 702, 703, 704, 706]));
        let times = if rng.bool() { Times::Always } else { Times::Next(rng.u32(1..6)) };
        let what = rng.u32(0..4);
        let faults = &mut self.world.gateway_at(n).faults;
        match what {
            0 => faults.firewall_disabled = !faults.firewall_disabled,
            1 => faults.inbound_pinholes_forbidden = !faults.inbound_pinholes_forbidden,
            _ => faults.refuse_some(Refusal {
                kind: Kind::Soap(action),
                port: None,
                code,
                lifetime: 30,
                times,
            }),
        }
        self.open_exclusion = self.open_exclusion.max(Duration::from_secs(30));
        self.world.note(|| format!("the firewall of gateway {n} refuses: {what} {action:?} {code}"));
    }

    /// Nothing is wrong with IPv6 any more: the addresses are ready, and one of them lasts.
    pub(super) fn heal_ipv6(&mut self) {
        let here = self.world.network.home();
        let now = self.healed();
        self.ipv6.homes[here] = now.clone();
        let before = &self.world.network.ipv6;
        let is_same = before.addresses == now.addresses
            && before.route == now.route
            && before.routes_from == now.routes_from;
        if !is_same {
            self.change_ipv6("all is well", |ipv6| *ipv6 = now);
        }
    }

    fn healed(&mut self) -> Ipv6Home {
        let here = self.world.network.home();
        let mut home = self.ipv6.homes[here].clone();
        let Some(interface) = home.addresses.interface else { return home };
        let known = &mut self.world.network.ipv6.addresses.list;
        if !known.is_empty() {
            home.addresses.list = known.clone();
        }
        let list = &mut home.addresses.list;
        list.iter_mut().for_each(|known| known.is_tentative = false);
        if !list.iter().any(|known| is_lasting(known) && known.interface == interface) {
            let latest = list.iter_mut().rev().find(|known| {
                known.interface == interface && is_global(known.address) && !known.is_temporary
            });
            match latest {
                Some(known) => (known.is_deprecated, known.preferred_secs) = (false, 1800),
                None => list.push(stable(ipv6_homes::address(providers(here)[0], 1, 0x100), interface)),
            }
        }
        home
    }

    /// The machine is carried to another home: what is there of IPv6.
    pub(super) fn move_ipv6(&mut self, from: usize, to: usize) {
        self.disturb_ipv6();
        if from != to {
            let home = &mut self.ipv6.homes[from];
            if home.addresses.interface.is_some() && !self.world.network.ipv6.addresses.list.is_empty() {
                home.addresses.list.clone_from(&self.world.network.ipv6.addresses.list);
            }
            self.world.network.ipv6 = self.ipv6.homes[to].clone();
        }
        let ipv6 = self.world.network.ipv6.clone();
        self.ipv6.note_addresses(&ipv6);
    }

    /// The link gets another number: to the engines its addresses are others, with other nonces.
    pub(super) fn rename_link(&mut self, old: u32, new: u32) {
        self.disturb_ipv6();
        let home = self.world.network.home();
        for ipv6 in [&mut self.world.network.ipv6, &mut self.ipv6.homes[home]] {
            let routes = ipv6.route.iter_mut().chain(ipv6.routes_from.values_mut().flatten());
            routes.filter(|route| route.interface == old).for_each(|route| route.interface = new);
            let known = ipv6.addresses.list.iter_mut().filter(|known| known.interface == old);
            known.for_each(|known| known.interface = new);
            ipv6.addresses.interface =
                ipv6.addresses.interface.map(|index| if index == old { new } else { index });
        }
        self.note_stale(|_| true);
    }

    /// The states that the program knows against the firewalls.
    pub(super) fn compare_pinholes(&mut self) {
        let Some(since) = self.ipv6.settled_since else { return };
        let place = self.ipv6_place();
        pinholes::nothing_is_lost_in_quiet(&self.world, &place, &self.ipv6.live, since);
        pinholes::the_reported_state_is_the_firewalls(&self.world, &place, &self.ipv6.live);
        pinholes::no_pinhole_is_unknown(&self.world, &place, &self.ipv6.live, gateway_time(since));
        for (at, node, key) in std::mem::take(&mut self.ipv6.leaving) {
            let is_live =
                self.ipv6.live.values().any(|other| pinholes::pinhole_key(other.key, key.client) == key);
            if at + super::quiet::LEAVING <= self.world.now() && !is_live {
                pinholes::a_destroyed_pinhole_is_gone(&self.world, node, &key);
            }
        }
    }

    /// In a quiet world IPv6 alone changes: IPv4 is compared as if nothing had happened.
    pub(super) fn calm_ipv6(&mut self) {
        let mut rng = self.ipv6.rng.clone();
        self.ipv6.rng = rng.fork();
        if self.ipv6.families == Families::Ipv4 || self.world.network.ipv6.addresses.interface.is_none() {
            return;
        }
        match rng.u32(0..12) {
            0..4 => {
                self.live_on_ipv6(&mut rng);
                self.pass_all(self.quiet_down());
            }
            4 => {
                self.destroy_pinholes(&mut rng);
                self.pass_all(self.quiet_down());
            }
            5 => self.refresh_lifetimes(&mut rng),
            6 => self.rotate_temporary_addresses(),
            7 => self.renumber(&mut rng),
            8 => self.renumber_at_once(),
            9 => self.flap(&mut rng),
            _ => return,
        }
        if self.ipv6.settled_since.is_none() {
            let span = self.settling();
            self.world.note(|| format!("IPv6 is quiet for {span:?}"));
            self.pass_all(span);
            self.ipv6.settled_since = Some(self.world.now());
        }
        self.compare();
    }
}
