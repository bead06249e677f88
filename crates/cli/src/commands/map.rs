//! `plum map`: maps ports and keeps them mapped.

mod agreement;
mod ending;
mod exec;
mod leave;
mod wishes;

use crate::exit::{Exit, Failure};
use crate::failures::MappingFailure;
use crate::network::{Network, parse_span};
use crate::signals::{self, Signal};
use crate::spec::{self, Family, Port, Spec};
use crate::view::{Json, Lines, Live, Row, Status, View};
use agreement::Ties;
use clap::Args;
use ending::{End, Outcome, Removed};
use plum::{Change, Event, Mapping, MappingId, Session, State};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::net::Ipv6Addr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use wishes::Wishes;

/// How often the live view is redrawn: its times are in seconds.
const TICK: Duration = Duration::from_secs(1);

/// Map ports and keep them mapped, until Ctrl-C or for a time, then remove them
///
/// Mappings are renewed, and made anew when the gateway restarts or the network changes. The command ends when none of the ports
/// can be mapped, unless --keep-trying is given; a second Ctrl-C ends it without waiting for the gateway.
#[derive(Args, Debug)]
#[command(after_help = crate::exit::help())]
pub struct Arguments {
    #[arg(required = true, value_name = "PORT", help = "What to map, as in 8080 or 6881/udp:16881", long_help = spec::HELP)]
    ports: Vec<Spec>,

    /// Open pinholes for IPv6 in the gateway's firewall, in place of mappings of IPv4: to an address of this machine that is chosen, or
    /// to this one
    #[arg(
        long,
        value_name = "ADDR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "::",
        conflicts_with = "both"
    )]
    ipv6: Option<Ipv6Addr>,

    /// Map each port by IPv4, and open a pinhole for IPv6, side by side
    #[arg(long)]
    both: bool,

    /// Remove the mappings after this time, as in 90s or 2h 30m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    span: Option<Duration>,

    /// Go on when none of the ports can be mapped: that may change
    #[arg(long)]
    keep_trying: bool,

    /// Run COMMAND by the shell at each change of a mapping, which its environment describes
    #[arg(long, value_name = "COMMAND", long_help = exec::HELP)]
    exec: Option<String>,

    /// Print events as JSON, one object a line (docs/json.md of the source explains the fields)
    #[arg(long)]
    json: bool,

    /// Print events line by line on a terminal, too
    #[arg(long, conflicts_with = "json")]
    plain: bool,

    #[command(flatten)]
    wishes: Wishes,

    #[command(flatten)]
    network: Network,
}

/// What the command waits for.
enum Input {
    Event(Event),
    Signal(Signal),
    Executed(exec::Outcome),
    /// A mapping is removed that is to be asked for again.
    Vacated(usize),
}

