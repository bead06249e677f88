//! `plum man`: the manual pages, for those who make packages.

use crate::Cli;
use crate::exit::{Exit, Failure};
use clap::{Args, CommandFactory};
use std::io::Write;
use std::path::PathBuf;

/// Print the manual page plum(1), or write it and those of the subcommands into a folder
#[derive(Args, Debug)]
#[command(hide = true)]
pub struct Arguments {
    /// Write plum.1, plum-map.1 and so on into this folder
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let command = Cli::command();
    match arguments.into {
        Some(folder) => clap_mangen::generate_to(command, folder)?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(Exit::Done)
}
