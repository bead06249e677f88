//! The engine's events on their way to the program.
//!
//! With a DummyTLS domain a SUCCESS is held back until it is known whether the name of its address resolves, for a
//! second at most. Events of other mappings overtake it; a later event of the same mapping replaces it.

use super::{Client, ExternalHost, Listener, QueriedState};
use crate::dummytls::{DummyTls, HostStatus};
use crate::worker::Program;
use plum_engine::io::{Event, MappingId, Protocol};
use plum_engine::ordered::Map;
use plum_engine::time::Time;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

/// The worker's program side, for one session.
pub(super) struct Deliveries<L: 'static> {
    client: &'static Client<L>,
    dummytls: Option<Arc<DummyTls>>,
    /// SUCCESSes that are held back, one entry for each address whose name is being resolved.
    held: Vec<Held>,
    held_by_id: Map<MappingId, IpAddr>,
}

/// The SUCCESSes of one address: they are decided together.
struct Held {
    address: IpAddr,
    /// When the host is known at the latest.
    until: Time,
    successes: Map<MappingId, (Protocol, NonZeroU16)>,
}

impl<L: Listener> Deliveries<L> {
    pub(super) fn new(client: &'static Client<L>, dummytls: Option<Arc<DummyTls>>) -> Deliveries<L> {
        Deliveries { client, dummytls, held: Vec::new(), held_by_id: Map::new() }
    }

    /// Drops the SUCCESS of a mapping that is held back.
    fn drop_held(&mut self, id: MappingId) {
        let Some(address) = self.held_by_id.remove(&id) else { return };
        if let Some(held) = self.held.iter_mut().find(|held| held.address == address) {
            held.successes.remove(&id);
        }
        self.drop_empty();
    }

    fn drop_empty(&mut self) {
        self.held.retain(|held| !held.successes.is_empty());
    }

    fn handle_success(
        &mut self,
        now: Time,
        id: MappingId,
        protocol: Protocol,
        address: IpAddr,
        port: NonZeroU16,
    ) {
        let host_status = match &self.dummytls {
            None => HostStatus::Host(address.to_string().into()),
            Some(dummytls) => dummytls.host_status(now, address),
        };
        match host_status {
            HostStatus::Host(host) => {
                self.client.set(id, QueriedState::Success(ExternalHost { host, port, protocol }))
            }
            HostStatus::Wait(until) => {
                let index = match self.held.iter().position(|held| held.address == address) {
                    Some(index) => index,
                    None => {
                        self.held.push(Held { address, until, successes: Map::new() });
                        self.held.len() - 1
                    }
                };
                let held = &mut self.held[index];
                held.until = until;
                held.successes.insert(id, (protocol, port));
                self.held_by_id.insert(id, address);
            }
        }
    }

    /// Takes one SUCCESS whose host is known.
    fn pop_decided(&mut self, now: Time) -> Option<(MappingId, ExternalHost)> {
        let dummytls = self.dummytls.as_deref()?;
        let (held, host) =
            self.held.iter_mut().find_map(|held| match dummytls.host_status(now, held.address) {
                HostStatus::Host(host) => Some((held, host)),
                HostStatus::Wait(until) => {
                    held.until = until;
                    None
                }
            })?;
        let (id, (protocol, port)) = held.successes.pop_first()?;
        self.held_by_id.remove(&id);
        self.drop_empty();
        Some((id, ExternalHost { host, port, protocol }))
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
            Event::Failure => self.client.set(id, QueriedState::Failure),
            Event::Destroyed => self.client.set_destroyed(id),
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.held.iter().map(|held| held.until).min()
    }

    fn handle_timeout(&mut self, now: Time) -> bool {
        match self.pop_decided(now) {
            Some((id, external)) => {
                self.client.set(id, QueriedState::Success(external));
                true
            }
            None => false,
        }
    }

    fn handle_finished(&mut self, _now: Time) {
        // Their mappings have had their DESTROYED.
        self.held.clear();
        self.held_by_id.clear();
        self.client.destroy_rest();
    }

    fn handle_panic(&mut self) {
        self.held.clear();
        self.held_by_id.clear();
        // The worker still handles the program's calls.
        self.client.fail_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::News;
    use super::*;
    use crate::dummytls::tests::service_of;
    use parking_lot::Mutex;
    use plum_engine::io::Wanted;

    #[derive(Clone)]
    struct Nobody;

    impl Listener for Nobody {
        fn tell(&self, _: MappingId, _: &Wanted, _: &News) {}
    }

    /// The clients live for ever; kept here they are no leaks.
    static CLIENTS: Mutex<Vec<&'static Client<Nobody>>> = Mutex::new(Vec::new());

    /// The worker would be called at once again and again if the old time stayed.
    #[test]
    fn a_success_whose_name_is_asked_for_anew_waits_for_the_new_question() {
        let address = IpAddr::from([1, 2, 3, 9]);
        let success = Event::Success { protocol: Protocol::Pcp, address, port: NonZeroU16::MIN };
        for another_comes in [false, true] {
            let service = service_of("tls.example");
            let client = Box::leak(Box::new(Client::new()));
            CLIENTS.lock().push(client);
            let mut deliveries = Deliveries::new(client, Some(Arc::clone(&service.dummytls)));
            let hanging = service.take_threads();
            for id in 0..2 {
                deliveries.handle_event(Time::ZERO, id, success);
            }
            assert_eq!(deliveries.poll_timeout(), Some(Time::from_secs(1)));
            // No thread was free in that second, so the address is reported.
            assert!(deliveries.handle_timeout(Time::from_secs(1)));
            service.free_threads(hanging);
            let _answer = service.system.answer_later("1-2-3-9.tls.example");
            if another_comes {
                deliveries.handle_event(Time::from_secs(2), 2, success);
            } else {
                assert!(!deliveries.handle_timeout(Time::from_secs(2)));
            }
            assert_eq!(deliveries.poll_timeout(), Some(Time::from_secs(3)), "{another_comes}");
        }
    }
}
