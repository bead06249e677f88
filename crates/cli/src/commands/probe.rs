//! `plum probe`: what the network offers, and what to do when nothing works.

use crate::exit::{Exit, Failure};
use crate::network::Questions;
use crate::probe::verdict::{Verdict, judge};
use crate::probe::{Findings, Tried, look_around, try_mapping, view};
use crate::signals;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Instant;

/// Find out what the network offers, and what to do when nothing works
///
/// Asks by PCP, NAT-PMP and UPnP-IGD at the same time, and changes nothing anywhere.
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    /// Make a mapping, too, as a program would, and remove it: PCP tells the external address only so
    #[arg(long)]
    try_map: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Show URLs and other details
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    questions: Questions,
}

/// All that `--json` prints.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(flatten)]
    findings: &'a Findings,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let whom = arguments.questions.whom(arguments.try_map)?;
    let mut findings = look_around(&whom)?;
    let can_map = matches!(judge(&findings).exit(), Exit::Done);
    let is_to_try = arguments.try_map && can_map && findings.way.as_ref().is_some_and(|way| !way.is_public);
    if is_to_try && whom.until <= Instant::now() {
        findings.unfinished = Some("a mapping was tried");
    } else if is_to_try {
        // It lasts some seconds at most, and the mapping has to be removed: the first Ctrl-C waits for that.
        signals::on_stop(|| {})?;
        let mapping = try_mapping(&whom)?;
        if matches!(mapping, Tried::Failed { .. }) && whom.until <= Instant::now() {
            findings.unfinished = Some("the mapping was made");
        }
        findings.mapping = Some(mapping);
    }
    let verdict = judge(&findings);
    if arguments.json {
        let mut out = io::stdout().lock();
        let object = Object { verdict: &verdict, findings: &findings };
        serde_json::to_writer(&mut out, &object).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        view::write(&mut anstream::stdout().lock(), &findings, &verdict, arguments.verbose)?;
    }
    Ok(verdict.exit())
}
