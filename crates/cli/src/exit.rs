//! How the command ends, and what the environment changes.

use std::process::ExitCode;

/// What each exit code means.
pub const CODES: [(Exit, &str); 6] = [
    (Exit::Done, "done (for map: every mapping was made, and removed in the end)"),
    (Exit::Failed, "something could not be done"),
    (Exit::Usage, "the command line is wrong"),
    (Exit::NoGateway, "there is no network, or no gateway that answers"),
    (Exit::Unfinished, "the time (--timeout) was over, or answers stopped: what is told is not all"),
    (Exit::Interrupted, "interrupted before it was done"),
];

/// What each variable of the environment does.
pub const ENVIRONMENT: [(&str, &str); 2] =
    [("PLUM_GATEWAY", "names the gateway as --gateway does"), ("NO_COLOR", "switches colours off")];

/// What `--help` says of both.
pub fn help() -> String {
    let codes = CODES.map(|(exit, meaning)| format!("{} {meaning}", exit as u8)).join("; ");
    let variables = ENVIRONMENT.map(|(name, effect)| format!("{name} {effect}")).join("; ");
    format!("Exit codes: {codes}.\n\nThe environment variable {variables}.")
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
    /// Interrupted before it was done: what shells say of a program that ended by SIGINT.
    Interrupted = 130,
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
    /// One line that says what to do.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }
}

impl From<plum::Error> for Failure {
    fn from(error: plum::Error) -> Failure {
        let exit = match &error {
            plum::Error::BadGateway(_) | plum::Error::PortZero => Exit::Usage,
            plum::Error::NotMapped(obstacle) => Exit::from(obstacle),
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Exit::Failed, error.to_string())
    }
}

impl From<&plum::Obstacle> for Exit {
    fn from(obstacle: &plum::Obstacle) -> Exit {
        match obstacle {
            plum::Obstacle::NoNetwork | plum::Obstacle::NoAnswer { .. } => Exit::NoGateway,
            _ => Exit::Failed,
        }
    }
}
