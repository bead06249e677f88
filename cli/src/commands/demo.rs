//! `plum demo`.

use crate::exit::{Exit, Failure};
use clap::Args;

/// Map a port through a simulated gateway on this machine
#[derive(Args, Debug)]
pub struct Arguments {}

pub fn run(_arguments: Arguments) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "this version cannot do that yet"))
}
