//! `plum`: opens ports on home routers from the command line.

#![forbid(unsafe_code)]

mod commands;
mod examples;
mod exit;
mod failures;
mod free_port;
mod inquiry;
#[cfg(test)]
mod json_page;
mod network;
#[cfg(test)]
mod pages;
mod probe;
mod reach;
mod removal;
mod signals;
mod spec;
mod table;
mod text;
mod upnp;
mod view;

use clap::{CommandFactory, FromArgMatches, Parser};
use commands::Command;
use std::io::Write;
use std::process::ExitCode;

/// Opens ports on home routers by PCP, NAT-PMP and UPnP-IGD, and keeps them open.
#[derive(Debug, Parser)]
#[command(name = "plum", version, max_term_width = 100, after_help = exit::help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The command line, with examples in its help.
fn command() -> clap::Command {
    examples::add_to(Cli::command())
}

fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    match commands::run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                // Standard error is closed: the error cannot be reported.
                let _ = writeln!(anstream::stderr(), "plum: {}", failure.message);
            }
            failure.exit.into()
        }
    }
}
