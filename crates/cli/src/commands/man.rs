//! `plum man`: the manual pages, for those who make packages.

use crate::Cli;
use crate::exit::{CODES, ENVIRONMENT, Exit, Failure};
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Print the manual page plum(1), or write it and those of the subcommands into a folder
#[derive(Args, Debug)]
pub struct Arguments {
    /// Write plum.1, plum-map.1 and so on into this folder
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    // `plum help` gets no page.
    let mut command = Cli::command().disable_help_subcommand(true);
    // From here on the subcommands know that they are plum-map and so on.
    command.build();
    match arguments.into {
        Some(folder) => {
            let name = folder.display().to_string();
            std::fs::create_dir_all(&folder)
                .and_then(|()| write_all(&command, &folder))
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot write to {name}: {error}")))?;
        }
        None => std::io::stdout().write_all(&page(&command)?)?,
    }
    Ok(Exit::Done)
}

/// Writes the pages of a command and its subcommands.
fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_all(subcommand, folder)?;
    }
    std::fs::write(folder.join(Man::new(command.clone()).get_filename()), page(command)?)
}

/// A page: what clap_mangen makes of it, but with sections of the usual names in the place of its EXTRA, which is where it
/// puts the end of the help.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    // The help that ends with them.
    if command.get_after_help().is_some() {
        section("EXIT STATUS", CODES.map(|(exit, meaning)| ((exit as u8).to_string(), meaning)))
            .to_writer(&mut page)?;
        section("ENVIRONMENT", ENVIRONMENT).to_writer(&mut page)?;
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

/// A section that says something of each of several names.
fn section<'a>(heading: &str, entries: impl IntoIterator<Item = (impl Into<String>, &'a str)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, text) in entries {
        roff.control("TP", []).text([bold(name)]).text([roman(text)]);
    }
    roff
}
