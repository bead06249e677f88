//! The external address.

use super::{Replies, on_action};
use crate::core::{Action, Gateway};

/// Answers GetExternalIPAddress so, always.
pub fn address_gets(gateway: &mut Gateway, reply: Replies) {
    on_action(gateway, Action::GetExternalIPAddress, move |_| reply());
}

/// Says this in place of the external address: an IPv6 one (dual-stack lite), nothing or 0.0.0.0 (WAN down), or words.
pub fn address_is(gateway: &mut Gateway, text: &str) {
    gateway.faults.external_address_text = Some(text.into());
}
