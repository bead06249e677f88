//! `plum probe`.

use crate::exit::{Exit, Failure};
use clap::Args;

/// Find out what the network offers, and what to do when nothing works
#[derive(Args, Debug)]
pub struct Arguments {}

pub fn run(_arguments: Arguments) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "this version cannot do that yet"))
}
