//! What goes wrong in the networks and with the gateways of a story, and what gateways do of their own accord.

use super::Story;
use crate::agreement;
use crate::gateways::{self, percent};
use crate::world::Power;
use plum_engine::io::{MappingId, Protocol};
use plum_engine::time::Time;
use plum_wire::Transport;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

impl Story {
    /// Nothing is quiet any more.
    pub(super) fn disturb(&mut self) {
        self.settled_since = None;
        self.leaving.clear();
        self.disturb_ipv6();
    }

    pub(super) fn trouble_network(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        self.world.engine_mut().packets.is_troubled = true;
        let network = &mut self.world.network;
        let what = match rng.u32(0..5) {
            0 => {
                network.loss = f64::from(rng.u32(1..70)) / 100.0;
                "loses packets"
            }
            1 => {
                network.duplicate = f64::from(rng.u32(1..100)) / 100.0;
                "doubles packets"
            }
            2 => {
                network.jitter = Duration::from_millis(rng.u64(1..2000));
                self.has_lasting_trouble = true;
                "reorders packets"
            }
            3 => {
                network.latency = Duration::from_millis(rng.u64(1..400));
                self.has_lasting_trouble = true;
                "is slow"
            }
            _ => {
                network.cut = true;
                "is cut"
            }
        };
        self.world.note(|| format!("the network {what}"));
    }

    fn any_node(&self, rng: &mut fastrand::Rng) -> usize {
        // Mostly the one that is asked.
        if percent(rng, 70) { 0 } else { rng.usize(0..self.world.network.nodes.len()) }
    }

    pub(super) fn trouble_gateway(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        self.world.engine_mut().packets.is_troubled = true;
        let n = self.any_node(rng);
        let mut faults = self.world.gateway_at(n).faults.clone();
        let mut names = Vec::new();
        let (mut excludes_for, mut lifetime) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..rng.usize(1..3) {
            let trouble = gateways::trouble(rng, &mut faults);
            names.push(trouble.name);
            excludes_for = excludes_for.max(trouble.excludes_for);
            lifetime = lifetime.max(trouble.lifetime);
            self.has_taught |= trouble.is_remembered;
            self.has_lasting_trouble |= trouble.lasts;
        }
        self.world.gateway_at(n).faults = faults;
        self.longest_lifetime = self.longest_lifetime.max(lifetime);
        // A renewal that shortens a lease may be carried out, and its answer lost.
        self.has_hidden_losses |= names.contains(&"grants other lifetimes");
        // Those answers may come as long as this trouble lasts; `heal` counts from its end.
        self.excluded_until = self.excluded_until.max(self.world.now() + excludes_for);
        self.world.note(|| format!("gateway {n} {}", names.join(", ")));
        if percent(rng, 50) {
            let span = self.span(rng);
            self.pass(span);
            self.world.gateway_at(n).faults = self.characters[n].clone();
            let now = self.world.now();
            self.world.engine_mut().relieve(now);
            self.excluded_until = self.excluded_until.max(self.world.now() + excludes_for);
            self.world.note(|| format!("gateway {n} is as ever"));
        } else {
            self.open_exclusion = self.open_exclusion.max(excludes_for);
        }
    }

    /// A gateway loses what it has, or may have.
    fn note_loss(&mut self, n: usize, is_told: bool) {
        let gateway = &self.world.network.nodes[n].gateway;
        let uptime = Duration::from_secs(gateway.epoch().into());
        let address = gateway.config().address;
        let checked_engine = self.world.engine();
        let heard_at = checked_engine.heard_at(address).unwrap_or(Time::ZERO);
        let heard_at = checked_engine.sockets.heard_ipv6_at().map_or(heard_at, |at| at.min(heard_at));
        self.eras += 1;
        self.has_lost = true;
        // A mapping stays SUCCESS until its lifetime ends where its protocol is spoken no more.
        let is_deaf = self.live.keys().chain(self.ipv6.live.keys()).any(|&id| {
            let protocol = self.world.success(id).map(|(protocol, ..)| protocol);
            protocol.is_some_and(|protocol| !agreement::is_spoken(gateway, protocol))
        });
        let epoch_tells =
            !gateway.faults.epoch_survives_restart && self.eras <= 2 && !is_deaf && !self.has_taught;
        if !is_told || !epoch_tells {
            self.has_hidden_losses = true;
        } else {
            self.losses.push((uptime, heard_at));
        }
    }

