//! A machine that does as a test says, a program that writes down what it is told, and a worker between them.

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;
use plum_engine::io::{
    Arrival, EngineId, Event, ExchangeId, MappingId, Output, Route, Socket, SocketId, Suggestion, TcpEnd,
    Wanted,
};
use plum_engine::time::Time;
use plum_runtime::net::{Uplink, clock};
use plum_runtime::worker::{Command, Machine, Program, Wake, Worker};
use plum_wire::Transport;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What is waited for comes within milliseconds; this is for machines that are very busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An input of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Create(MappingId),
    Destroy(MappingId),
    Cleanup,
    Route(Option<Route>),
    Opened(Socket, Option<SocketAddr>),
    Datagram(Socket, SocketAddr, Vec<u8>),
    Refused(Socket),
    Connected(ExchangeId, SocketAddr),
    Data(ExchangeId, Vec<u8>),
    End(ExchangeId, TcpEnd),
    NetworkChanged,
    Timeout,
}

/// What happened on the worker's thread, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Input(Input),
    Told(MappingId, Event),
    ProgramTimeout,
    Finished,
    Panicked,
}

type Log = Sender<(Time, Seen)>;
type React = Box<dyn FnMut(Time, &Input, &mut Reaction) + Send>;

/// What the script answers to an input.
#[derive(Default)]
pub struct Reaction {
    outputs: VecDeque<Output>,
    /// Kept until it is changed or has come.
    pub timeout: Option<Time>,
}

impl Reaction {
    pub fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}

struct ScriptedMachine {
    react: React,
    reaction: Reaction,
    log: Log,
    turns: Arc<AtomicUsize>,
}

impl ScriptedMachine {
    fn take(&mut self, now: Time, input: Input) {
        // The test may be over.
        let _ = self.log.send((now, Seen::Input(input.clone())));
        (self.react)(now, &input, &mut self.reaction);
        // A script that says nothing of the end ends at once, so that no test leaves a thread behind.
        if input == Input::Cleanup && !self.reaction.outputs.contains(&Output::Finished) {
            self.reaction.output(Output::Finished);
        }
    }
}

impl Machine for ScriptedMachine {
    fn handle_command(&mut self, now: Time, command: Command) {
        self.take(
            now,
            match command {
                Command::Create(id, _) => Input::Create(id),
                Command::Destroy(id) => Input::Destroy(id),
                Command::Cleanup => Input::Cleanup,
            },
        );
    }
    fn handle_route(&mut self, now: Time, _: EngineId, route: Option<Route>, _hardware: Option<[u8; 6]>) {
        self.take(now, Input::Route(route));
    }
    fn handle_opened(&mut self, now: Time, SocketId { socket, .. }: SocketId, local: Option<SocketAddr>) {
        self.take(now, Input::Opened(socket, local));
    }
    fn handle_datagram(&mut self, now: Time, SocketId { socket, .. }: SocketId, by: Arrival, bytes: &[u8]) {
        self.take(now, Input::Datagram(socket, by.from, bytes.to_vec()));
    }
    fn handle_refused(&mut self, now: Time, SocketId { socket, .. }: SocketId) {
        self.take(now, Input::Refused(socket));
    }
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.take(now, Input::Connected(exchange, local));
    }
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.take(now, Input::Data(exchange, bytes.to_vec()));
    }
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.take(now, Input::End(exchange, end));
    }
    fn handle_network_changed(&mut self, now: Time) {
        self.take(now, Input::NetworkChanged);
    }
    fn handle_timeout(&mut self, now: Time) {
        self.reaction.timeout = None;
        self.take(now, Input::Timeout);
    }
    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        self.reaction.outputs.pop_front().map(|output| (EngineId::IPV4, output))
    }
    fn poll_timeout(&self) -> Option<Time> {
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.reaction.timeout
    }
}

type ProgramTimeout = Arc<Mutex<Option<(Time, usize)>>>;

struct ScriptedProgram<F> {
    on_event: F,
    log: Log,
    timeout: ProgramTimeout,
}

