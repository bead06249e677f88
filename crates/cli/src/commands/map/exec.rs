//! `--exec COMMAND`: runs a command at each change, beside what keeps the mappings.

use crate::spec::{Port, transport_name};
use crate::view::Status;
use plum::External;
use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What `--help` says of it.
pub const HELP: &str = "\
Run COMMAND at each change of a mapping: when it is made or moved, lost, cannot be made, or is removed at the end.

COMMAND is one text for the shell, which runs it: sh -c COMMAND (on Windows cmd /C COMMAND). It has in its environment \
PLUM_STATE (mapped, lost, failed, removed), PLUM_EXTERNAL_HOST and PLUM_EXTERNAL_PORT (in other states than mapped the last ones, empty \
if there were none), PLUM_INTERNAL_PORT, PLUM_TRANSPORT (tcp, udp), PLUM_PROTOCOL (PCP, NAT-PMP, UPnP-IGD, direct), PLUM_FAMILY (ipv4, ipv6).

Commands run one after the other. What a mapping went through while one was running is left out but for its last state. A command that \
runs long delays no renewal. At the end the last ones, for the state removed, have 10 s for all of them; then they are killed. Their input \
is empty and their output goes to standard error; beside the table on a terminal it goes nowhere. A failure is shown, and changes nothing \
else; the second Ctrl-C ends plum without them. Example: --exec 'transmission-remote --port \"$PLUM_EXTERNAL_PORT\"'";

/// How long the end waits for commands.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How often a running command is looked at, at most and at least: the system gives no event that comes with a limit.
const LOOKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// Runs the commands, on a thread of its own.
pub struct Runner {
    shared: Arc<Shared>,
    /// Where each mapping that was ever made was last, unless it is removed.
    external: HashMap<usize, External>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// At most one for each mapping, the longest waiting first.
    runs: VecDeque<Run>,
    /// No more are to come, and all end by then.
    ends_by: Option<Instant>,
}

