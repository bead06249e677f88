//! Time passes in a story: how long something goes on, and that nothing expires meanwhile.

use super::{Scale, Story};
use crate::agreement;
use plum_engine::io::{Event, Protocol};
use plum_engine::time::Time;
use plum_gateway::core::Protocol as MadeBy;
use std::collections::BTreeSet;
use std::time::Duration;

/// How many datagrams' work one span may be.
const WORK: f64 = 3000.0;

impl Story {
    /// How long something goes on.
    pub(super) fn span(&self, rng: &mut fastrand::Rng) -> Duration {
        let most = match self.scale {
            Scale::Minutes => 600,
            Scale::Hours => 4 * 3600,
            Scale::Days => 2 * 86_400,
            Scale::Years => 60 * 86_400,
        };
        // Short spans are where things meet.
        match rng.u32(0..4) {
            0 => Duration::from_millis(rng.u64(0..3000)),
            1 => Duration::from_millis(rng.u64(0..60_000)),
            _ => Duration::from_millis(rng.u64(0..most * 1000)),
        }
    }

    /// The longest span that does not cost more than its share of the machine's time.
    fn affordable(&self, span: Duration) -> Duration {
        let config = self.world.engine().config();
        let keys = 1 + self.live.values().collect::<BTreeSet<_>>().len() + self.ipv6.live.len();
        let shortest = self.world.network.nodes.iter().filter_map(|node| {
            let faults = &node.gateway.faults;
            faults.lifetime.into_iter().chain(faults.max_lifetime).min()
        });
        let lifetime = shortest.min().map_or(7200, |secs| u64::from(secs).max(8)) as f64;
        let states = || self.live.keys().chain(self.ipv6.live.keys()).map(|&id| self.world.state(id));
        let by_upnp = |state| matches!(state, Event::Success { protocol: Protocol::UpnpIgd, .. });
        let looks = states().filter(|&state| by_upnp(state)).count() as f64;
        let failed = states().filter(|&state| state == Event::Failure).count() as f64;
        // Datagrams a second; an exchange is as much work as a dozen, an attempt in vain may be several exchanges.
        let renewals = (2.0 * keys as f64 + 24.0 * looks) / lifetime;
        let rechecks = (2.0 + 12.0 * looks + failed) / config.recheck_interval.as_secs_f64();
        let retries = failed * 20.0 / config.recheck_interval.as_secs_f64().min(30.0);
        let work = match self.scale {
            _ if self.brief => WORK / 20.0,
            Scale::Years => WORK * 10.0,
            _ => WORK,
        };
        span.min(Duration::from_secs_f64(work / (renewals + rechecks + retries)))
    }

    pub(super) fn pass(&mut self, span: Duration) {
        let span = self.affordable(span);
        self.pass_all(span);
    }

    pub(super) fn pass_all(&mut self, span: Duration) {
        let until = self.world.now() + span;
        while self.world.step(until) {
            self.look_at_new_pinholes();
        }
        self.look_at_the_expired();
    }

    /// docs/protocols.md, many mappings: renewals are in time. No mapping runs out on a gateway that answers.
    fn look_at_the_expired(&mut self) {
        let place = self.place();
        for n in 0..self.world.network.nodes.len() {
            while let Some(entry) = self.world.network.nodes[n].gateway.table_mut().pop_expired() {
                let (Some(place), Some(since)) = (&place, self.settled_since) else { continue };
                let node = &self.world.network.nodes[n];
                let is_here = node.home == place.home;
                let at = entry.expires_at.map_or(Time::ZERO, crate::world::engine_time);
                // A renewal that was not answered is followed by others, until 4 s before the end.
                if !is_here || entry.internal.ip() != place.local || at < since + Duration::from_secs(60) {
                    continue;
                }
                for (&id, &key) in &self.live {
                    let is_it = agreement::transport(key.transport) == entry.transport
                        && key.internal_port.get() == entry.internal.port();
                    let before = self.world.timeline(id).iter().rev().find(|(when, _)| *when < at);
                    if let (true, Some(&(_, state @ Event::Success { port, .. }))) = (is_it, before) {
                        let is_its = port.get() == entry.external_port
                            && entry.made_by != MadeBy::Script
                            && !agreement::may_end_unseen(&self.world, place, n, &entry)
                            // Else the last renewal is refused when the lifetime ends here, a round trip before it ends there.
                            && place.reference(&self.world, n).renews(&entry)
                            && place.is_by(&self.world, n, state)
                            // Else it stays SUCCESS until its lifetime ends (docs/protocols.md, many mappings).
                            && agreement::is_spoken_by(&node.gateway, state);
                        assert!(!is_its, "expired: {entry:?} of {id} ({key}) on gateway {n} at {at:?}");
                    }
                }
            }
        }
    }
}
