//! What the worker calls: the engine's events on their way to the program.
//!
//! With a DummyTLS domain a SUCCESS is held back until the name of its address is known to resolve or not, a
//! second at most. Events of other mappings pass it; a later event of the same mapping replaces it.

use super::{Client, External, Listener, State};
use crate::dummytls::{DummyTls, Verdict};
use crate::engine::io::{Event, MappingId, Protocol};
use crate::time::Time;
use crate::worker::Program;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

/// The program's side of the worker, for one session.
pub(super) struct Deliveries<L: 'static> {
    client: &'static Client<L>,
    dummytls: Option<Arc<DummyTls>>,
    /// Held back, by the address whose name is asked for: they are all decided together.
    held: BTreeMap<IpAddr, Held>,
    held_by_id: BTreeMap<MappingId, IpAddr>,
}

struct Held {
    /// When the verdict on the name is there at the latest.
    until: Time,
    successes: BTreeMap<MappingId, (Protocol, NonZeroU16)>,
}

impl<L: Listener> Deliveries<L> {
    pub(super) fn new(client: &'static Client<L>, dummytls: Option<Arc<DummyTls>>) -> Deliveries<L> {
        Deliveries { client, dummytls, held: BTreeMap::new(), held_by_id: BTreeMap::new() }
    }

    /// Forgets the SUCCESS that is held back for a mapping.
    fn drop_held(&mut self, id: MappingId) {
        let Some(address) = self.held_by_id.remove(&id) else { return };
        if let Some(held) = self.held.get_mut(&address) {
            held.successes.remove(&id);
            if held.successes.is_empty() {
                self.held.remove(&address);
            }
        }
    }

    fn handle_success(
        &mut self,
        now: Time,
        id: MappingId,
        protocol: Protocol,
        address: IpAddr,
        port: NonZeroU16,
    ) {
        let verdict = match &self.dummytls {
            None => Verdict::Host(address.to_string().into()),
            Some(dummytls) => dummytls.verdict(now, address),
        };
        match verdict {
            Verdict::Host(host) => self.client.set(id, State::Success(External { host, port, protocol })),
            Verdict::Wait(until) => {
                let held =
                    self.held.entry(address).or_insert_with(|| Held { until, successes: BTreeMap::new() });
                held.until = until;
                held.successes.insert(id, (protocol, port));
                self.held_by_id.insert(id, address);
            }
        }
    }

    /// Takes one SUCCESS that need not be held back any longer.
    fn pop_decided(&mut self, now: Time) -> Option<(MappingId, External)> {
        let dummytls = self.dummytls.as_deref()?;
        let (address, host) =
            self.held.iter_mut().find_map(|(&address, held)| match dummytls.verdict(now, address) {
                Verdict::Host(host) => Some((address, host)),
                Verdict::Wait(until) => {
                    held.until = until;
                    None
                }
            })?;
        let (id, (protocol, port)) = self.held.get_mut(&address)?.successes.pop_first()?;
        self.held_by_id.remove(&id);
        if self.held[&address].successes.is_empty() {
            self.held.remove(&address);
        }
        Some((id, External { host, port, protocol }))
    }
}

impl<L: Listener> Program for Deliveries<L> {
    fn handle_event(&mut self, now: Time, id: MappingId, event: Event) {
        self.drop_held(id);
        match event {
            Event::Pending => self.client.set_pending(id),
            Event::Success { protocol, address, port } => {
                self.handle_success(now, id, protocol, address, port)
            }
            Event::Failure => self.client.set(id, State::Failure),
            Event::Destroyed => self.client.set_destroyed(id),
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.held.values().map(|held| held.until).min()
    }

    fn handle_timeout(&mut self, now: Time) -> bool {
        match self.pop_decided(now) {
            Some((id, external)) => {
                self.client.set(id, State::Success(external));
                true
            }
            None => false,
        }
    }

    fn handle_finished(&mut self, _now: Time) {
        // What is held back are SUCCESSes of mappings that had their DESTROYED.
        self.held.clear();
        self.held_by_id.clear();
        self.client.destroy_rest();
    }

    fn handle_panic(&mut self) {
        self.held.clear();
        self.held_by_id.clear();
        // The worker goes on to answer what the program asks of it.
        self.client.fail_all();
    }
}
