//! Replies to DeletePortMapping.

use super::{Replies, on_action};
use crate::core::{Action, Gateway, Reply};

/// Answers DeletePortMapping so, for one external port or for all.
pub fn removal_gets(gateway: &mut Gateway, port: Option<u16>, reply: Replies) {
    on_action(gateway, Action::DeletePortMapping, move |request| match port {
        Some(_) if request.external_port != port => Reply::usual(),
        _ => reply(),
    });
}
