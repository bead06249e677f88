//! `plum`: opens ports on home routers from the command line.

#![forbid(unsafe_code)]

mod commands;
mod exit;
mod inquiry;
mod network;
mod probe;
mod signals;
mod spec;
mod table;
mod text;
mod upnp;
mod view;

use clap::Parser;
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Standard error is closed: the error cannot be reported.
            let _ = writeln!(anstream::stderr(), "plum: {}", failure.message);
            failure.exit.into()
        }
    }
}
