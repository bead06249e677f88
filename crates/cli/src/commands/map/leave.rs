//! The end of `plum map --leave`: the mappings stay, and it is said until when.
//!
//! A line each, `8080/tcp stays until 2026-02-03T04:05:06Z` or `8080/tcp stays until it is removed, or the gateway ends it`; with
//! `--json` an object with the event `left`, `expires_in_secs` and `expires_at`, null where it has no end. Once released, these stay.

use super::MappingTable;
use crate::spec::transport_name;
use crate::view::{Row, Status, by_family};
use plum::{Mapping, Protocol};
use serde_json::json;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

impl MappingTable {
    /// Whether each port is mapped or, unless that may change, refused.
    pub(super) fn is_settled(&self, keeps_trying: bool) -> bool {
        self.rows.iter().all(|row| match row.status {
            Status::Mapped(_) => true,
            Status::Failed(_) => !keeps_trying,
            Status::Pending | Status::Lost | Status::Removed { .. } => false,
        })
    }

    /// Says until when each mapping stays.
    pub(super) fn tell_left(&mut self, in_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (row, mapping) in self.rows.iter().zip(&self.mappings) {
            let Status::Mapped(external) = &row.status else { continue };
            let left = mapping
                .as_ref()
                .and_then(Mapping::renewal)
                .or(row.renewal)
                .and_then(|renewal| renewal.expires_in);
            let line = match in_json {
                true => object(row, left),
                false if external.protocol == Protocol::Direct => {
                    format!("{} needs no mapping{}", row.port, by_family(row.port))
                }
                false => format!("{} stays{} until {}", row.port, by_family(row.port), end(left)),
            };
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

/// What was asked for without end may have one: miniupnpd makes a week of it, and says nothing.
fn end(left: Option<Duration>) -> String {
    left.map_or_else(|| "it is removed, or the gateway ends it".to_owned(), instant)
}

/// A point in time, in UTC.
fn instant(left: Duration) -> String {
    // Whole seconds: what is left was rounded down by the gateway.
    humantime::format_rfc3339_seconds(SystemTime::now() + left).to_string()
}

fn object(row: &Row, left: Option<Duration>) -> String {
    json!({
        "event": "left",
        "transport": transport_name(row.port.transport),
        "internal_port": row.port.internal,
        "family": if row.port.is_ipv6() { "ipv6" } else { "ipv4" },
        "expires_in_secs": left.map(|left| left.as_secs()),
        "expires_at": left.map(instant),
    })
    .to_string()
}
