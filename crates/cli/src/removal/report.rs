//! What came of a removal, as it is told.

use crate::spec::{Port, transport_name};
use serde::Serialize;
use std::fmt;

/// What one protocol shows of a port after the removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    /// A mapping was there, and is there no more.
    Removed,
    /// No mapping is there.
    Absent,
    /// A mapping is there.
    Present,
    /// A mapping may be there.
    Unknown,
    /// An entry for another host, or for another port of this one, was left alone.
    OtherHost,
    /// The protocol was not asked, or is not spoken there.
    NoAnswer,
}

/// What all protocols show together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A mapping was there, and no protocol shows one any more.
    Removed,
    /// No protocol shows one. Whether one was there before, the gateway did not show.
    NotMapped,
    /// A protocol shows one still.
    StillMapped,
    /// One may be there still.
    Unknown,
    /// An entry for another host, or for another port of this one, was left alone.
    OtherHost,
    /// Nobody answers.
    NoAnswer,
}

impl Outcome {
    /// Whether the port is certainly not mapped any more.
    pub fn is_done(self) -> bool {
        matches!(self, Outcome::Removed | Outcome::NotMapped)
    }
}

/// What came of the removal of a port.
#[derive(Clone, Debug)]
pub struct Report {
    /// Internal port 0: a row of the UPnP list that is not there, named by its external port; without that, every port, or every other one.
    pub port: Port,
    /// Of internal port 0: the UPnP list has ports of this machine, and the other ones are meant.
    pub are_others_listed: bool,
    pub upnp: Sight,
    pub pcp: Sight,
    pub natpmp: Sight,
    /// The external ports whose entries UPnP has removed.
    pub freed: Vec<u16>,
    /// Reasons for what is not removed or not known, each a sentence without its end.
    pub reasons: Vec<String>,
    /// What UPnP's absence is limited to, if the list could not be read.
    pub limit: Option<String>,
}

/// The line of `--json`.
#[derive(Serialize)]
struct Object<'a> {
    outcome: Outcome,
    transport: &'static str,
    /// Null: every port that the UPnP list does not have, or a row that it does not have.
    internal_port: Option<u16>,
    removed_external_ports: &'a [u16],
    upnp: Sight,
    pcp: Sight,
    nat_pmp: Sight,
    message: String,
}

impl Report {
    pub fn new(port: Port) -> Report {
        let [upnp, pcp, natpmp] = [Sight::NoAnswer; 3];
        let (freed, reasons, limit) = (Vec::new(), Vec::new(), None);
        Report { port, are_others_listed: false, upnp, pcp, natpmp, freed, reasons, limit }
    }

