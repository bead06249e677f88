//! `plum completions`: for the shells.

use crate::exit::{Exit, Failure};
use clap::Args;
use clap_complete::Shell;
use std::io::Write;

/// Print the completions for a shell
///
/// Packages bring them along. By hand: for bash, into ~/.local/share/bash-completion/completions/plum; for fish, into
/// ~/.config/fish/completions/plum.fish; for zsh, into a file _plum in a folder of $fpath.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::command(), "plum", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}
