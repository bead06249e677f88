//! External ports that a gateway does not give.

use super::on_additions;
use crate::core::{Gateway, Reply};
use std::ops::RangeInclusive;

/// Refuses external ports of this range with an error code: 606 of routers that keep the well-known ports for themselves, 718 of
/// those that have them forwarded without an entry.
pub fn ports_are_refused(gateway: &mut Gateway, range: RangeInclusive<u16>, code: i32) {
    on_additions(gateway, move |request| match request.external_port {
        Some(port) if range.contains(&port) => Reply::code(code),
        _ => Reply::usual(),
    });
}

/// Gives external ports of this range alone: carriers' and administrators' rules (miniupnpd's `allow`).
pub fn only_ports_of(gateway: &mut Gateway, range: RangeInclusive<u16>, code: i32) {
    on_additions(gateway, move |request| match request.external_port {
        Some(port) if range.contains(&port) => Reply::usual(),
        _ => Reply::code(code),
    });
}

/// Refuses to make an entry that is there, also to the host that made it (718).
pub fn entries_are_not_replaced(gateway: &mut Gateway) {
    gateway.faults.no_replacement = true;
}