/// The mappings and how they are shown.
struct MappingTable {
    /// `None`: it is being removed, to be asked for again.
    mappings: Vec<Option<Mapping>>,
    rows: Vec<Row>,
    /// Whether each was ever made.
    made: Vec<bool>,
    places: HashMap<MappingId, usize>,
    /// Those that are to agree on their ports.
    ties: Ties,
    gateway_is_named: bool,
    /// The interface that is named.
    interface: Option<String>,
    view: Box<dyn View>,
    /// SIGCONT is to come, by which `suspend` has ended.
    was_suspended: bool,
    /// What runs the commands of `--exec`.
    runner: Option<exec::Runner>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let until = arguments.span.and_then(|span| Instant::now().checked_add(span));
    let ports = ports(&arguments.ports)?;
    let families = match (arguments.both, arguments.ipv6) {
        (true, _) => vec![Family::Ipv4, Family::Ipv6(Ipv6Addr::UNSPECIFIED)],
        (false, Some(address)) => vec![Family::Ipv6(address)],
        (false, None) => vec![Family::Ipv4],
    };
    if arguments.both && ports.iter().any(|port| port.is_chosen) {
        return Err(Failure::new(
            Exit::Usage,
            "a port is chosen for one IP version: name one in place of 0, or leave out --both",
        ));
    }
    let ports =
        ports.into_iter().flat_map(|port| families.iter().map(move |&family| Port { family, ..port }));
    let ports: Vec<Port> = ports.collect();
    arguments.wishes.check(&ports, arguments.network.protocol)?;
    let mut builder = arguments.network.builder()?;
    if arguments.wishes.leave {
        builder = builder.leave_mappings();
    }
    let session = builder.start()?;
    let mut view = view(&arguments);
    let (inputs, received) = listen(&session, view.as_live().is_some())?;
    let ties = Ties::new(&ports, inputs.clone())?;
    let mut table = MappingTable::new(&session, ports, &arguments.wishes, view, ties)?;
    table.gateway_is_named = arguments.network.names_gateway();
    table.interface.clone_from(&arguments.network.interface);
    table.start_runner(arguments.exec.clone(), inputs)?;
    let outcome = table.keep(&session, &received, until, &arguments);
    let outcome = outcome.and_then(|end| table.end(&session, end, arguments.json));
    if outcome.is_err() {
        // Nothing is left that was not told of.
        table.mappings.clear();
    }
    if outcome.as_ref().is_ok_and(|outcome| outcome.removed != Removed::All) {
        // The deletions were sent and repeated; to end the session properly would be to wait for the same gateway again.
        std::mem::forget(session);
    } else {
        // If there was an error, the mappings are still there. Whether they are removed now changes nothing that is told.
        let _ = session.close();
    }
    let stay = outcome.as_ref().is_ok_and(|outcome| outcome.end == End::Settled);
    table.finish_commands(&received, stay)?;
    let Outcome { end, exit, why, removed } = outcome?;
    if removed == Removed::NotConfirmed {
        return Err(Failure::new(
            Exit::Failed,
            "the gateway did not confirm the removal: what it still has ends with its lifetime",
        ));
    }
    match why {
        Some(why) if end != End::Asked => Err(Failure::new(exit, why.last_words())),
        _ => Ok(exit),
    }
}

/// The ports that are meant; those that are not named are chosen.
fn ports(specs: &[Spec]) -> Result<Vec<Port>, Failure> {
    let mut named: Vec<u16> = specs.iter().flat_map(Spec::ports).map(|port| port.internal).collect();
    let mut ports: Vec<Port> = Vec::new();
    for spec in specs {
        for port in spec.with_chosen_port(&named)?.ports() {
            if ports.iter().any(|known| (known.transport, known.internal) == (port.transport, port.internal))
            {
                return Err(Failure::new(Exit::Usage, format!("{port} is named twice: name it once")));
            }
            named.push(port.internal);
            ports.push(port);
        }
    }
    Ok(ports)
}

/// What the command waits for: events and signals, and what else is sent.
fn listen(session: &Session, has_table: bool) -> Result<(Sender<Input>, Receiver<Input>), Failure> {
    let (inputs, received) = channel();
    let (signals, other) = (inputs.clone(), inputs.clone());
    signals::on_signals(has_table, move |signal| {
        // The receiver is gone: the command is ending.
        let _ = signals.send(Input::Signal(signal));
    })?;
    let events = session.events();
    thread::spawn(move || {
        for event in events {
            if inputs.send(Input::Event(event)).is_err() {
                break;
            }
        }
    });
    Ok((other, received))
}

/// Where the mappings are shown.
fn view(arguments: &Arguments) -> Box<dyn View> {
    let stdout = std::io::stdout();
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    // The log would stand in the middle of the table.
    let log_is_in_the_way = arguments.network.verbose > 0 && std::io::stderr().is_terminal();
    if arguments.json {
        Box::new(Json)
    } else if arguments.plain
        || arguments.wishes.leave
        || !stdout.is_terminal()
        || is_dumb
        || log_is_in_the_way
    {
        Box::new(Lines)
    } else {
        let coloured = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        Box::new(Live::new(coloured))
    }
}