    fn sights(&self) -> [(Sight, &'static str); 3] {
        [(self.upnp, "UPnP"), (self.pcp, "PCP"), (self.natpmp, "NAT-PMP")]
    }

    /// The worst that a protocol shows.
    pub fn outcome(&self) -> Outcome {
        let is_any = |wanted| self.sights().iter().any(|&(sight, _)| sight == wanted);
        let by_weight = [
            (Sight::Present, Outcome::StillMapped),
            (Sight::Unknown, Outcome::Unknown),
            (Sight::OtherHost, Outcome::OtherHost),
            (Sight::Removed, Outcome::Removed),
            (Sight::Absent, Outcome::NotMapped),
        ];
        let heaviest = by_weight.into_iter().find(|&(sight, _)| is_any(sight));
        heaviest.map_or(Outcome::NoAnswer, |(_, outcome)| outcome)
    }

    /// The names of the protocols that show this.
    fn names(&self, wanted: Sight, or: &str) -> String {
        let names = self.sights().into_iter().filter(|&(sight, _)| sight == wanted).map(|(_, name)| name);
        join(names.map(str::to_owned).collect(), or)
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let object = Object {
            outcome: self.outcome(),
            transport: transport_name(self.port.transport),
            internal_port: Some(self.port.internal).filter(|&port| port != 0),
            removed_external_ports: &self.freed,
            upnp: self.upnp,
            pcp: self.pcp,
            nat_pmp: self.natpmp,
            message: self.to_string(),
        };
        serde_json::to_string(&object).unwrap_or_default()
    }

    fn freed_text(&self) -> String {
        let ports = join(self.freed.iter().map(u16::to_string).collect(), "and");
        match self.freed.len() {
            0 => String::new(),
            1 => format!("the external port {ports} is free"),
            _ => format!("the external ports {ports} are free"),
        }
    }
}

/// One sentence, as in "8080/tcp removed by UPnP: the external port 18080 is free".
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Port { internal: 0, external: Some(row), transport, .. } = self.port {
            return write!(f, "the UPnP list has no row {row}/{}", transport_name(transport));
        }
        let outcome = self.outcome();
        let other = if self.are_others_listed { "other " } else { "" };
        match (self.port.internal, transport_name(self.port.transport)) {
            (0, transport) if outcome == Outcome::NotMapped => write!(f, "no {other}{transport} port ")?,
            (0, transport) => write!(f, "every {other}{transport} port ")?,
            _ => write!(f, "{} ", self.port)?,
        }
        let reasons = self.reasons.join("; ");
        match outcome {
            Outcome::Removed => {
                write!(f, "removed by {}", self.names(Sight::Removed, "and"))?;
                if !self.freed.is_empty() {
                    write!(f, ": {}", self.freed_text())?;
                }
                return Ok(());
            }
            Outcome::NotMapped => {
                let not = if self.port.internal == 0 { "" } else { "not " };
                write!(f, "is {not}mapped by {}", self.names(Sight::Absent, "or"))?;
                return self.limit.as_ref().map_or(Ok(()), |limit| write!(f, " ({limit})"));
            }
            Outcome::StillMapped => {
                write!(f, "is still mapped by {}: {reasons}", self.names(Sight::Present, "and"))?;
            }
            Outcome::Unknown => {
                write!(f, "may still be mapped by {}: {reasons}", self.names(Sight::Unknown, "or"))?;
            }
            Outcome::OtherHost => write!(f, "not removed: {reasons}")?,
            Outcome::NoAnswer => f.write_str("not removed: nobody answers")?,
        }
        if self.freed.is_empty() { Ok(()) } else { write!(f, " ({} now)", self.freed_text()) }
    }
}

/// As in "a, b and c".
fn join(mut words: Vec<String>, last: &str) -> String {
    match words.pop() {
        Some(end) if !words.is_empty() => format!("{} {last} {end}", words.join(", ")),
        end => end.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_a_protocol_shows_decides() {
        let mut report = Report::new("8080".parse::<crate::spec::Spec>().unwrap().ports().next().unwrap());
        assert_eq!(report.outcome(), Outcome::NoAnswer);
        report.natpmp = Sight::Absent;
        assert_eq!(
            (report.outcome(), report.to_string().as_str()),
            (Outcome::NotMapped, "8080/tcp is not mapped by NAT-PMP")
        );
        report.pcp = Sight::Absent;
        report.upnp = Sight::Absent;
        assert_eq!(report.to_string(), "8080/tcp is not mapped by UPnP, PCP or NAT-PMP");
        (report.upnp, report.freed) = (Sight::Removed, vec![80, 81, 82]);
        assert_eq!(report.outcome(), Outcome::Removed);
        assert_eq!(report.to_string(), "8080/tcp removed by UPnP: the external ports 80, 81 and 82 are free");
        (report.pcp, report.reasons) = (Sight::Unknown, vec!["it says nothing".into()]);
        report.freed.truncate(1);
        let line = "8080/tcp may still be mapped by PCP: it says nothing (the external port 80 is free now)";
        assert_eq!((report.outcome(), report.to_string().as_str()), (Outcome::Unknown, line));
        report.natpmp = Sight::Present;
        assert_eq!(report.outcome(), Outcome::StillMapped);
    }
}
