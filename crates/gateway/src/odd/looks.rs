//! Replies to GetSpecificPortMappingEntry.

use super::natpmp::InternalPort;
use super::{Replies, on_action, set_element};
use crate::core::{Action, Gateway, Reply};
use std::time::Duration;

/// Answers GetSpecificPortMappingEntry so, always: many small HTTP servers know AddPortMapping and DeletePortMapping alone.
pub fn looks_get(gateway: &mut Gateway, reply: Replies) {
    on_action(gateway, Action::GetSpecificPortMappingEntry, move |_| reply());
}

/// Shows entries with another internal port than they have: 0 (old Broadcom daemons), or the external one (ZyXEL).
pub fn looks_show(gateway: &mut Gateway, shown: InternalPort) {
    on_action(gateway, Action::GetSpecificPortMappingEntry, move |request| {
        let port = match shown {
            InternalPort::Zero => 0,
            InternalPort::External => request.external_port.unwrap_or(0),
        };
        Reply::edited(move |body| set_element(body, "NewInternalPort", &port.to_string()))
    });
}

/// Shows every entry as another host's: routers that report the address of their own bridge.
pub fn looks_show_another_host(gateway: &mut Gateway) {
    on_action(gateway, Action::GetSpecificPortMappingEntry, |_| {
        Reply::edited(|body| set_element(body, "NewInternalClient", "192.168.1.250"))
    });
}

/// Knows no entry, its own neither.
pub fn looks_deny_entries(gateway: &mut Gateway) {
    looks_get(gateway, || Reply::code(714));
}

/// The same, and takes its time to say so.
pub fn looks_deny_slowly(gateway: &mut Gateway, delay: Duration) {
    on_action(gateway, Action::GetSpecificPortMappingEntry, move |_| Reply::code(714).after(delay));
}