impl MappingTable {
    fn new(
        session: &Session,
        ports: Vec<Port>,
        wishes: &Wishes,
        view: Box<dyn View>,
        ties: Ties,
    ) -> Result<MappingTable, Failure> {
        let mappings: Vec<Mapping> =
            ports.iter().map(|&port| session.map(wishes.request(port)?)).collect::<Result<_, _>>()?;
        let places = mappings.iter().enumerate().map(|(place, mapping)| (mapping.id(), place)).collect();
        let mappings: Vec<Option<Mapping>> = mappings.into_iter().map(Some).collect();
        let made = vec![false; mappings.len()];
        let rows = ports.into_iter().map(Row::new).collect();
        Ok(MappingTable {
            rows,
            mappings,
            made,
            places,
            ties,
            gateway_is_named: false,
            interface: None,
            view,
            was_suspended: false,
            runner: None,
        })
    }

    /// Shows what happens until the end.
    fn keep(
        &mut self,
        session: &Session,
        received: &Receiver<Input>,
        until: Option<Instant>,
        arguments: &Arguments,
    ) -> Result<End, Failure> {
        let is_live = self.view.as_live().is_some();
        let mut tick_at = Instant::now();
        loop {
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(End::TimeIsUp);
            }
            if is_live && tick_at <= now {
                tick_at = now + TICK;
                self.look(until.map(|until| until - now))?;
            }
            let next = until.into_iter().chain(is_live.then_some(tick_at)).min();
            let input = match next {
                Some(next) => received.recv_timeout(next - now),
                None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match input {
                Ok(Input::Event(event)) => {
                    self.handle_event(event)?;
                    if !arguments.keep_trying && self.why_nothing_is_mapped().is_some() {
                        return Ok(End::NothingMapped);
                    }
                    if arguments.wishes.leave && self.is_settled(arguments.keep_trying) {
                        return Ok(End::Settled);
                    }
                }
                Ok(Input::Signal(Signal::Stop)) => return Ok(End::Asked),
                Ok(Input::Signal(Signal::Resized)) => tick_at = now,
                Ok(Input::Signal(Signal::Suspend)) => {
                    self.suspend()?;
                    tick_at = now;
                }
                Ok(Input::Signal(Signal::Continued)) => {
                    self.handle_continued()?;
                    tick_at = now;
                }
                Ok(Input::Executed(outcome)) => self.handle_executed(outcome)?,
                Ok(Input::Vacated(place)) => self.handle_vacated(place, session, &arguments.wishes)?,
                Err(RecvTimeoutError::Timeout) => {}
                // The session's thread has ended by a defect of the library.
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(
                        Exit::Failed,
                        "the library has ended: look at its log, with -v",
                    ));
                }
            }
        }
    }

    /// Stops until `fg`. What the shell writes meanwhile stands where the table was.
    fn suspend(&mut self) -> Result<(), Failure> {
        if let Some(live) = self.view.as_live() {
            live.erase()?;
        }
        self.was_suspended = true;
        signals::suspend()?;
        Ok(())
    }

    /// After `suspend` the table is drawn where the cursor was, and this signal follows. After `kill -STOP` others may have
    /// written below the table.
    fn handle_continued(&mut self) -> Result<(), Failure> {
        let was_suspended = std::mem::take(&mut self.was_suspended);
        match self.view.as_live() {
            Some(live) if !was_suspended => Ok(live.restart()?),
            _ => Ok(()),
        }
    }

    /// The failure of the first mapping, if none was ever made and none is being made.
    fn why_nothing_is_mapped(&self) -> Option<&MappingFailure> {
        let all_failed = self.rows.iter().all(|row| row.failure().is_some());
        let first = self.rows.first()?;
        first.failure().filter(|_| all_failed && !self.made.contains(&true))
    }

    fn handle_event(&mut self, event: Event) -> Result<(), Failure> {
        let Some(&place) = self.places.get(&event.mapping) else { return Ok(()) };
        match event.change {
            Change::Mapped(external) if self.ties.has(place) => self.handle_grant(place, external),
            Change::Mapped(external) => self.show(place, Status::Mapped(external)),
            Change::Pending => {
                self.handle_loss(place);
                // That it was made is not shown yet.
                let is_unseen = self.ties.has(place) && self.rows[place].status == Status::Pending;
                if is_unseen { Ok(()) } else { self.show(place, Status::Lost) }
            }
            Change::Failed => {
                self.forget_grant(place);
                self.show(place, Status::Failed(self.failure(place)))?;
                self.agree(place)
            }
            _ => Ok(()),
        }
    }

    /// A mapping has this status now.
    fn show(&mut self, place: usize, status: Status) -> Result<(), Failure> {
        self.made[place] |= matches!(status, Status::Mapped(_));
        self.rows[place].status = status;
        self.read_times(place);
        self.tell(place)
    }

    /// Shows that a mapping has changed, and has the command run for it.
    fn tell(&mut self, place: usize) -> Result<(), Failure> {
        self.view.change(&self.rows, place)?;
        if let Some(runner) = &mut self.runner {
            let row = &self.rows[place];
            runner.handle_change(place, row.port, &row.status);
        }
        Ok(())
    }

    fn handle_executed(&mut self, outcome: exec::Outcome) -> Result<(), Failure> {
        let row = &mut self.rows[outcome.place];
        if row.warning != outcome.failure || outcome.failure.is_some() {
            row.warning = outcome.failure;
            self.view.warn(&self.rows, outcome.place)?;
        }
        Ok(())
    }

    /// What runs the commands of `--exec`.
    fn start_runner(&mut self, command: Option<String>, inputs: Sender<Input>) -> Result<(), Failure> {
        let Some(command) = command else { return Ok(()) };
        let has_table = self.view.as_live().is_some();
        self.runner = Some(exec::Runner::start(command, has_table, move |outcome| {
            // The receiver is gone: the command is ending.
            let _ = inputs.send(Input::Executed(outcome));
        })?);
        Ok(())
    }

    /// Has the last commands run, and waits for them for a while. `stay`: the mappings are not removed.
    fn finish_commands(&mut self, received: &Receiver<Input>, stay: bool) -> Result<(), Failure> {
        let Some(mut runner) = self.runner.take() else { return Ok(()) };
        // What was lost, or could not be shown.
        for (place, row) in self.rows.iter().enumerate().filter(|_| !stay) {
            runner.handle_end(place, row.port);
        }
        runner.finish();
        for input in received.try_iter() {
            if let Input::Executed(outcome) = input {
                self.handle_executed(outcome)?;
            }
        }
        Ok(())
    }

    /// Why a mapping has failed, as of now.
    fn failure(&self, place: usize) -> MappingFailure {
        let obstacle = self.mappings[place].as_ref().and_then(Mapping::obstacle);
        MappingFailure::of(obstacle.as_ref())
            .by(self.interface.as_deref())
            .for_this_machine(self.gateway_is_named, plum::local_address)
    }

    fn read_times(&mut self, place: usize) {
        let (row, mapping) = (&mut self.rows[place], self.mappings[place].as_ref());
        row.renewal = mapping.and_then(Mapping::renewal);
        row.next_try = mapping.and_then(Mapping::next_try_in);
    }

    /// Reads all mappings again: the reasons of failures and the times have no event.
    fn look(&mut self, left: Option<Duration>) -> Result<(), Failure> {
        for place in 0..self.rows.len() {
            let Some(mapping) = &self.mappings[place] else { continue };
            let status = match mapping.state() {
                // Its events say when it is shown.
                State::Pending | State::Mapped(_) if self.ties.has(place) => {
                    self.read_times(place);
                    continue;
                }
                State::Pending if self.made[place] => Status::Lost,
                State::Mapped(external) => Status::Mapped(external),
                State::Failed => Status::Failed(self.failure(place)),
                State::Pending => Status::Pending,
                // The removal is told by `remove`.
                _ => continue,
            };
            self.rows[place].status = status;
            self.read_times(place);
        }
        if let Some(live) = self.view.as_live() {
            live.tick(&self.rows, left)?;
        }
        Ok(())
    }
}
