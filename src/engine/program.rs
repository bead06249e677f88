//! What the program is told of its mappings, and that each is told only what is news.

#![forbid(unsafe_code)]

use super::driver::Key;
use super::io::{Event, MappingId, Output, Protocol};
use super::mapping::{External, State};
use super::{Engine, Timer};
use crate::log::log;
use std::net::IpAddr;

impl Engine {
    /// Tells one mapping of the program.
    pub(super) fn tell(&mut self, id: MappingId, event: Event) {
        log!(Debug, "mapping {id}: {event:?}");
        self.outputs.push_back(Output::Event { id, event });
    }

    /// Tells all holders of a mapping that do not know it yet.
    pub(super) fn tell_all(&mut self, key: Key, event: Event) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let mut news = Vec::new();
        mapping.holders.for_each_mut(|id, told| {
            if *told != Some(event) {
                *told = Some(event);
                news.push(id);
            }
        });
        for id in news {
            self.tell(id, event);
        }
    }

    /// Tells a mapping that joined others what they know already.
    pub(super) fn tell_newcomer(&mut self, key: Key, id: MappingId) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let known = match mapping.state {
            State::Mapped { protocol, external, .. } => {
                Some(Event::Success { protocol, address: external.address, port: external.port })
            }
            // What the others were told last, unless it is PENDING, in which case the newcomer waits with them.
            _ => mapping.holders.values().flatten().find(|event| **event == Event::Failure).copied(),
        };
        if let Some(event) = known {
            mapping.holders.insert(id, Some(event));
            self.tell(id, event);
        }
    }

    /// A mapping that was told SUCCESS is lost: it waits again, and its next SUCCESS is told in any case.
    pub(super) fn lose(&mut self, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        mapping.lost |= mapping.mapped_by().is_some();
        mapping.state = State::Waiting;
        mapping.has_turn = false;
        self.waiting.insert(key);
        self.timers.cancel(Timer::Mapping(key));
        self.unsettled = true;
        // A mapping that failed stays so until it succeeds.
        let mut news = Vec::new();
        mapping.holders.for_each_mut(|id, told| {
            if matches!(told, Some(Event::Success { .. })) {
                *told = Some(Event::Pending);
                news.push(id);
            }
        });
        for id in news {
            self.tell(id, Event::Pending);
        }
    }

    /// Nobody can make a waiting mapping for now; it keeps waiting, and is told so once.
    pub(super) fn fail(&mut self, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        if mapping.holders.values().any(|told| *told != Some(Event::Failure)) {
            log!(Warn, "{key}: no gateway can map it for now");
        }
        self.tell_all(key, Event::Failure);
    }

    /// The local address is public: the mapping is made without asking anyone.
    pub(super) fn map_directly(&mut self, key: Key, address: IpAddr) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let external = External { address, port: key.internal_port };
        mapping.state = State::Mapped { protocol: Protocol::Direct, external, lease: None };
        self.waiting.remove(&key);
        self.tell_success(key);
    }

    /// Tells all holders of a mapping that it is made, if that is news.
    pub(super) fn tell_success(&mut self, key: Key) {
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let State::Mapped { protocol, external, .. } = mapping.state else { return };
        mapping.last = Some(external);
        if std::mem::take(&mut mapping.lost) {
            for told in mapping.holders.values_mut() {
                *told = None;
            }
        }
        self.tell_all(key, Event::Success { protocol, address: external.address, port: external.port });
    }
}
