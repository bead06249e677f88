//! TCP connections: what is written and read, how they end, and how much waits for a slow peer.

use crate::script::{Input, Scripted, Seen};
use crate::{EXCHANGE, PATIENCE, closed_port, create, listener};
use plum_engine::io::{Output, TcpEnd};
use plum_runtime::worker::Command;
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// A machine that connects on `Create`, writes `request` once connected, and hangs up on `Destroy`.
fn connecting(to: SocketAddr, request: Vec<Vec<u8>>) -> Scripted {
    Scripted::start(move |_, input, reaction| match input {
        Input::Create(_) => reaction.output(Output::Connect { exchange: EXCHANGE, to, source: None }),
        Input::Connected(exchange, _) => {
            for bytes in request.clone() {
                reaction.output(Output::Write { exchange: *exchange, bytes });
            }
        }
        Input::Destroy(_) => reaction.output(Output::HangUp { exchange: EXCHANGE }),
        _ => {}
    })
}

#[test]
fn carries_an_exchange_to_its_end() {
    let (listener, address) = listener();
    let worker = connecting(address, vec![b"GET ".to_vec(), b"/".to_vec()]);
    worker.send(create(0));
    let (mut stream, from) = listener.accept().expect("a connection");
    worker.expect_input(&Input::Connected(EXCHANGE, from));
    let mut request = [0; 5];
    stream.read_exact(&mut request).expect("the request");
    assert_eq!(&request, b"GET /");
    let body = vec![b'x'; 1_000_000];
    stream.write_all(&body).expect("the reply");
    drop(stream);
    let mut received = Vec::new();
    worker.expect(|seen| match seen {
        Seen::Input(Input::Data(EXCHANGE, bytes)) => {
            received.extend_from_slice(bytes);
            None
        }
        Seen::Input(Input::End(EXCHANGE, TcpEnd::Closed)) => Some(()),
        _ => None,
    });
    assert!(received == body, "{} bytes", received.len());
}

#[test]
fn tells_refused_broken_and_unreachable_connections() {
    let worker = connecting(closed_port(), Vec::new());
    worker.send(create(0));
    worker.expect_input(&Input::End(EXCHANGE, TcpEnd::Refused));

    let (listener, address) = listener();
    let worker = connecting(address, Vec::new());
    worker.send(create(0));
    let (stream, _) = listener.accept().expect("a connection");
    // Closing it now is a reset.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    worker.expect_input(&Input::End(EXCHANGE, TcpEnd::Failed));

    // Nobody can connect to a group.
    let worker = connecting("224.0.0.1:80".parse().unwrap(), Vec::new());
    worker.send(create(0));
    worker.expect_input(&Input::End(EXCHANGE, TcpEnd::Failed));
}

#[test]
fn nothing_is_told_of_a_connection_after_hanging_up() {
    let (listener, address) = listener();
    let worker = connecting(address, Vec::new());
    worker.send(create(0));
    let (mut stream, _) = listener.accept().expect("a connection");
    worker.expect(|seen| matches!(seen, Seen::Input(Input::Connected(..))).then_some(()));
    worker.send(Command::Destroy(0));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).expect("the end"), 0);
    let _ = stream.write_all(b"too late");
    worker.send(Command::Destroy(1));
    worker.expect(|seen| match seen {
        Seen::Input(Input::Destroy(1)) => Some(()),
        Seen::Input(Input::Data(..) | Input::End(..)) => panic!("{seen:?}"),
        _ => None,
    });
}

#[test]
fn what_the_other_side_does_not_take_waits_up_to_a_limit() {
    const CHUNK: usize = 64 * 1024;
    // One chunk a timeout, `count` of them, then a last timeout that does nothing.
    let writing = |address, count: usize| {
        let mut written = 0;
        Scripted::start(move |now, input, reaction| match input {
            Input::Create(_) => {
                reaction.output(Output::Connect { exchange: EXCHANGE, to: address, source: None })
            }
            Input::Connected(..) => reaction.timeout = Some(now),
            Input::Timeout if written < count => {
                written += 1;
                reaction.output(Output::Write { exchange: EXCHANGE, bytes: vec![written as u8; CHUNK] });
                reaction.timeout = Some(now);
            }
            Input::End(..) => reaction.timeout = None,
            _ => {}
        })
    };
    let accept = |listener: &TcpListener| {
        let stream = listener.accept().expect("a connection").0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };

    // The system takes some, then the worker does, then it is too much.
    let (listener, address) = listener();
    SockRef::from(&listener).set_recv_buffer_size(CHUNK).unwrap();
    let worker = writing(address, 10_000);
    worker.send(create(0));
    let _unread = accept(&listener);
    let mut taken = 0;
    worker.expect(|seen| match seen {
        Seen::Input(Input::Timeout) => {
            taken += 1;
            None
        }
        Seen::Input(Input::End(EXCHANGE, TcpEnd::Failed)) => Some(()),
        _ => None,
    });
    assert!(taken * CHUNK < 64 << 20, "what the system takes is some MiB, and the worker less than one");

    // Three chunks less: the worker holds more than one of its four then, and all arrives when it is read at last. Where the
    // system takes less than it did before, it is some less still.
    let mut count = taken - 3;
    let (_worker, mut stream) = loop {
        let worker = writing(address, count);
        worker.send(create(0));
        let stream = accept(&listener);
        let mut timeouts = 0;
        let is_held = worker.expect(|seen| match seen {
            Seen::Input(Input::Timeout) => {
                timeouts += 1;
                (timeouts > count).then_some(true)
            }
            Seen::Input(Input::End(EXCHANGE, _)) => Some(false),
            _ => None,
        });
        if is_held {
            break (worker, stream);
        }
        count -= 2;
    };
    for number in 1..=count {
        let mut chunk = vec![0; CHUNK];
        stream.read_exact(&mut chunk).expect("a chunk");
        assert!(chunk.iter().all(|&byte| byte == number as u8), "chunk {number}");
    }
}
