//! `plum man`: the manual pages, for those who make packages.

use crate::Cli;
use crate::exit::{Exit, Failure};
use clap::{Args, CommandFactory};
use std::io::Write;
use std::path::PathBuf;

/// Print the manual page plum(1), or write it and those of the subcommands into a folder
#[derive(Args, Debug)]
pub struct Arguments {
    /// Write plum.1, plum-map.1 and so on into this folder
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    // `plum help` gets no page.
    let command = Cli::command().disable_help_subcommand(true);
    match arguments.into {
        Some(folder) => {
            let name = folder.display().to_string();
            std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(command, folder))
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot write to {name}: {error}")))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(Exit::Done)
}
