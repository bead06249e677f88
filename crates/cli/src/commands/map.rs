//! `plum map`: maps ports and keeps them mapped.

use crate::exit::{Exit, Failure};
use crate::network::{Network, parse_span};
use crate::signals;
use crate::spec::{self, Port, Spec};
use crate::view::{Json, Lines, Live, Row, Status, View, reason};
use clap::Args;
use plum::{Change, Event, Mapping, MappingId, Obstacle, Session, State};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

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

    /// Remove the mappings after this time, as in 90s or 2h 30m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    span: Option<Duration>,

    /// Go on when none of the ports can be mapped: that may change
    #[arg(long)]
    keep_trying: bool,

    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Print events line by line on a terminal, too
    #[arg(long, conflicts_with = "json")]
    plain: bool,

    #[command(flatten)]
    network: Network,
}

/// What the command waits for.
enum Input {
    Event(Event),
    Stop,
}

/// Why it ends.
#[derive(PartialEq, Eq)]
enum End {
    Asked,
    TimeIsUp,
    NothingMapped(Option<Obstacle>),
}

/// What became of the mappings in the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Removed {
    /// The gateway has none of them, by its own account.
    All,
    /// The gateway has not answered the removal of mappings that it had never granted.
    Open,
    /// The gateway has not answered the removal of mappings that it had granted.
    NotConfirmed,
}

/// The mappings and how they are shown.
struct MappingTable {
    mappings: Vec<Mapping>,
    rows: Vec<Row>,
    /// Whether each was ever made.
    made: Vec<bool>,
    places: HashMap<MappingId, usize>,
    view: Box<dyn View>,
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let until = arguments.span.and_then(|span| Instant::now().checked_add(span));
    let mut ports: Vec<Port> = Vec::new();
    for port in arguments.ports.iter().flat_map(Spec::ports) {
        if ports.iter().any(|known| (known.transport, known.internal) == (port.transport, port.internal)) {
            return Err(Failure::new(Exit::Usage, format!("{port} is named twice: name it once")));
        }
        ports.push(port);
    }
    let session = arguments.network.builder()?.start()?;
    let (inputs, received) = channel();
    let stop = inputs.clone();
    signals::on_stop(move || {
        // The receiver is gone: the command is ending.
        let _ = stop.send(Input::Stop);
    })?;
    let events = session.events();
    thread::spawn(move || {
        for event in events {
            if inputs.send(Input::Event(event)).is_err() {
                break;
            }
        }
    });

    let mut table = MappingTable::new(&session, ports, view(&arguments))?;
    let end = table.keep(&received, until, arguments.keep_trying)?;
    let exit = table.exit(&end);
    let removed = table.remove()?;
    if removed != Removed::All {
        // The deletions were sent and repeated; to end the session properly would be to wait for the same gateway again.
        std::mem::forget(session);
    }
    if removed == Removed::NotConfirmed {
        return Err(Failure::new(
            Exit::Failed,
            "the gateway did not confirm the removal: what it still has ends with its lifetime, within two hours",
        ));
    }
    match end {
        End::NothingMapped(obstacle) => {
            Err(Failure::new(exit, format!("{} (plum probe tells more)", reason(obstacle.as_ref()))))
        }
        End::Asked | End::TimeIsUp => Ok(exit),
    }
}

/// Where the mappings are shown.
fn view(arguments: &Arguments) -> Box<dyn View> {
    let stdout = std::io::stdout();
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    // The log would stand in the middle of the table.
    let log_is_in_the_way = arguments.network.verbose > 0 && std::io::stderr().is_terminal();
    if arguments.json {
        Box::new(Json)
    } else if arguments.plain || !stdout.is_terminal() || is_dumb || log_is_in_the_way {
        Box::new(Lines)
    } else {
        let coloured = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        Box::new(Live::new(coloured))
    }
}

impl MappingTable {
    fn new(session: &Session, ports: Vec<Port>, view: Box<dyn View>) -> Result<MappingTable, Failure> {
        let mappings: Vec<Mapping> =
            ports.iter().map(|port| session.map(port.request())).collect::<Result<_, _>>()?;
        let places = mappings.iter().enumerate().map(|(place, mapping)| (mapping.id(), place)).collect();
        let made = vec![false; mappings.len()];
        let row = |&port: &Port| Row { port, status: Status::Pending, renewal: None };
        Ok(MappingTable { rows: ports.iter().map(row).collect(), mappings, made, places, view })
    }

