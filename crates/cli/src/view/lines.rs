//! A line for each event: what scripts and log files get.
//!
//! `8080/tcp mapped 203.0.113.7:8080 by PCP` (or `without a gateway`), `8080/tcp failed: REASON`, `8080/tcp lost, is being made again`,
//! `8080/tcp removed`; of IPv6 `8080/tcp mapped [2600::1]:8080 by PCP`, `8080/tcp failed by IPv6: REASON`, `8080/tcp removed by IPv6`.
//! What is remarkable about a mapping follows it as `8080/tcp note: SENTENCE`. Once released, these stay.

use super::{Row, Status, View, by_family, by_whom, warn_on_stderr};
use std::io::{self, Write};

/// The lines.
#[derive(Debug)]
pub struct Lines;

impl View for Lines {
    fn change(&mut self, rows: &[Row], changed: usize) -> io::Result<()> {
        let row = &rows[changed];
        let port = row.port;
        let mut out = io::stdout().lock();
        let family = by_family(port);
        match &row.status {
            Status::Pending => return Ok(()),
            Status::Lost => writeln!(out, "{port} lost{family}, is being made again")?,
            Status::Mapped(external) => {
                writeln!(out, "{port} mapped {external} {}", by_whom(external.protocol))?
            }
            Status::Failed(failure) => writeln!(out, "{port} failed{family}: {failure}")?,
            Status::Removed { confirmed: true } => writeln!(out, "{port} removed{family}")?,
            Status::Removed { confirmed: false } => writeln!(out, "{port} removed{family}, not confirmed")?,
        }
        for remark in row.remarks() {
            writeln!(out, "{port} note{family}: {remark}")?;
        }
        out.flush()
    }

    fn warn(&mut self, rows: &[Row], concerned: usize) -> io::Result<()> {
        warn_on_stderr(&rows[concerned]);
        Ok(())
    }
}
