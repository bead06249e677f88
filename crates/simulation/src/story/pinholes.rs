//! IPv6 in a story: its state, and what the program does with pinholes.

use super::{Story, seed_of};
use crate::gateways::{self, percent, pick};
use crate::ipv6_homes::{self, FOREIGN, Families, SECOND_INTERFACE, SECOND_ROUTER, is_lasting};
use crate::pinholes::{self, Ipv6Place, Pinhole, pinhole_key};
use crate::world::{Ipv6Home, ROUTER};
use plum_engine::driver::Key;
use plum_engine::io::{Config, MappingId, Suggestion};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, Faults, PinholeKey};
use plum_wire::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

/// Addresses that are in use at once, at most.
const MOST_ADDRESSES: usize = 8;

/// What a story has of IPv6.
pub(super) struct Ipv6Story {
    /// Its families.
    pub families: Families,
    /// What each home is like when nothing is wrong.
    pub homes: Vec<Ipv6Home>,
    /// The program's mappings to IPv6 addresses.
    pub live: BTreeMap<MappingId, Pinhole>,
    /// Since when all is quiet, IPv6 too, and has had its time to settle.
    pub settled_since: Option<Time>,
    /// Pinholes whose mappings are destroyed, when, and on which gateway.
    pub leaving: Vec<(Time, usize, PinholeKey)>,
    /// See `Ipv6Place`.
    pub stale: BTreeSet<(usize, PinholeKey)>,
    /// All addresses that the present engines may have used.
    pub used: BTreeSet<Ipv6Addr>,
    /// See `Ipv6Place`.
    pub lacked_lasting: bool,
    /// The number of the next prefix or host part that is new.
    pub next_number: u16,
    /// The generator of the present step: IPv6 draws nothing from those of IPv4.
    pub rng: fastrand::Rng,
}

impl Ipv6Story {
    /// The homes and the gateways' part of IPv6. It has a generator of its own: without it a story is the same.
    pub fn new(seed: u64, homes: usize, configs: &mut Vec<(gateway::Config, usize, u32)>) -> Ipv6Story {
        let mut rng = fastrand::Rng::with_seed(seed_of(seed, 5));
        let families = Families::draw(&mut rng);
        let mut drawn = vec![Ipv6Home::default(); homes];
        if families != Families::Ipv4 {
            let has_two_links = percent(&mut rng, 20);
            let mut has_router = vec![false; homes];
            let mut has_two_routers = vec![false; homes];
            for (config, home, _) in configs.iter_mut() {
                if percent(&mut rng, 12) {
                    continue;
                }
                has_two_routers[*home] |= has_router[*home];
                let router =
                    if std::mem::replace(&mut has_router[*home], true) { SECOND_ROUTER } else { ROUTER };
                *config = config.clone().with_ipv6(router);
            }
            if has_two_links {
                let address = IpAddr::V4(Ipv4Addr::new(192, 168, 7, 1));
                let config = gateways::config(&mut rng, address, Ipv4Addr::new(203, 0, 113, 70));
                configs.push((config.with_ipv6(ROUTER), 0, SECOND_INTERFACE));
            }
            for (n, home) in drawn.iter_mut().enumerate() {
                *home = ipv6_homes::home(&mut rng, n, has_two_routers[n], has_two_links && n == 0);
            }
        }
        Ipv6Story {
            families,
            homes: drawn,
            live: BTreeMap::new(),
            settled_since: None,
            leaving: Vec::new(),
            stale: BTreeSet::new(),
            used: BTreeSet::new(),
            lacked_lasting: false,
            next_number: 2,
            rng,
        }
    }

    /// What gateways are like as firewalls, for good.
    pub fn characters(&mut self, characters: &mut [Faults]) {
        if self.families == Families::Ipv4 {
            return;
        }
        for faults in characters {
            faults.nonce_guards_deletion_only = percent(&mut self.rng, 20);
            faults.firewall_disabled = percent(&mut self.rng, 5);
            faults.inbound_pinholes_forbidden = percent(&mut self.rng, 8);
        }
    }