    /// Shows what happens until the end.
    fn keep(
        &mut self,
        received: &Receiver<Input>,
        until: Option<Instant>,
        keep_trying: bool,
    ) -> Result<End, Failure> {
        let mut tick_at = Instant::now();
        loop {
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(End::TimeIsUp);
            }
            if self.view.wants_ticks() && tick_at <= now {
                tick_at = now + TICK;
                self.look(until.map(|until| until - now))?;
            }
            let next = until.into_iter().chain(self.view.wants_ticks().then_some(tick_at)).min();
            let input = match next {
                Some(next) => received.recv_timeout(next - now),
                None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match input {
                Ok(Input::Event(event)) => {
                    self.handle_event(event)?;
                    if !keep_trying && let Some(obstacle) = self.obstacle_of_all() {
                        return Ok(End::NothingMapped(obstacle));
                    }
                }
                Ok(Input::Stop) => return Ok(End::Asked),
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

    /// The obstacle of the first mapping, if none was ever made and none is being made.
    fn obstacle_of_all(&self) -> Option<Option<Obstacle>> {
        let is_failed = |row: &Row| matches!(row.status, Status::Failed(_));
        if self.made.contains(&true) || !self.rows.iter().all(is_failed) {
            return None;
        }
        self.rows.first().map(|row| match &row.status {
            Status::Failed(obstacle) => obstacle.clone(),
            _ => None,
        })
    }

    fn handle_event(&mut self, event: Event) -> Result<(), Failure> {
        let Some(&place) = self.places.get(&event.mapping) else { return Ok(()) };
        let mapping = &self.mappings[place];
        let row = &mut self.rows[place];
        row.status = match event.change {
            Change::Mapped(external) => {
                self.made[place] = true;
                Status::Mapped(external)
            }
            Change::Failed => Status::Failed(mapping.obstacle()),
            _ => Status::Pending,
        };
        row.renewal = mapping.renewal();
        self.view.change(&self.rows, place)?;
        Ok(())
    }

    /// Reads all mappings again: lost mappings and the time to the renewals have no event.
    fn look(&mut self, left: Option<Duration>) -> Result<(), Failure> {
        for (row, mapping) in self.rows.iter_mut().zip(&self.mappings) {
            match (mapping.state(), &row.status) {
                (State::Pending, _) => row.status = Status::Pending,
                (State::Mapped(external), _) => row.status = Status::Mapped(external),
                // The reason is asked for once.
                (State::Failed, Status::Failed(Some(_))) => {}
                (State::Failed, _) => row.status = Status::Failed(mapping.obstacle()),
                _ => {}
            }
            row.renewal = mapping.renewal();
        }
        self.view.tick(&self.rows, left)?;
        Ok(())
    }

    /// The exit code, before anything is removed.
    fn exit(&self, end: &End) -> Exit {
        if self.made.iter().all(|&made| made) {
            return Exit::Done;
        }
        let failed = self.rows.iter().find_map(|row| match &row.status {
            Status::Failed(obstacle) => Some(obstacle.as_ref()),
            _ => None,
        });
        match failed {
            Some(Some(obstacle)) if !self.made.contains(&true) => obstacle.into(),
            Some(_) => Exit::Failed,
            None if *end == End::Asked => Exit::Interrupted,
            None => Exit::Failed,
        }
    }

    /// Removes all mappings, and waits for the gateway's answers.
    fn remove(&mut self) -> Result<Removed, Failure> {
        self.mappings.iter().for_each(Mapping::start_removal);
        let mut removed = Removed::All;
        for (place, mapping) in self.mappings.drain(..).enumerate() {
            let was_mapped = matches!(self.rows[place].status, Status::Mapped(_));
            let confirmed = mapping.remove();
            if !confirmed {
                removed = removed.max(if was_mapped { Removed::NotConfirmed } else { Removed::Open });
            }
            if was_mapped {
                self.rows[place].status = Status::Removed { confirmed };
                self.rows[place].renewal = None;
                self.view.change(&self.rows, place)?;
            }
        }
        std::io::stdout().flush()?;
        Ok(removed)
    }
}
