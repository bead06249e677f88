//! Clients for sessions.
//!
//! A client's callers and its worker refer to each other for as long as they like, which is why it lives for ever. A session
//! takes one that no other session uses, so there are never more than there were sessions at once. No id is given out twice
//! by a client: what was a mapping of an ended session is unknown in the next.

use super::events::EventListener;
use plum_runtime::client::Client;
use plum_runtime::net::PerProcess;
use plum_runtime::sync::Mutex;

pub(super) type StaticClient = &'static Client<EventListener>;

/// The clients of this process that have no session. The child of a fork has none of its parent's.
fn idle() -> &'static Mutex<Vec<StaticClient>> {
    static IDLE: PerProcess<Mutex<Vec<StaticClient>>> = PerProcess::new();
    IDLE.get(|_| Mutex::new(Vec::new()))
}

/// A client without a session.
pub(super) fn take() -> StaticClient {
    idle().lock().pop().unwrap_or_else(|| Box::leak(Box::default()))
}

/// A client whose session has ended, or never began.
pub(super) fn give_back(client: StaticClient) {
    idle().lock().push(client);
}
