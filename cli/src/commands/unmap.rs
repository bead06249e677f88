//! `plum unmap`.

use crate::exit::{Exit, Failure};
use clap::Args;

/// Remove mappings at the gateway
#[derive(Args, Debug)]
pub struct Arguments {}

pub fn run(_arguments: Arguments) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "this version cannot do that yet"))
}