/// A command that is to be run.
struct Run {
    /// The mapping's place in the table.
    place: usize,
    state: &'static str,
    environment: [(&'static str, String); 7],
}

/// What came of a command.
pub struct Outcome {
    pub place: usize,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
}

impl Runner {
    /// `tell` is called with what came of each, on the thread that runs them. `has_table`: there is a table on the terminal.
    pub fn start(
        command: String,
        has_table: bool,
        tell: impl Fn(Outcome) + Send + 'static,
    ) -> io::Result<Runner> {
        let shared = Arc::new(Shared::default());
        let work = Arc::clone(&shared);
        let is_quiet = has_table && io::stderr().is_terminal();
        let thread = thread::Builder::new().name("exec".into()).spawn(move || {
            while let Some(run) = work.next() {
                let failure = work.carry_out(&command, is_quiet, &run).err();
                let text = |failure| format!("the command for the state {} failed: {failure}", run.state);
                tell(Outcome { place: run.place, failure: failure.map(text) });
            }
        })?;
        Ok(Runner { shared, external: HashMap::new(), thread })
    }

    /// A mapping has changed: the command runs when its turn comes.
    pub fn handle_change(&mut self, place: usize, port: Port, status: &Status) {
        let state = match status {
            Status::Pending => return,
            Status::Mapped(external) => {
                self.external.insert(place, *external);
                "mapped"
            }
            Status::Lost => "lost",
            Status::Failed(_) => "failed",
            Status::Removed { .. } => return self.handle_end(place, port),
        };
        self.add(Run { place, state, environment: environment(state, port, self.external.get(&place)) });
    }

    /// A mapping is removed: the command runs if it was ever made.
    pub fn handle_end(&mut self, place: usize, port: Port) {
        let state = "removed";
        if let Some(external) = self.external.remove(&place) {
            self.add(Run { place, state, environment: environment(state, port, Some(&external)) });
        }
    }

    fn add(&self, run: Run) {
        let mut queue = self.shared.lock();
        match queue.runs.iter_mut().find(|waiting| waiting.place == run.place) {
            Some(waiting) => *waiting = run,
            None => queue.runs.push_back(run),
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// Waits until all have run, or the time for the end is over.
    pub fn finish(self) {
        self.shared.lock().ends_by = Some(Instant::now() + END_LIMIT);
        self.shared.changed.notify_all();
        // If it has panicked, nothing is left to wait for.
        let _ = self.thread.join();
    }
}

fn environment(state: &'static str, port: Port, external: Option<&External>) -> [(&'static str, String); 7] {
    let of_external = |text: fn(&External) -> String| external.map(text).unwrap_or_default();
    [
        ("PLUM_STATE", state.to_owned()),
        ("PLUM_EXTERNAL_HOST", of_external(|external| external.address.ip().to_string())),
        ("PLUM_EXTERNAL_PORT", of_external(|external| external.address.port().to_string())),
        ("PLUM_INTERNAL_PORT", port.internal.to_string()),
        ("PLUM_TRANSPORT", transport_name(port.transport).to_owned()),
        ("PLUM_PROTOCOL", of_external(|external| external.protocol.to_string())),
        ("PLUM_FAMILY", if port.is_ipv6() { "ipv6" } else { "ipv4" }.to_owned()),
    ]
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next command; `None`: there is none any more, or no time for it.
    fn next(&self) -> Option<Run> {
        let is_idle = |queue: &mut Queue| queue.runs.is_empty() && queue.ends_by.is_none();
        let waited = self.changed.wait_while(self.lock(), is_idle);
        waited.unwrap_or_else(PoisonError::into_inner).runs.pop_front()
    }

    fn carry_out(&self, command: &str, is_quiet: bool, run: &Run) -> Result<(), String> {
        let (output, errors) = match is_quiet {
            true => (Stdio::null(), Stdio::null()),
            false => (io::stderr().into(), Stdio::inherit()),
        };
        let mut shell = system::shell(command);
        shell.stdin(Stdio::null()).stdout(output).stderr(errors);
        shell.envs(run.environment.iter().map(|(name, value)| (name, value)));
        let child = match self.is_over() {
            true => return Err("there was no time left for it".into()),
            false => shell.spawn().map_err(|error| format!("it cannot be run ({error})"))?,
        };
        match self.wait(child).map_err(|error| error.to_string())? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(status.to_string()),
            None => Err(format!(
                "it was killed, because it ran for more than {} s at the end",
                END_LIMIT.as_secs()
            )),
        }
    }

    fn is_over(&self) -> bool {
        self.lock().ends_by.is_some_and(|at| at <= Instant::now())
    }

    /// Waits until a command has ended; `None`: it was killed.
    fn wait(&self, mut child: Child) -> io::Result<Option<ExitStatus>> {
        let [mut pause, longest] = LOOKS;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if self.is_over() {
                system::kill(&mut child)?;
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(pause);
            pause = longest.min(pause * 2);
        }
    }
}

#[cfg(unix)]
mod system {
    use rustix::process::{Pid, Signal, kill_process_group};
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    /// In a group of its own, so that Ctrl-C ends plum first, and the command for the end after it.
    pub fn shell(command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).process_group(0);
        shell
    }

    /// Kills a command and what it has started.
    pub fn kill(child: &mut Child) -> io::Result<()> {
        Ok(kill_process_group(Pid::from_child(child), Signal::KILL)?)
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;
    use std::os::windows::process::CommandExt;
    use std::process::{Child, Command};

    pub fn shell(command: &str) -> Command {
        let mut shell = Command::new("cmd");
        // cmd has rules of quoting that other programs do not have.
        shell.arg("/C").raw_arg(command);
        shell
    }

    pub fn kill(child: &mut Child) -> io::Result<()> {
        child.kill()
    }
}