    /// PLUM_GATEWAY names an IPv6 address now and then.
    pub fn configure(&mut self, config: &mut Config) {
        let is_named = percent(&mut self.rng, 3);
        if is_named && self.families != Families::Ipv4 && config.gateway.is_none() {
            (config.gateway, config.gateway_zone) = (Some((ROUTER.into(), None)), Some("2".into()));
        }
    }

    /// The machine's addresses are these: what the engines may make of them.
    pub fn note_addresses(&mut self, ipv6: &Ipv6Home) {
        let interface = ipv6.addresses.interface;
        let mut chosen_from = ipv6.addresses.list.iter().filter(|known| Some(known.interface) == interface);
        self.lacked_lasting |= !chosen_from.any(is_lasting);
        self.used.extend(ipv6.addresses.list.iter().map(|known| known.address));
    }
}

impl Story {
    /// Nothing is quiet for IPv6 any more.
    pub(super) fn disturb_ipv6(&mut self) {
        self.ipv6.settled_since = None;
        self.ipv6.leaving.clear();
    }

    pub(super) fn ipv6_place(&self) -> Ipv6Place {
        let config = self.config();
        Ipv6Place {
            home: self.world.network.home(),
            gateway: config.gateway.map(|(address, _)| address),
            allowed: config.allowed,
            mismatch: self.has_lasting_trouble,
            has_taught: self.has_taught,
            traits: self.traits.clone(),
            stale: self.ipv6.stale.clone(),
            has_lost: self.has_lost,
            is_crowded: self.ipv6.used.len() > MOST_ADDRESSES,
            lacked_lasting: self.ipv6.lacked_lasting,
        }
    }

    /// What a pinhole is to lead to.
    fn target(&mut self, rng: &mut fastrand::Rng) -> Option<Ipv6Addr> {
        let own: Vec<Ipv6Addr> =
            self.world.network.ipv6.addresses.list.iter().map(|known| known.address).collect();
        match rng.u32(0..20) {
            0..11 => None,
            11..15 if !own.is_empty() => Some(pick(rng, &own)),
            15 | 16 => {
                // What the program was told is handed back, as far as that is an address of the machine.
                let ids: Vec<MappingId> = self.ipv6.live.keys().copied().collect();
                let mut told = ids.iter().filter_map(|&id| match self.world.success(id)?.1 {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                });
                told.rfind(|address| own.contains(address))
            }
            // One that may come.
            17 => Some(ipv6_homes::address(0x2600, self.ipv6.next_number, 0x100)),
            _ => Some(pick(rng, &FOREIGN)),
        }
    }

    pub(super) fn create_pinhole(&mut self, rng: &mut fastrand::Rng, port: u16) -> MappingId {
        let transport = if rng.bool() { Transport::Tcp } else { Transport::Udp };
        let named = self.target(rng);
        let wish = Suggestion {
            address: Some(named.unwrap_or(Ipv6Addr::UNSPECIFIED).into()),
            port: NonZeroU16::new(if percent(rng, 80) { 0 } else { rng.u16(20_000..20_010) }),
            ..Suggestion::default()
        };
        let id = self.world.create_wishing(transport, port, wish);
        let key =
            Key { transport, internal_port: NonZeroU16::new(port).expect("ports of stories are not 0") };
        self.ipv6.live.insert(id, Pinhole { key, named });
        id
    }

    pub(super) fn destroy_pinhole(&mut self, id: MappingId) {
        let Some(pinhole) = self.ipv6.live.remove(&id) else { return };
        if self.ipv6.settled_since.is_some() {
            let claim = self.closable(id, &pinhole);
            let now = self.world.now();
            self.ipv6.leaving.extend(claim.map(|(node, key)| (now, node, key)));
        }
        self.world.destroy(id);
    }

    /// The pinhole that must be gone once a mapping is destroyed, if no other has it.
    fn closable(&self, id: MappingId, pinhole: &Pinhole) -> Option<(usize, PinholeKey)> {
        let place = self.ipv6_place();
        let (node, client) = place.claim(&self.world, pinhole, self.world.state(id))?;
        let key = pinhole_key(pinhole.key, client);
        let is_shared =
            self.ipv6.live.iter().any(|(&other, theirs)| other != id && theirs.key == pinhole.key);
        (!is_shared && pinholes::can_be_closed_alone(&self.world, &place, node, &key)).then_some((node, key))
    }

