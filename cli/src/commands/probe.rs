//! `plum probe`: what the network offers, and what to do when nothing works.

use crate::exit::{Exit, Failure};
use crate::network::Questions;
use crate::probe::verdict::{Verdict, judge};
use crate::probe::{Findings, Whom, look_around, try_mapping, view};
use crate::signals;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};

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
    let questions = arguments.questions;
    let whom = Whom {
        named: questions.named_gateway()?,
        silence: questions.silence(),
        patience: questions.patience(),
    };
    let mut findings = look_around(whom);
    let can_map = matches!(judge(&findings).exit(), Exit::Done);
    if arguments.try_map && can_map && findings.way.as_ref().is_some_and(|way| !way.is_public) {
        // It lasts some seconds at most, and the mapping has to be removed: the first Ctrl-C waits for that.
        signals::on_stop(|| {})?;
        findings.mapping = Some(try_mapping(whom)?);
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
