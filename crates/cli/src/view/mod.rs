//! How the mappings of `plum map` are shown: live on a terminal, else line by line.

mod json;
mod lines;
mod live;

pub use json::Json;
pub use lines::Lines;
pub use live::{Live, span};

use crate::spec::Port;
use plum::{External, Obstacle, Renewal};
use std::io;
use std::time::Duration;

/// A mapping, as it is shown.
#[derive(Clone, Debug)]
pub struct Row {
    pub port: Port,
    pub status: Status,
    /// As of now; `None`: there is none.
    pub renewal: Option<Renewal>,
}

/// The state of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Pending,
    Mapped(External),
    /// `None`: the reason has passed.
    Failed(Option<Obstacle>),
    /// Removed; whether the gateway has confirmed it.
    Removed {
        confirmed: bool,
    },
}

/// Shows mappings.
pub trait View {
    /// `rows[changed]` has changed.
    fn change(&mut self, rows: &[Row], changed: usize) -> io::Result<()>;

    /// A second has passed; `left`: the rest of the time of `--for`.
    fn tick(&mut self, rows: &[Row], left: Option<Duration>) -> io::Result<()>;

    /// Whether it is to be called every second, with the time to the renewals.
    fn wants_ticks(&self) -> bool;
}

/// A reason in a sentence.
pub fn reason(obstacle: Option<&Obstacle>) -> String {
    obstacle.map_or_else(|| "cannot be mapped for now".to_owned(), Obstacle::to_string)
}
