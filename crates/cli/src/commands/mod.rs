//! The subcommands, one a file.

mod address;
mod completions;
mod demo;
mod list;
mod man;
mod map;
mod probe;
mod status;
mod unmap;

use crate::exit::{Exit, Failure};
use clap::Subcommand;

/// What `plum` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Map(map::Arguments),
    Unmap(unmap::Arguments),
    Probe(probe::Arguments),
    List(list::Arguments),
    Address(address::Arguments),
    Status(status::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Carries out a subcommand.
pub fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Map(arguments) => map::run(arguments),
        Command::Unmap(arguments) => unmap::run(arguments),
        Command::Probe(arguments) => probe::run(arguments),
        Command::List(arguments) => list::run(arguments),
        Command::Address(arguments) => address::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Man(arguments) => man::run(arguments),
    }
}
