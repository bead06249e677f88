//! How the mappings of `plum map` are shown: live on a terminal, else line by line.

mod json;
mod lines;
mod live;
mod text;

pub use json::Json;
pub use lines::Lines;
pub use live::Live;
pub use text::span;

use crate::failures::MappingFailure;
use crate::reach::remarks;
use crate::spec::Port;
use plum::{External, Protocol, Renewal};
use std::io;
use std::time::Duration;

/// A mapping, as it is shown.
#[derive(Clone, Debug)]
pub struct Row {
    pub port: Port,
    pub status: Status,
    /// As of now; `None`: there is none.
    pub renewal: Option<Renewal>,
    /// As of now, of what has failed.
    pub next_try: Option<Duration>,
    /// What is remarkable about its port.
    pub note: Option<String>,
    /// What went wrong beside it.
    pub warning: Option<String>,
}

/// The state of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    /// The mapping was made, and is being made again.
    Lost,
    Mapped(External),
    Failed(MappingFailure),
    /// Removed; whether the gateway has confirmed it.
    Removed {
        confirmed: bool,
    },
}

impl Row {
    pub fn new(port: Port) -> Row {
        Row { port, status: Status::Pending, renewal: None, next_try: None, note: None, warning: None }
    }

    /// Why it is not mapped, if it has failed.
    pub fn failure(&self) -> Option<&MappingFailure> {
        match &self.status {
            Status::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// What is remarkable about where it is mapped, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        match self.status {
            Status::Mapped(external) => {
                // Nobody has wished for a port that was chosen.
                let same = if self.port.is_chosen { 0 } else { self.port.internal };
                let wished = self.port.external.unwrap_or(same);
                let mut remarks = remarks(external, wished);
                remarks.extend(self.note.clone());
                remarks
            }
            _ => Vec::new(),
        }
    }
}

/// Shows mappings.
pub trait View {
    /// `rows[changed]` has changed.
    fn change(&mut self, rows: &[Row], changed: usize) -> io::Result<()>;

    /// `rows[concerned]` has a new warning, or none any more.
    fn warn(&mut self, rows: &[Row], concerned: usize) -> io::Result<()>;

    /// The view that is redrawn in place, if it is that.
    fn as_live(&mut self) -> Option<&mut Live> {
        None
    }
}

/// What a line adds that shows no address: nothing for IPv4.
pub fn by_family(port: Port) -> &'static str {
    if port.is_ipv6() { " by IPv6" } else { "" }
}

/// What has mapped the port, in the lines.
fn by_whom(protocol: Protocol) -> String {
    match protocol {
        Protocol::Direct => "without a gateway".to_owned(),
        protocol => format!("by {protocol}"),
    }
}

/// What the views other than the table do with a warning.
fn warn_on_stderr(row: &Row) {
    use io::Write;
    if let Some(warning) = &row.warning {
        // If it cannot be written, the command goes on without it.
        let _ = writeln!(anstream::stderr(), "plum: {}{}: {warning}", row.port, by_family(row.port));
    }
}
