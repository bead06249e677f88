//! The worker with a scripted machine in place of the engine, on loopback.
#![cfg(target_os = "linux")] // it looks into the kernel: descriptors, the buffers of a socket, namespaces

mod connections;
mod end;
mod script;
mod sockets;
mod system;
mod turns;

use plum_engine::io::{Event, ExchangeId, Output, Protocol, Socket};
use plum_runtime::worker::{Command, Worker};
use script::wanted;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EXCHANGE: ExchangeId = ExchangeId(41);
const PATIENCE: Duration = script::PATIENCE;

/// A socket of the test's, in the place of a gateway.
fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((LOOPBACK, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A port of loopback where nobody listens.
fn closed_port() -> SocketAddr {
    peer().1
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a listener");
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn open(socket: Socket, remote: Option<SocketAddr>) -> Output {
    Output::Open { socket, local: LOOPBACK, interface: 1, remote }
}

fn send(socket: Socket, to: SocketAddr, bytes: &[u8]) -> Output {
    Output::Send { socket, to, bytes: bytes.to_vec() }
}

fn event(id: i32, event: Event) -> Output {
    Output::Event { id, event }
}

fn success() -> Event {
    let port = NonZeroU16::new(4000).unwrap();
    Event::Success { protocol: Protocol::Pcp, address: LOOPBACK, port }
}

fn create(id: i32) -> Command {
    Command::Create(id, wanted())
}

#[test]
fn the_engine_can_be_carried() {
    // What it does is the matter of its own tests; here it has nothing to do and ends.
    let config = plum_engine::io::Config::default();
    let worker = Worker::start(config, |_| script::silent_program()).expect("a worker");
    worker.send(Command::Cleanup);
    worker.join();
}