impl<F: FnMut(MappingId, Event) + Send + 'static> Program for ScriptedProgram<F> {
    fn handle_event(&mut self, now: Time, id: MappingId, event: Event) {
        (self.on_event)(id, event);
        let _ = self.log.send((now, Seen::Told(id, event)));
    }
    fn poll_timeout(&self) -> Option<Time> {
        self.timeout.lock().map(|(at, _)| at)
    }
    fn handle_timeout(&mut self, now: Time) -> bool {
        let _ = self.log.send((now, Seen::ProgramTimeout));
        let mut timeout = self.timeout.lock();
        let left = timeout.take().map_or(0, |(_, times)| times.saturating_sub(1));
        *timeout = (left > 0).then_some((now, left));
        left > 0
    }
    fn handle_finished(&mut self, now: Time) {
        let _ = self.log.send((now, Seen::Finished));
    }
    fn handle_panic(&mut self) {
        let _ = self.log.send((clock::now(), Seen::Panicked));
    }
}

/// A program that takes no time and tells nobody.
pub fn silent_program() -> Box<dyn Program> {
    let (log, _) = crossbeam_channel::unbounded();
    Box::new(ScriptedProgram { on_event: |_, _| {}, log, timeout: ProgramTimeout::default() })
}

/// A mapping to ask for.
pub fn wanted() -> Wanted {
    let internal_port = NonZeroU16::new(4000).expect("not 0");
    Wanted { transport: Transport::Udp, internal_port, wish: Suggestion::default(), description: None }
}

/// A worker that carries for a script.
pub struct Scripted {
    pub worker: Arc<Worker>,
    pub wake: Wake,
    /// What happened, each with the worker's time of it.
    pub seen: Receiver<(Time, Seen)>,
    /// How often the machine was asked for its timeout.
    pub turns: Arc<AtomicUsize>,
    /// When the program wants to be called, and how often.
    pub program_timeout: ProgramTimeout,
}

impl Scripted {
    /// A program that takes no time.
    pub fn start(react: impl FnMut(Time, &Input, &mut Reaction) + Send + 'static) -> Scripted {
        Scripted::start_with(react, |_, _| {})
    }

    /// `on_event` is the program's callback.
    pub fn start_with(
        react: impl FnMut(Time, &Input, &mut Reaction) + Send + 'static,
        on_event: impl FnMut(MappingId, Event) + Send + 'static,
    ) -> Scripted {
        let (log, seen) = crossbeam_channel::unbounded();
        let turns = Arc::new(AtomicUsize::new(0));
        let program_timeout = ProgramTimeout::default();
        let program = ScriptedProgram { on_event, log: log.clone(), timeout: program_timeout.clone() };
        let machine = ScriptedMachine {
            react: Box::new(react),
            reaction: Reaction::default(),
            log,
            turns: turns.clone(),
        };
        let mut wake = None;
        let worker = Worker::start_machine(
            Uplink::default(),
            || machine,
            |given| {
                wake = Some(given);
                Box::new(program)
            },
        );
        let worker = Arc::new(worker.expect("a worker"));
        Scripted { worker, wake: wake.expect("it was given"), seen, turns, program_timeout }
    }

    pub fn send(&self, command: Command) {
        self.worker.send(command);
    }

    /// Waits for what `pick` picks; what comes before it is skipped. `pick` is given the worker's time, too.
    pub fn expect_at<T>(&self, mut pick: impl FnMut(Time, &Seen) -> Option<T>) -> T {
        let deadline = clock::now() + PATIENCE;
        let mut skipped = Vec::new();
        loop {
            match self.seen.recv_timeout(deadline.since(clock::now())) {
                Ok((now, seen)) => match pick(now, &seen) {
                    Some(picked) => return picked,
                    None => skipped.push(seen),
                },
                Err(error) => panic!("{error}; the last that came: {:?}", skipped.iter().rev().take(10)),
            }
        }
    }

    /// Waits for what `pick` picks; what comes before it is skipped.
    pub fn expect<T>(&self, mut pick: impl FnMut(&Seen) -> Option<T>) -> T {
        self.expect_at(|_, seen| pick(seen))
    }

    /// Waits for this input.
    pub fn expect_input(&self, expected: &Input) {
        self.expect(|seen| matches!(seen, Seen::Input(input) if input == expected).then_some(()));
    }

    /// Waits for the end of the thread; returns what happened until then that was not picked yet.
    pub fn join(self) -> Vec<Seen> {
        let worker = Arc::into_inner(self.worker).expect("nobody else has it");
        let (joined, end) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || {
            worker.join();
            joined.send(())
        });
        end.recv_timeout(PATIENCE).expect("the thread ends");
        self.seen.try_iter().map(|(_, seen)| seen).collect()
    }
}
