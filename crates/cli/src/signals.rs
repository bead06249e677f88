//! Signals: SIGINT (Ctrl-C), SIGTERM and SIGHUP end the command, the first in order, the second at once. Those that the process
//! ignores stay ignored.

use crate::exit::{Exit, Failure};
use std::time::{Duration, Instant};

/// A second signal so soon after the first is the same one: `timeout` sends one to the process and one to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(300);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), expect(dead_code, reason = "Windows has none of the terminal's signals"))]
pub enum Signal {
    /// To end in order.
    Stop,
    /// To be suspended, until `fg`: Ctrl-Z on a terminal.
    Suspend,
    /// The terminal has another size.
    Resized,
    /// The process was stopped, and goes on: what the terminal shows is not known.
    Continued,
}

/// Calls `stop` when the command is to end, on a thread of its own.
pub fn on_stop(stop: impl Fn() + Send + 'static) -> Result<(), Failure> {
    on_signals(false, move |_| stop())
}

/// Calls `tell` when a signal has come, on a thread of its own. `has_table`: also when the terminal asks for something.
pub fn on_signals(has_table: bool, tell: impl Fn(Signal) + Send + 'static) -> Result<(), Failure> {
    let mut asked_at: Option<Instant> = None;
    system::listen(has_table, move |signal| {
        if signal == Signal::Stop {
            match asked_at {
                Some(at) if at.elapsed() < SAME_SIGNAL => return,
                Some(_) => std::process::exit(Exit::Interrupted as i32),
                None => asked_at = Some(Instant::now()),
            }
        }
        tell(signal);
    })
    .map_err(|error| Failure::new(Exit::Failed, format!("signals cannot be caught: {error}")))
}

pub use system::suspend;

#[cfg(unix)]
mod system {
    use super::Signal;
    use plum_runtime::net::ignores_signal;
    use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
    use signal_hook::iterator::Signals;
    use std::{io, thread};

    pub fn listen(has_table: bool, mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
        let of_terminal: &[i32] = if has_table { &[SIGTSTP, SIGWINCH, SIGCONT] } else { &[] };
        let caught = [SIGINT, SIGTERM, SIGHUP].iter().chain(of_terminal);
        let mut signals = Signals::new(caught.filter(|&&signal| !ignores_signal(signal)))?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                handle(match signal {
                    SIGTSTP => Signal::Suspend,
                    SIGWINCH => Signal::Resized,
                    SIGCONT => Signal::Continued,
                    _ => Signal::Stop,
                });
            }
        })?;
        Ok(())
    }

    /// Stops the process, until it is continued.
    pub fn suspend() -> io::Result<()> {
        signal_hook::low_level::emulate_default_handler(SIGTSTP)
    }
}

#[cfg(not(unix))]
mod system {
    use super::Signal;
    use std::io;

    pub fn listen(_has_table: bool, mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || handle(Signal::Stop)).map_err(io::Error::other)
    }

    pub fn suspend() -> io::Result<()> {
        Ok(())
    }
}
