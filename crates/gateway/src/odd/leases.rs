//! Leases of AddPortMapping.

use super::{Replies, on_additions};
use crate::core::{Gateway, Leases, Reply};
use std::time::Duration;

/// The error codes with which a lease was seen to be refused by routers that know permanent entries alone.
pub const LEASE_REFUSALS: [i32; 15] =
    [402, 403, 501, 600, 601, 606, 701, 715, 716, 725, 726, 899, 0, -911, 65_536];

/// Refuses every lease but 0 so: all kinds of routers of before 2010.
pub fn leases_are_refused(gateway: &mut Gateway, reply: Replies) {
    on_additions(gateway, move |request| match request.lifetime {
        Some(0) => Reply::usual(),
        _ => reply(),
    });
}

/// The same, by an error code.
pub fn leases_get_code(gateway: &mut Gateway, code: i32) {
    on_additions(gateway, move |request| match request.lifetime {
        Some(0) => Reply::usual(),
        _ => Reply::code(code),
    });
}

/// Takes leases of 1 to 3600 s, and refuses others with this error.
pub fn leases_up_to_an_hour(gateway: &mut Gateway, code: i32) {
    on_additions(gateway, move |request| match request.lifetime {
        Some(1..=3600) => Reply::usual(),
        _ => Reply::code(code),
    });
}

/// Grants leases, and has lost them after 2 s: daemons that compare them to another clock. Lease 0 stays.
pub fn leases_vanish(gateway: &mut Gateway) {
    gateway.faults.leases = Leases::GoneAfter(Duration::from_secs(2));
}

/// Grants leases, and makes nothing of them. Lease 0 is made.
pub fn leases_are_not_made(gateway: &mut Gateway) {
    on_additions(gateway, |request| match request.lifetime {
        Some(0) => Reply::usual(),
        _ => Reply::usual().without_effect(),
    });
}

/// Asked again it says success, and leaves the end of the lease where it was.
pub fn leases_are_not_extended(gateway: &mut Gateway) {
    gateway.faults.leases = Leases::NotExtended;
}
