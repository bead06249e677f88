//! How the command ends.

use std::process::ExitCode;

/// What `--help` says of it.
pub const HELP: &str = "\
Exit codes: 0 done (for map: every mapping was made, and removed in the end); 1 something could not be done; 2 the command \
line is wrong; 3 there is no network, or no gateway that answers; 130 interrupted before it was done.

The environment variable PLUM_GATEWAY names the gateway as --gateway does; NO_COLOR switches colours off.";

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
            plum::Error::NotMapped(obstacle) => Exit::from(*obstacle),
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

impl From<plum::Obstacle> for Exit {
    fn from(obstacle: plum::Obstacle) -> Exit {
        match obstacle {
            plum::Obstacle::NoNetwork | plum::Obstacle::NoAnswer { .. } => Exit::NoGateway,
            _ => Exit::Failed,
        }
    }
}
