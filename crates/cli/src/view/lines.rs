//! A line for each event: what scripts and log files get.
//!
//! `8080/tcp mapped 203.0.113.7:8080 by PCP`, `8080/tcp failed: REASON`, `8080/tcp removed`. Once released, these stay.

use super::{Row, Status, View, reason};
use std::io::{self, Write};
use std::time::Duration;

/// The lines.
#[derive(Debug)]
pub struct Lines;

impl View for Lines {
    fn change(&mut self, rows: &[Row], changed: usize) -> io::Result<()> {
        let Row { port, status, .. } = &rows[changed];
        let mut out = io::stdout().lock();
        match status {
            Status::Pending => return Ok(()),
            Status::Mapped(external) => writeln!(out, "{port} mapped {external} by {}", external.protocol)?,
            Status::Failed(obstacle) => writeln!(out, "{port} failed: {}", reason(obstacle.as_ref()))?,
            Status::Removed { confirmed: true } => writeln!(out, "{port} removed")?,
            Status::Removed { confirmed: false } => writeln!(out, "{port} removed, not confirmed")?,
        }
        out.flush()
    }

    fn tick(&mut self, _rows: &[Row], _left: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn wants_ticks(&self) -> bool {
        false
    }
}
