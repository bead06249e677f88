//! `plum man`: the manual pages, for those who make packages.

use crate::examples;
use crate::exit::{ENVIRONMENT, Exit, Failure, causes, codes};
use clap::{Arg, ArgAction, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Print the manual page plum(1), or write it and those of the subcommands into a folder
#[derive(Args, Debug)]
pub struct Arguments {
    /// Write plum.1, plum-map.1 and so on into this folder, which is made if it is not there
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    // `plum help` gets no page.
    let mut command = crate::command().disable_help_subcommand(true);
    // From here on the subcommands know that they are plum-map and so on.
    command.build();
    let pages = pages(&command);
    match arguments.folder {
        Some(folder) => {
            let name = folder.display().to_string();
            std::fs::create_dir_all(&folder)
                .and_then(|()| write_all(&command, &pages, &folder))
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot write to {name}: {error}")))?;
        }
        None => std::io::stdout().write_all(&page(&command, &pages)?)?,
    }
    Ok(Exit::Done)
}

/// The names of the pages of a command and its subcommands.
fn pages(command: &Command) -> Vec<String> {
    let own = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    std::iter::once(own).chain(command.get_subcommands().flat_map(pages)).collect()
}

/// Writes the pages of a command and its subcommands.
fn write_all(command: &Command, pages: &[String], folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_all(subcommand, pages, folder)?;
    }
    std::fs::write(folder.join(Man::new(command.clone()).get_filename()), page(command, pages)?)
}

/// A page: what clap_mangen makes of it, but with a synopsis that names values, and with sections of the usual names in the place of
/// its EXTRA, which is where it puts the end of the help. `pages`: the names of all pages.
fn page(command: &Command, pages: &[String]) -> io::Result<Vec<u8>> {
    let source = concat!("plum ", env!("CARGO_PKG_VERSION"));
    // A page without a date has the same bytes whenever it is made; an empty one would be left out.
    let man = Man::new(command.clone()).date(" ").source(source).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    // The help that ends with them.
    if command.get_after_help().is_some() {
        let codes = codes().into_iter().map(|(number, meaning)| (number.to_string(), meaning));
        section("EXIT STATUS", codes).to_writer(&mut page)?;
        section("ENVIRONMENT", ENVIRONMENT).to_writer(&mut page)?;
    }
    if command.get_name() == "map" {
        section("WHY A PORT IS NOT MAPPED", causes()).to_writer(&mut page)?;
    }
    let examples = examples::of(command.get_name()).iter().map(|example| (example.line, example.effect));
    section("EXAMPLES", examples).to_writer(&mut page)?;
    see_also(command, pages).to_writer(&mut page)?;
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}

/// A section that says something of each of several names.
fn section(heading: &str, entries: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, text) in entries {
        roff.control("TP", []).text([bold(name)]).text([roman(text)]);
    }
    roff
}

/// The other pages, and that of the library.
fn see_also(command: &Command, pages: &[String]) -> Roff {
    let own = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut others: Vec<&str> = pages.iter().map(String::as_str).filter(|page| *page != own).collect();
    others.sort_unstable();
    let mut text: Vec<Inline> = Vec::new();
    for (name, number) in others.into_iter().map(|page| (page, 1)).chain([("libplum", 3)]) {
        if !text.is_empty() {
            text.push(roman(", "));
        }
        text.extend([bold(name), roman(format!("({number})"))]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text(text);
    roff
}

/// The command line, with the values of options. `--help` and `--version` are left to the options.
fn synopsis(command: &Command) -> Roff {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut line = vec![bold(name)];
    let is_told = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    // Options first, as they are written.
    let (values, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(is_told).partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(values) {
        line.push(roman(if arg.is_required_set() { " " } else { " [" }));
        line.extend(words(arg));
        line.push(roman(if arg.is_required_set() { "" } else { "]" }));
        let is_positional_list =
            arg.is_positional() && arg.get_num_args().is_some_and(|range| range.max_values() > 1);
        if is_positional_list || matches!(arg.get_action(), ArgAction::Count | ArgAction::Append) {
            line.push(roman("..."));
        }
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ["), italic("ARGUMENT"), roman("]...")]);
    }
    let mut roff = Roff::new();
    // Names of options are not to be hyphenated.
    roff.control("SH", ["SYNOPSIS"]).control("nh", []).text(line).control("hy", []);
    roff
}

/// An option with its value, or the name of an argument.
fn words(arg: &Arg) -> Vec<Inline> {
    let value = arg.get_value_names().and_then(|names| names.first());
    let value = value.map_or_else(|| arg.get_id().to_string().to_uppercase(), ToString::to_string);
    if arg.is_positional() {
        return vec![italic(value)];
    }
    let short = arg.get_short().map(|letter| bold(format!("-{letter}")));
    let long = arg.get_long().map(|name| bold(format!("--{name}")));
    let mut words: Vec<Inline> = short.into_iter().collect();
    if let Some(long) = long {
        words.extend((!words.is_empty()).then(|| roman("|")));
        words.push(long);
    }
    let is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    if arg.get_action().takes_values() {
        match (is_optional, arg.is_require_equals_set()) {
            (true, true) => words.extend([roman("[="), italic(value), roman("]")]),
            (true, false) => words.extend([roman(" ["), italic(value), roman("]")]),
            (false, true) => words.extend([roman("="), italic(value)]),
            (false, false) => words.extend([roman(" "), italic(value)]),
        }
    }
    words
}
