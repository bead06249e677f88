//! Nothing is wrong any more: when everything must have settled, and what must be true then.

use super::Story;
use crate::agreement;
use crate::expectation::{Expectation, expectation};
use crate::gateways::percent;
use crate::ipv6_homes::Families;
use crate::pinholes;
use crate::world::{Power, gateway_time};
use plum_engine::io::{Event, MappingId, Protocol};
use plum_engine::time::Time;
use std::time::Duration;

/// So many mappings are many.
const MANY: usize = 40;

/// docs/protocols.md, ending: a deletion is under way for at most 5 s.
pub(super) const LEAVING: Duration = Duration::from_secs(8);

impl Story {
    /// Nothing is wrong any more.
    fn heal(&mut self, rng: &mut fastrand::Rng) {
        self.world.note(|| "all is well".into());
        if self.has_lasting_trouble {
            self.note_overtaken();
        }
        let network = &mut self.world.network;
        (network.loss, network.duplicate, network.cut) = (0.0, 0.0, false);
        network.jitter = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(0..20) });
        network.latency = Duration::from_micros(rng.u64(100..20_000));
        self.world.unopenable.clear();
        for n in 0..self.world.network.nodes.len() {
            self.world.gateway_at(n).faults = self.characters[n].clone();
            if self.world.network.nodes[n].power != Power::On {
                let keep = rng.bool();
                self.start_gateway(n, keep);
            }
        }
        let now = self.world.now();
        self.world.engine_mut().packets.is_troubled = false;
        self.world.engine_mut().relieve(now);
        self.excluded_until = self.excluded_until.max(now + std::mem::take(&mut self.open_exclusion));
        self.heal_ipv6();
        let route = self.homes[self.world.network.home()].route;
        if self.world.network.route != Some(route) {
            self.route(Some(route));
        } else if rng.bool() {
            self.world.change_network();
        }
    }

    /// How long it takes until everything must have its right state.
    pub(super) fn settling(&self) -> Duration {
        let now = self.world.now();
        let config = self.world.engine().config();
        let keys = u32::try_from(self.live.len() + self.ipv6.live.len()).unwrap_or(u32::MAX);
        // One recheck finds out, then a race may be run, then the mapping is asked for: by one protocol after the
        // other, in the pace of a gateway that is just up.
        let mut span = config.recheck_interval + config.discover_timeout + config.mapping_timeout * 2;
        span += Duration::from_secs(20) + Duration::from_millis(300) * keys;
        span += self.excluded_until.since(now);
        // Each of the other routers is asked after the one before.
        let routers = self.world.network.ipv6.route.as_ref().map_or(0, |route| route.other_routers.len());
        let routers = u32::try_from(routers).unwrap_or(u32::MAX);
        span += (config.discover_timeout + config.mapping_timeout) * routers;
        let is_hidden = |&(uptime, heard_at): &(Duration, Time)| {
            // RFC 6886 §3.6 and RFC 6887 §8.5 take a clock that lags by an eighth and 2 s for the same.
            uptime < (now + span).since(heard_at) / 7 + Duration::from_secs(3)
        };
        if self.has_hidden_losses || self.losses.iter().any(is_hidden) {
            // Found out by the next renewal, or at the latest when the lifetime ends. A day is the most that counts.
            span += self.longest_granted().min(Duration::from_secs(86_400));
        }
        span
    }

    fn longest_granted(&self) -> Duration {
        let lifetimes = self.characters.iter().filter_map(|faults| faults.lifetime);
        let longest = lifetimes.max().map_or(Duration::ZERO, |secs| Duration::from_secs(secs.into()));
        self.longest_lifetime.max(longest)
    }

    fn settle(&mut self) {
        let span = self.settling();
        self.world.note(|| format!("all is quiet for {span:?}"));
        self.pass_all(span);
        self.settled_since = Some(self.world.now());
        self.ipv6.settled_since = self.settled_since;
        self.has_hidden_losses = false;
        self.losses.clear();
        self.eras = 0;
        self.compare();
    }

    /// The states that the program knows against the gateways' tables.
    pub(super) fn compare(&mut self) {
        self.compare_pinholes();
        self.compare_excluded();
        let (Some(place), Some(since)) = (self.place(), self.settled_since) else { return };
        self.comparisons += 1;
        for n in 0..self.world.network.nodes.len() {
            self.world.gateway_at(n);
        }
        agreement::nothing_is_lost_in_quiet(&self.world, &place, &self.live, since, self.has_lost);
        agreement::the_reported_state_is_the_gateways(&self.world, &place, &self.live);
        agreement::no_entry_is_unknown(&self.world, &place, &self.live, gateway_time(since));
        for (at, claim, key) in std::mem::take(&mut self.leaving) {
            let is_live = self.live.values().any(|&other| other == key);
            if at + LEAVING <= self.world.now() && !is_live {
                agreement::a_destroyed_mapping_is_gone(&self.world, &place, claim, key);
            }
        }
    }

    /// PLUM_GATEWAY names an IPv6 gateway, or the machine has no IPv4: mappings of IPv4 have failed.
    fn compare_excluded(&self) {
        let is_named = self.config().gateway.is_some_and(|(gateway, _)| gateway.is_ipv6());
        if self.ipv6.families != Families::Ipv6 && !is_named {
            return;
        }
        for &id in self.live.keys() {
            let state = self.world.state(id);
            assert!(state == Event::Failure, "families: {id} is for IPv4, which is not there, and {state:?}");
        }
    }

    pub(super) fn calm(&mut self, rng: &mut fastrand::Rng) {
        if self.live.len() > MANY && percent(rng, 80) {
            // Hundreds are for the rush; for a quiet day some will do.
            let ids: Vec<MappingId> = self.live.keys().skip(MANY / 2).copied().collect();
            for id in ids {
                self.destroy(id);
            }
        }
        self.heal(rng);
        self.settle();
        for _ in 0..rng.usize(0..4) {
            match rng.u32(0..9) {
                8 => self.lose_some(rng),
                0..4 => {
                    self.live_on(rng);
                    self.pass_all(self.quiet_down());
                }
                4 => {
                    self.destroy_all(rng);
                    self.pass_all(self.quiet_down());
                }
                5 => {
                    // A gateway that restarts without memory and says so, in a quiet world.
                    let node = 0;
                    self.disturb();
                    self.start_gateway(node, percent(rng, 30));
                    self.settle();
                }
                6 => {
                    self.disturb();
                    let span = Duration::from_secs(rng.u64(0..40_000));
                    self.sleep(span);
                    self.settle();
                }
                _ => {}
            }
            self.compare();
            self.calm_ipv6();
            let span = self.span(rng);
            self.pass(span);
            self.compare();
        }
    }

    /// A few datagrams are lost at a gateway that answers: the requests are sent again, and that is all.
    fn lose_some(&mut self, rng: &mut fastrand::Rng) {
        let Some(place) = self.place() else { return };
        let port = rng.u16(8000..8010);
        let is_new = self.live.values().all(|key| key.internal_port.get() != port);
        let good = |protocol| matches!(protocol, Protocol::Pcp | Protocol::NatPmp);
        let known: Vec<Protocol> =
            self.live.keys().filter_map(|&id| Some(self.world.success(id)?.0)).filter(|&p| good(p)).collect();
        self.world.network.lose_requests = rng.u32(1..4);
        let id = self.create(rng, port);
        let expectation = expectation(&self.world, &place, self.live[&id]);
        // docs/protocols.md, many mappings: a request to a known gateway is sent again after 250, 250, 500 ms.
        self.pass_all(Duration::from_secs(4));
        self.world.network.lose_requests = 0;
        let is_late = place
            .nodes_of(&self.world, Protocol::Pcp)
            .any(|(n, _)| place.reference(&self.world, n).is_late());
        if let Expectation::Granted(protocol) = expectation
            && is_new
            && !is_late
            && !self.has_lasting_trouble
            && known.contains(&protocol)
        {
            agreement::a_lost_request_is_sent_again(self.world.state(id));
        }
        self.pass_all(self.quiet_down());
    }

    /// How long the program's wishes take in a quiet world.
    pub(super) fn quiet_down(&self) -> Duration {
        let config = self.world.engine().config();
        let keys = u32::try_from(self.live.len() + self.ipv6.live.len()).unwrap_or(u32::MAX);
        // docs/protocols.md, many mappings: a protocol that was there and is silent now is found out by the first request that
        // times out; the next try is 30 s later, or a recheck period.
        let retry = config.mapping_timeout + config.recheck_interval.min(Duration::from_secs(31));
        config.discover_timeout
            + config.mapping_timeout * 2
            + retry
            + LEAVING
            + Duration::from_millis(600) * keys
    }

    pub(super) fn end(&mut self, rng: &mut fastrand::Rng) {
        self.heal(rng);
        if self.world.mappings().next().is_some() || !self.live.is_empty() || !self.ipv6.live.is_empty() {
            self.settle();
        }
        if rng.bool() {
            let ids: Vec<MappingId> = self.live.keys().copied().collect();
            for id in ids {
                self.destroy(id);
            }
            let ids: Vec<MappingId> = self.ipv6.live.keys().copied().collect();
            for id in ids {
                self.destroy_pinhole(id);
            }
            self.pass_all(self.quiet_down());
            self.compare();
        }
        // What is on its way has arrived then.
        self.pass_all(LEAVING);
        if self.clean_up() {
            let begun_at = gateway_time(self.begun_at);
            if let Some(place) = self.place() {
                agreement::nothing_is_left_behind(&self.world, &place, begun_at);
            }
            pinholes::nothing_is_left_behind(&self.world, &self.ipv6_place(), begun_at);
        }
    }
}
