//! What the program of a story does: mappings come and go, sessions end and begin.

use super::{Story, engine_config, seed_of};
use crate::agreement::{self, Claim, Place};
use crate::gateways::{percent, pick};
use plum_engine::driver::Key;
use plum_engine::io::{MappingId, Suggestion};
use plum_wire::Transport;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

impl Story {
    pub(super) fn create(&mut self, rng: &mut fastrand::Rng, port: u16) -> MappingId {
        let transport = if rng.bool() { Transport::Tcp } else { Transport::Udp };
        let wish = Suggestion {
            address: percent(rng, 10).then(|| IpAddr::V4(Ipv4Addr::new(203, 0, 113, rng.u8(1..20)))),
            port: NonZeroU16::new(if percent(rng, 60) { 0 } else { rng.u16(20_000..20_010) }),
            ..Suggestion::default()
        };
        let id = self.world.create_wishing(transport, port, wish);
        let key =
            Key { transport, internal_port: NonZeroU16::new(port).expect("ports of stories are not 0") };
        // Where answers get lost, a mapping and the deletion of the one before may come in any order: the request is
        // sent once more (docs/protocols.md, time and the key of a mapping), but if that is lost too, the next renewal tells.
        self.has_hidden_losses |= self.settled_since.is_none() && self.gone.contains(&key);
        self.live.insert(id, key);
        id
    }

    pub(super) fn destroy(&mut self, id: MappingId) {
        let Some(key) = self.live.remove(&id) else { return };
        let is_last = !self.live.values().any(|&other| other == key);
        if let (Some(place), true, true) = (self.place(), self.settled_since.is_some(), is_last)
            && let Some(claim) = self.deletable(&place, id, key)
        {
            self.leaving.push((self.world.now(), claim, key));
        }
        self.gone.insert(key);
        self.world.destroy(id);
    }

    /// The entry that must be gone once a mapping is destroyed.
    fn deletable(&self, place: &Place, id: MappingId, key: Key) -> Option<Claim> {
        let state = self.world.state(id);
        let can_be = agreement::can_be_deleted(&self.world, place, key, state);
        place.claim(&self.world, key, state).filter(|_| can_be)
    }

    /// Mappings come and go, on few ports, so that keys meet.
    pub(super) fn live_on(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(1..12) {
            if !self.live.is_empty() && percent(rng, 35) {
                let ids: Vec<MappingId> = self.live.keys().copied().collect();
                self.destroy(pick(rng, &ids));
            } else {
                let port = rng.u16(8000..8010);
                self.create(rng, port);
            }
            self.pass(Duration::from_millis(rng.u64(0..400)));
        }
    }

    pub(super) fn create_many(&mut self, rng: &mut fastrand::Rng) {
        if self.live.len() > 300 {
            return self.destroy_all(rng);
        }
        let first = rng.u16(10_000..10_500);
        let count = if percent(rng, 20) && !self.brief { rng.u16(50..400) } else { rng.u16(5..50) };
        for port in first..first + count {
            self.create(rng, port);
        }
        if percent(rng, 50) {
            self.pass(Duration::from_millis(rng.u64(0..5000)));
        }
    }

    pub(super) fn destroy_all(&mut self, rng: &mut fastrand::Rng) {
        let ids: Vec<MappingId> = self.live.keys().copied().collect();
        let some = percent(rng, 50);
        for id in ids {
            if !some || rng.bool() {
                self.destroy(id);
            }
        }
    }

    /// Cleanup, then init.
    pub(super) fn begin_again(&mut self, rng: &mut fastrand::Rng) {
        self.clean_up();
        if percent(rng, 50) {
            self.pass_all(Duration::from_millis(rng.u64(0..10_000)));
        }
        let mut config = engine_config(rng, self.scale);
        self.ipv6.configure(&mut config);
        let seed = seed_of(self.seed, 10_000 + self.inits);
        self.inits += 1;
        self.begun_at = self.world.now();
        self.world.begin_again(|checked_engine| checked_engine.renew(config, seed));
        // The gateways are known to nobody any more; what was left behind is left behind.
        self.settled_since = None;
        self.forget_pinholes();
        self.has_taught = false;
        // The network may still reorder or delay packets: then they are late by more than when all is well.
        let network = &self.world.network;
        self.has_lasting_trouble = network.jitter.max(network.latency) > Duration::from_millis(20);
    }

    /// Gives back whether the engine had time for all.
    pub(super) fn clean_up(&mut self) -> bool {
        let place = self.place();
        let settled = self.settled_since.is_some();
        let mut claims = Vec::new();
        if let (Some(place), true) = (&place, settled) {
            for (&id, &key) in &self.live {
                claims.extend(self.deletable(place, id, key).map(|claim| (claim, key)));
            }
        }
        let pinholes = self.closable_pinholes();
        self.live.clear();
        self.ipv6.live.clear();
        let took = self.world.cleanup();
        self.pass_all(Duration::from_secs(1));
        // docs/contract.md: 5 s at most.
        let ran_out_of_time = took >= Duration::from_millis(4999);
        if let (Some(place), false) = (place, ran_out_of_time) {
            for (claim, key) in claims {
                agreement::a_destroyed_mapping_is_gone(&self.world, &place, claim, key);
            }
        }
        for (node, key) in pinholes.into_iter().filter(|_| !ran_out_of_time) {
            crate::pinholes::a_destroyed_pinhole_is_gone(&self.world, node, &key);
        }
        self.leaving.clear();
        self.ipv6.leaving.clear();
        !ran_out_of_time
    }
}
