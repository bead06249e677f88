//! `plum list`.

use crate::exit::{Exit, Failure};
use clap::Args;

/// Show the mappings of a UPnP gateway
#[derive(Args, Debug)]
pub struct Arguments {}

pub fn run(_arguments: Arguments) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "this version cannot do that yet"))
}
