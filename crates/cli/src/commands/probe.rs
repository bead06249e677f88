//! `plum probe`: what the network offers, and what to do when nothing works.

use crate::exit::{Exit, Failure};
use crate::inquiry::Whom;
use crate::network::Questions;
use crate::probe::ipv6::verdict::Kind as ByIpv6;
use crate::probe::verdict::{Verdict, judge};
use crate::probe::{Findings, Tried, look_around, try_mapping, view};
use crate::signals;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Instant;

/// Find out what the network offers, and what to do when nothing works
///
/// Asks by PCP, NAT-PMP and UPnP-IGD at the same time, and changes nothing anywhere: whether requests for mappings are answered shows the
/// deletion of one that does not exist. What is said to map ports is what plum map would use.
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    /// Make a mapping too, by IPv6 a pinhole, as a program would, and remove it: PCP tells the external address only so
    #[arg(long)]
    try_map: bool,

    /// Print one JSON object (docs/json.md of the source explains its fields)
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
    if arguments.try_map {
        try_both(&whom, &mut findings)?;
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

/// Tries mappings by the IP versions whose gateway answers.
fn try_both(whom: &Whom, findings: &mut Findings) -> Result<(), Failure> {
    let verdict = judge(findings);
    let is_private = findings.way.as_ref().is_some_and(|way| !way.is_public);
    let can_ipv4 = is_private && !matches!(verdict.exit(), Exit::NoGateway | Exit::Unfinished);
    let can_ipv6 = matches!(verdict.ipv6_verdict.kind, ByIpv6::Ready | ByIpv6::NotAllowed | ByIpv6::Refused);
    if can_ipv4 || can_ipv6 {
        // The trial lasts some seconds at most, and the mapping has to be removed: the first Ctrl-C waits for that.
        signals::on_stop(|| {})?;
    }
    for is_ipv6 in [can_ipv4.then_some(false), can_ipv6.then_some(true)].into_iter().flatten() {
        if whom.until <= Instant::now() {
            findings.unfinished = Some("a mapping was tried");
            return Ok(());
        }
        let mapping = try_mapping(whom, is_ipv6)?;
        if matches!(mapping, Tried::Failed { .. }) && whom.until <= Instant::now() {
            findings.unfinished = Some("the mapping was made");
        }
        *(if is_ipv6 { &mut findings.ipv6.mapping } else { &mut findings.mapping }) = Some(mapping);
    }
    Ok(())
}