    pub(super) fn change_gateway(&mut self, rng: &mut fastrand::Rng) {
        self.disturb();
        let n = self.any_node(rng);
        let now = self.world.now();
        match rng.u32(0..12) {
            0 | 1 => {
                let keep = rng.bool();
                self.world.note(|| format!("gateway {n} restarts, keeps its table: {keep}"));
                self.note_loss(n, true);
                self.world.gateway_at(n).restart(keep);
                self.world.network.set_power(now, n, Power::On);
                self.restarts += 1;
            }
            2 | 3 => {
                let power = if rng.bool() { Power::Off } else { Power::Stopped };
                self.world.note(|| format!("gateway {n} is {power:?}"));
                self.world.engine_mut().packets.is_troubled = true;
                self.world.network.set_power(now, n, power);
                let span = self.span(rng);
                self.pass(span);
                if percent(rng, 70) {
                    self.start_gateway(n, rng.bool());
                }
            }
            4 | 5 => {
                let address = Ipv4Addr::new(203, 0, 113, rng.u8(1..99));
                let announce = rng.bool();
                self.world.note(|| format!("gateway {n} has the external address {address}"));
                self.world.gateway_at(n).set_external_address(address, announce);
                // PCP tells it with the next renewal only; the others are asked for it at each recheck.
                let by_pcp = |&id: &MappingId| {
                    self.world.success(id).is_some_and(|success| success.0 == Protocol::Pcp)
                };
                self.has_hidden_losses |= self.live.keys().any(by_pcp);
            }
            6 => {
                self.world.note(|| format!("gateway {n} forgets its mappings"));
                self.note_loss(n, false);
                self.world.gateway_at(n).forget_mappings();
            }
            7 => {
                self.note_loss(n, true);
                let epoch = if rng.bool() { rng.u32(..) } else { rng.u32(0..1000) };
                self.world.note(|| format!("gateway {n} has the epoch {epoch}"));
                self.world.gateway_at(n).set_epoch(epoch);
            }
            8 => {
                for _ in 0..rng.usize(1..30) {
                    self.world.gateway_at(n).announce();
                    self.pass(Duration::from_millis(rng.u64(0..500)));
                }
            }
            9 => {
                let alive = rng.bool();
                self.world.gateway_at(n).notify(alive);
            }
            10 => {
                let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66)), 80);
                for _ in 0..rng.usize(1..30) {
                    let port = if rng.bool() { rng.u16(8000..8010) } else { rng.u16(20_000..20_010) };
                    let transport = if rng.bool() { Transport::Tcp } else { Transport::Udp };
                    let transport = agreement::transport(transport);
                    let gateway = self.world.gateway_at(n);
                    let is_ours = gateway.table().get(transport, port).is_some();
                    if !is_ours {
                        gateway.occupy(transport, port, other);
                    }
                }
                self.world.note(|| format!("gateway {n} has mappings of others"));
            }
            _ => {
                let character = &mut self.characters[n];
                gateways::choose_protocols(rng, character);
                self.world.network.nodes[n].gateway.faults = character.clone();
                self.has_hidden_losses = true;
                self.world.note(|| format!("gateway {n} speaks other protocols for good"));
            }
        }
    }

    pub(super) fn start_gateway(&mut self, n: usize, keep: bool) {
        self.world.note(|| format!("gateway {n} starts, keeps its table: {keep}"));
        self.note_loss(n, true);
        self.world.gateway_at(n).restart(keep);
        self.world.network.set_power(self.world.now(), n, Power::On);
        self.restarts += 1;
    }
}
