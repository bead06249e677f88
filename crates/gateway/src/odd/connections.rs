//! HTTP connections.

use crate::core::{Framing, Gateway};

/// Serves one connection at a time, and resets the others: single-threaded servers without a backlog.
pub fn one_connection_at_a_time(gateway: &mut Gateway) {
    gateway.faults.http.max_connections = Some(1);
    gateway.faults.http.resets_beyond = true;
}

/// Serves one connection at a time, and refuses the others.
pub fn refuses_a_second_connection(gateway: &mut Gateway) {
    gateway.faults.http.max_connections = Some(1);
}

/// Keeps connections open though it tells no Content-Length: the reply ends with the document.
pub fn connection_stays_open(gateway: &mut Gateway) {
    gateway.faults.http.framing = Framing::UntilClose;
    gateway.faults.http.keep_open = true;
}

/// Has its HTTP port closed, and answers searches all the same: the daemon has crashed, its parent has not.
pub fn closes_http(gateway: &mut Gateway) {
    gateway.faults.closed.http = true;
}
