//! Clients for sessions.
//!
//! A client is referenced by its callers and its worker for any time, so it lives for ever. A session takes an unused
//! one, so there are never more clients than there were sessions at the same time. A client never reuses an id: a
//! mapping of an ended session is unknown in the next.

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
