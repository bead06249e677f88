//! `plum demo`: maps a port through a simulated gateway on this machine, reaches it, and removes it.

use crate::exit::{Exit, Failure};
use crate::signals;
use clap::{Args, ValueEnum};
use plum::{Builder, Level, Request};
use plum_gateway::control;
use plum_gateway::server::Server;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for each step: all of them happen on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The greeting of the program behind the gateway.
const GREETING: &str = "hello from behind the gateway";

/// Map a port through a simulated gateway on this machine, and reach it from its far side
#[derive(Args, Debug)]
pub struct Arguments {
    /// What the gateway speaks
    #[arg(long, value_enum, value_name = "PROTOCOLS", default_value_t)]
    speaks: Speaks,

    /// Keep the gateway running for other programs to try, until Ctrl-C
    #[arg(long)]
    keep: bool,

    /// Log what the library does to standard error; -vv: also decisions; -vvv: also packets
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// What a gateway speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Speaks {
    /// PCP, NAT-PMP and UPnP-IGD
    #[default]
    All,
    /// NAT-PMP and UPnP-IGD
    Natpmp,
    /// UPnP-IGD
    Upnp,
}

impl Speaks {
    /// The commands that make the gateway so.
    fn commands(self) -> &'static [&'static str] {
        match self {
            Speaks::All => &[],
            Speaks::Natpmp => &["natpmp-only"],
            Speaks::Upnp => &["close pcp", "close natpmp"],
        }
    }
}

pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let server = Server::start_on_own_address(|_| {}).map_err(|error| {
        Failure::new(Exit::Failed, format!("the simulated gateway cannot start: {error}"))
    })?;
    for command in arguments.speaks.commands() {
        server
            .with_core(|core| control::carry_out(core, command))
            .map_err(|error| Failure::new(Exit::Failed, error))?;
    }
    // Standard output as a whole may be closed early: then this ends, too.
    let mut out = io::stdout();
    writeln!(out, "A simulated gateway runs at {}.", server.address())?;
    show(&server, arguments.verbose, &mut out)?;
    if arguments.keep {
        let (stop, stopped) = channel();
        signals::on_stop(move || {
            // The receiver is gone: the command is ending.
            let _ = stop.send(());
        })?;
        let outside = server
            .forward_address()
            .map_or_else(String::new, |address| format!(" Mapped ports are open on {address}."));
        writeln!(out, "It stays until Ctrl-C.{outside} In another terminal:")?;
        writeln!(out, "  PLUM_GATEWAY={} plum map 8080", server.address())?;
        out.flush()?;
        // The sender lives as long as the process.
        let _ = stopped.recv();
    }
    server.stop();
    Ok(Exit::Done)
}

/// Maps a port, reaches it, removes it.
fn show(server: &Server, verbose: u8, out: &mut impl Write) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that has disconnected gets no greeting.
            let _ = stream.and_then(|mut stream| writeln!(stream, "{GREETING}"));
        }
    });
    writeln!(out, "A program listens on TCP port {port} of this machine.")?;

    let mut builder = Builder::new().gateway(server.address());
    if verbose > 0 {
        let level = [Level::Info, Level::Debug, Level::Verbose][usize::from(verbose.min(3)) - 1];
        builder = builder.log(level, |_, message| {
            // If the log cannot be written, the command goes on without it.
            let _ = writeln!(anstream::stderr(), "  {message}");
        });
    }
    let session = builder.start()?;
    let begun = Instant::now();
    let mapping = session.map(Request::tcp(port))?;
    let external = mapping.wait(PATIENCE)?;
    let took = begun.elapsed();
    writeln!(
        out,
        "Mapped by {} in {:.1} ms: {external} leads to it.",
        external.protocol,
        took.as_secs_f64() * 1e3
    )?;
    if let Some(renews_in) = mapping.renewal().and_then(|renewal| renewal.renews_in) {
        let minutes = renews_in.as_secs() / 60;
        writeln!(out, "It would be renewed in {minutes} minutes, for as long as the program wants it.")?;
    }

    // The simulated gateway has no real address outside; it opens its external ports on this one.
    let Some(outside) = server.forward_address() else { return Ok(()) };
    let outside = SocketAddr::new(outside, external.address.port());
    let mut greeting = String::new();
    let stream = TcpStream::connect_timeout(&outside, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    BufReader::new(stream).read_line(&mut greeting)?;
    if greeting.trim_end() != GREETING {
        return Err(Failure::new(Exit::Failed, format!("{outside} leads elsewhere: {greeting:?}")));
    }
    writeln!(out, "From the far side of the gateway ({outside}): \"{}\".", greeting.trim_end())?;

    if !mapping.remove() {
        return Err(Failure::new(Exit::Failed, "the gateway did not confirm the removal"));
    }
    writeln!(out, "Removed: the gateway has {} mappings left.", server.with_core(|core| core.table().len()))?;
    Ok(())
}
