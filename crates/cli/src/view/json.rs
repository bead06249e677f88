//! A JSON object for each event, one a line.

use super::{Row, Status, View, reason};
use crate::spec::transport_name;
use plum::Obstacle;
use serde::Serialize;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

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
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Mapped {
        external_address: IpAddr,
        external_port: u16,
        /// `PCP`, `NAT-PMP`, `UPnP-IGD`, `direct`.
        protocol: String,
        /// Null: permanent or direct.
        renews_in_secs: Option<u64>,
        /// Null: permanent or direct.
        expires_in_secs: Option<u64>,
    },
    Failed {
        /// `no-network`, `no-answer`, `refused`, `unknown`.
        reason: &'a str,
        message: &'a str,
    },
    Removed {
        /// Whether the gateway has confirmed it.
        confirmed: bool,
    },
}

/// The reason in a word, for programs.
fn word(obstacle: Option<&Obstacle>) -> &'static str {
    match obstacle {
        Some(Obstacle::NoNetwork) => "no-network",
        Some(Obstacle::NoAnswer { .. }) => "no-answer",
        Some(Obstacle::Refused { .. }) => "refused",
        _ => "unknown",
    }
}

impl View for Json {
    fn change(&mut self, rows: &[Row], changed: usize) -> io::Result<()> {
        let Row { port, status, renewal } = &rows[changed];
        let message;
        let event = match status {
            Status::Pending => return Ok(()),
            Status::Mapped(external) => Event::Mapped {
                external_address: external.address.ip(),
                external_port: external.address.port(),
                protocol: external.protocol.to_string(),
                renews_in_secs: renewal.and_then(|renewal| renewal.renews_in).map(|left| left.as_secs()),
                expires_in_secs: renewal.and_then(|renewal| renewal.expires_in).map(|left| left.as_secs()),
            },
            Status::Failed(obstacle) => {
                message = reason(obstacle.as_ref());
                Event::Failed { reason: word(obstacle.as_ref()), message: &message }
            }
            Status::Removed { confirmed } => Event::Removed { confirmed: *confirmed },
        };
        let object =
            Object { event, transport: transport_name(port.transport), internal_port: port.internal };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &object)?;
        writeln!(out)?;
        out.flush()
    }

    fn tick(&mut self, _rows: &[Row], _left: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        false
    }
}
