//! A JSON object for each event, one a line.

use super::{Row, Status, View, warn_on_stderr};
use crate::reach::Reach;
use crate::spec::transport_name;
use serde::Serialize;
use std::io::{self, Write};
use std::net::IpAddr;

/// The objects.
#[derive(Debug)]
pub struct Json;

/// What every object has, and what the events add to it.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    event: Event<'a>,
    transport: &'static str,
    internal_port: u16,
    /// `ipv4`, `ipv6`.
    family: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    /// The mapping was made, and is being made again.
    Lost,
    Mapped {
        external_address: IpAddr,
        external_port: u16,
        /// The external port that was asked for.
        suggested_external_port: u16,
        /// From where the external address can be reached: `internet`, `carrier-nat`, `private`, `unique-local`, `link-local`.
        reachable_from: Reach,
        /// `PCP`, `NAT-PMP`, `UPnP-IGD`, `direct`.
        protocol: String,
        /// Null: permanent or direct.
        renews_in_secs: Option<u64>,
        /// Null: permanent or direct.
        expires_in_secs: Option<u64>,
        /// What is remarkable about it, a sentence each.
        notes: Vec<String>,
    },
    Failed {
        /// A code of the table in `failures.rs`.
        reason: &'a str,
        message: String,
        advice: &'a str,
        /// Null: it is being tried, or no time is set.
        next_try_in_secs: Option<u64>,
    },
    Removed {
        /// Whether the gateway has confirmed it.
        confirmed: bool,
    },
}

impl View for Json {
    fn change(&mut self, rows: &[Row], changed: usize) -> io::Result<()> {
        let row = &rows[changed];
        let port = row.port;
        let event = match &row.status {
            Status::Pending => return Ok(()),
            Status::Lost => Event::Lost,
            Status::Mapped(external) => Event::Mapped {
                external_address: external.address.ip(),
                external_port: external.address.port(),
                suggested_external_port: port.external_or_same(),
                reachable_from: Reach::of(external.address.ip()),
                protocol: external.protocol.to_string(),
                renews_in_secs: row.renewal.and_then(|renewal| renewal.renews_in).map(|left| left.as_secs()),
                expires_in_secs: row
                    .renewal
                    .and_then(|renewal| renewal.expires_in)
                    .map(|left| left.as_secs()),
                notes: row.remarks(),
            },
            Status::Failed(failure) => Event::Failed {
                reason: failure.kind.code,
                message: failure.sentence(),
                advice: &failure.advice,
                next_try_in_secs: row.next_try.map(|left| left.as_secs()),
            },
            Status::Removed { confirmed } => Event::Removed { confirmed: *confirmed },
        };
        let object = Object {
            event,
            transport: transport_name(port.transport),
            internal_port: port.internal,
            family: if port.is_ipv6() { "ipv6" } else { "ipv4" },
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &object)?;
        writeln!(out)?;
        out.flush()
    }

    fn warn(&mut self, rows: &[Row], concerned: usize) -> io::Result<()> {
        warn_on_stderr(&rows[concerned]);
        Ok(())
    }
}