    /// All pinholes that must be gone after cleanup.
    pub(super) fn closable_pinholes(&self) -> Vec<(usize, PinholeKey)> {
        if self.ipv6.settled_since.is_none() {
            return Vec::new();
        }
        let place = self.ipv6_place();
        let claims = self.ipv6.live.iter().filter_map(|(&id, pinhole)| {
            let (node, client) = place.claim(&self.world, pinhole, self.world.state(id))?;
            let key = pinhole_key(pinhole.key, client);
            pinholes::can_be_closed(&self.world, &place, node, &key).then_some((node, key))
        });
        claims.collect()
    }

    /// Pinholes come and go, on the ports of the other family's mappings, so that keys meet.
    pub(super) fn live_on_ipv6(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.usize(1..10) {
            if !self.ipv6.live.is_empty() && percent(rng, 35) {
                let ids: Vec<MappingId> = self.ipv6.live.keys().copied().collect();
                self.destroy_pinhole(pick(rng, &ids));
            } else {
                let port = rng.u16(8000..8010);
                self.create_pinhole(rng, port);
            }
            self.pass(Duration::from_millis(rng.u64(0..400)));
        }
    }

    pub(super) fn create_many_pinholes(&mut self, rng: &mut fastrand::Rng) {
        if self.ipv6.live.len() > 100 {
            return self.destroy_pinholes(rng);
        }
        let first = rng.u16(10_000..10_500);
        for port in first..first + rng.u16(5..40) {
            self.create_pinhole(rng, port);
        }
    }

    pub(super) fn destroy_pinholes(&mut self, rng: &mut fastrand::Rng) {
        let ids: Vec<MappingId> = self.ipv6.live.keys().copied().collect();
        let some = percent(rng, 50);
        for id in ids {
            if !some || rng.bool() {
                self.destroy_pinhole(id);
            }
        }
    }

    /// Another session has begun: its engines know no nonce of the last one.
    pub(super) fn forget_pinholes(&mut self) {
        self.disturb_ipv6();
        self.ipv6.used.clear();
        self.ipv6.lacked_lasting = false;
        self.ipv6.stale.clear();
        self.note_stale(|_| true);
        let ipv6 = self.world.network.ipv6.clone();
        self.ipv6.note_addresses(&ipv6);
    }

    /// Nonces of pinholes are lost.
    pub(super) fn note_stale(&mut self, is_lost: impl Fn(&PinholeKey) -> bool) {
        for n in 0..self.world.network.nodes.len() {
            let pinholes = self.world.pinholes_of(n).into_iter().map(|pinhole| pinhole.key);
            self.ipv6.stale.extend(pinholes.filter(&is_lost).map(|key| (n, key)));
        }
    }

    /// The network has reordered or delayed packets: a request that its deletion has overtaken leaves a pinhole that the
    /// engine takes for deleted. The next request has another nonce, which may prolong it and may not delete it.
    pub(super) fn note_overtaken(&mut self) {
        let place = self.ipv6_place();
        let claims = self.ipv6.live.iter().filter_map(|(&id, pinhole)| {
            let (_, client) = place.claim(&self.world, pinhole, self.world.state(id))?;
            Some(pinhole_key(pinhole.key, client))
        });
        let claimed: BTreeSet<PinholeKey> = claims.collect();
        self.note_stale(|key| !claimed.contains(key));
    }

    /// What is new is true.
    pub(super) fn look_at_new_pinholes(&mut self) {
        let new = self.world.engine_mut().take_new_pinholes();
        if new.is_empty() || self.ipv6.settled_since.is_none() {
            return;
        }
        let place = self.ipv6_place();
        for id in new {
            if let Some(pinhole) = self.ipv6.live.get(&id)
                && !place.may_be_hit(&self.world, pinhole.key, self.world.state(id))
            {
                place.a_success_is_true(&self.world, id, pinhole);
            }
        }
    }
}
