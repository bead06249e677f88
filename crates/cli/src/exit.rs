//! How the command ends, and what the environment changes.

use crate::failures::{FailureKind, KINDS, MappingFailure};
use std::io;
use std::process::ExitCode;

/// What each exit code means that is not the sentence of one cause.
const CODES: [(Exit, &str); 7] = [
    (Exit::Done, "done (for map: every mapping was made, and removed at the end unless --leave is given)"),
    (Exit::Failed, "something could not be done"),
    (Exit::Usage, "the command line is wrong"),
    (Exit::NoGateway, "there is no network, or no gateway that answers"),
    (Exit::Unfinished, "the time (--timeout, --for) was over, or answers stopped: what is told is not all"),
    (Exit::Interrupted, "interrupted before it was done"),
    (Exit::BrokenPipe, "standard output was closed, as by head"),
];

/// What each variable of the environment does.
pub const ENVIRONMENT: [(&str, &str); 2] =
    [("PLUM_GATEWAY", "names the gateway as --gateway does"), ("NO_COLOR", "switches colours off")];

/// All exit codes with their meanings, in order.
pub fn codes() -> Vec<(u8, String)> {
    let mut codes: Vec<(u8, String)> =
        CODES.iter().map(|&(exit, meaning)| (exit as u8, meaning.to_owned())).collect();
    for kind in KINDS {
        let number = kind.exit as u8;
        if codes.iter().all(|&(known, _)| known != number) {
            codes.push((number, kind.general_words()));
        }
    }
    codes.sort_unstable();
    codes
}

/// What `--help` says of both.
pub fn help() -> String {
    let codes: Vec<String> =
        codes().into_iter().map(|(number, meaning)| format!("{number} {meaning}")).collect();
    let variables = ENVIRONMENT.map(|(name, effect)| format!("{name} {effect}")).join("; ");
    format!("Exit codes: {}.\n\nThe environment variable {variables}.", codes.join("; "))
}

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// Something could not be done.
    Failed = 1,
    /// The command line is wrong (clap ends with this number, too).
    Usage = 2,
    /// No network, or no gateway that answers.
    NoGateway = 3,
    /// The time ended, or answers stopped: the output is true, but not complete.
    Unfinished = 4,
    // One for each cause that prevents a mapping.
    NotAllowed = 5,
    NoRoom = 6,
    WanDown = 7,
    NatBetween = 8,
    Firewall = 9,
    NoHost = 10,
    LeftOver = 11,
    PortTaken = 12,
    NoDescription = 13,
    /// Interrupted before it was done: what shells say of a program that ended by SIGINT.
    Interrupted = 130,
    /// Nobody reads standard output: what shells say of a program that ended by SIGPIPE.
    BrokenPipe = 141,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why the command ends without having done what it was called for.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// One line that says what to do; empty: nothing is to be said.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }
}

impl From<plum::Error> for Failure {
    fn from(error: plum::Error) -> Failure {
        match &error {
            plum::Error::BadGateway(_)
            | plum::Error::BadInterface(_)
            | plum::Error::InterfaceUnsupported
            | plum::Error::PortZero => Failure::new(Exit::Usage, error.to_string()),
            plum::Error::NotMapped(obstacle) => {
                let failure = MappingFailure::of(Some(obstacle));
                Failure::new(failure.kind.exit, failure.to_string())
            }
            _ => Failure::new(Exit::Failed, error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(Exit::BrokenPipe, "");
        }
        Failure::new(Exit::Failed, error.to_string())
    }
}

/// The causes that prevent a mapping, as the manual page has them: code in JSON, and the rest.
pub fn causes() -> impl Iterator<Item = (&'static str, String)> {
    KINDS.into_iter().map(|kind| {
        let FailureKind { code, exit, advice, .. } = kind;
        (*code, format!("{} (exit code {}): {advice}.", kind.general_words(), *exit as u8))
    })
}
