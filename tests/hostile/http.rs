//! Hostile HTTP servers: at the gateway's description, beside an honest gateway, and at the control URL.

use crate::harness::{
    GATEWAY_HTTP, Harness, Piece, RACES, Server, Speech, WAN, answer, at_once, description, millis, page,
    secs, service, silence, upnp_harness,
};
use crate::memory::peak_of;
use crate::world::GATEWAY;
use plum_engine::io::Socket;
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What one exchange may cost in memory: the largest description, the room its buffer grows into, and its text once more
/// where it is no UTF-8 (three bytes for each that is none).
const MAX_BYTES: usize = 8 << 20;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// These pieces, one each `every`.
fn pieces(every: Duration, pieces: impl Iterator<Item = Vec<u8>> + 'static) -> Speech {
    Box::new(pieces.map(move |bytes| (every, Piece::Bytes(bytes))))
}

/// `head`, then `piece` again and again, one each `every`.
fn without_end(head: &[u8], piece: &[u8], every: Duration) -> Speech {
    let piece = piece.to_vec();
    pieces(every, std::iter::once(head.to_vec()).chain(std::iter::repeat_with(move || piece.clone())))
}

fn answers(speech: impl FnMut() -> Speech + 'static) -> Server {
    let mut speech = speech;
    Server::Answers(Box::new(move |_| speech()))
}

fn says(bytes: &[u8]) -> Server {
    let bytes = bytes.to_vec();
    answers(move || {
        let bytes = bytes.clone();
        Box::new(std::iter::once((millis(1), Piece::Bytes(bytes))))
    })
}

type Attack = (&'static str, fn() -> Server);

/// None of them ever says anything of use.
const ATTACKS: [Attack; 37] = [
    ("never accepts", || Server::NeverAccepts),
    ("refuses", || Server::Refuses),
    ("accepts and is silent", || answers(silence)),
    ("resets at once", || Server::Greets(Box::new(|| Box::new(std::iter::once((millis(0), Piece::Reset)))))),
    ("closes at once", || Server::Greets(Box::new(|| Box::new(std::iter::once((millis(0), Piece::Close)))))),
    ("resets on the request", || answers(|| Box::new(std::iter::once((millis(1), Piece::Reset))))),
    ("closes on the request", || answers(|| Box::new(std::iter::once((millis(1), Piece::Close))))),
    ("closes in the status line", || answers(|| at_once("HTTP/1."))),
    ("closes in the head", || answers(|| at_once("HTTP/1.1 200 OK\r\nContent-Length: 5"))),
    ("closes before the body", || answers(|| at_once("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))),
    ("a gigabyte", || {
        answers(|| {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n<root>".to_vec();
            pieces(millis(1), std::iter::once(head).chain((0..15_259).map(|_| vec![b'x'; 65_536])))
        })
    }),
    ("a gigabyte of invalid UTF-8", || {
        answers(|| without_end(b"HTTP/1.1 200 OK\r\n\r\n", &[0xff; 65_536], millis(1)))
    }),
    ("a body without end", || answers(|| without_end(b"HTTP/1.1 200 OK\r\n\r\n", &[b'<'; 1000], millis(10)))),
    ("a byte a second", || answers(|| without_end(b"H", b"T", secs(1)))),
    ("a byte of body a second", || answers(|| without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"<", secs(1)))),
    ("a byte of head a second", || {
        answers(|| {
            pieces(
                secs(1),
                b"HTTP/1.1 200 OK\r\nServer: ".iter().chain(b"x".iter().cycle()).map(|&b| vec![b]),
            )
        })
    }),
    ("100-continue, then nothing", || says(b"HTTP/1.1 100 Continue\r\n\r\n")),
    ("100-continue without end", || {
        answers(|| without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n", millis(1)))
    }),
    ("103 without end", || {
        answers(|| {
            without_end(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", millis(1))
        })
    }),
    ("header lines without end", || answers(|| without_end(OK, &b"X-Y: z\r\n".repeat(100), millis(1)))),
    ("a header of a gigabyte", || {
        answers(|| {
            pieces(
                millis(1),
                [OK.to_vec(), b"X: ".to_vec()].into_iter().chain((0..15_259).map(|_| vec![b'x'; 65_536])),
            )
        })
    }),
    ("a status line without end", || answers(|| without_end(b"HTTP/1.1 200 ", &[b'x'; 1000], millis(1)))),
    ("empty lines without end", || answers(|| without_end(b"", &b"\r\n".repeat(1000), millis(1)))),
    ("a folded header without end", || {
        answers(|| without_end(b"HTTP/1.1 200 OK\r\nX: y\r\n", b" more\r\n", millis(1)))
    }),
    ("NULs without end", || answers(|| without_end(b"", &[0; 1000], millis(1)))),
    ("Content-Length: -1", || {
        answers(|| without_end(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"x", millis(10)))
    }),
    ("Content-Length: 2^64", || {
        answers(|| {
            without_end(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n", b"x", millis(10))
        })
    }),
    ("Content-Length: 2^64-1", || {
        answers(|| {
            without_end(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", b"x", millis(10))
        })
    }),
    ("contradictory Content-Length", || {
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5000000000\r\nContent-Length: x\r\n\r\nabc")
    }),
    ("Content-Length and chunked", || {
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    }),
    ("a chunk of 2^64", || {
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc")
    }),
    ("a chunk of 2^64-1", || {
        answers(|| {
            without_end(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                &[b'x'; 5000],
                millis(1),
            )
        })
    }),
    ("chunks of one byte without end", || {
        answers(|| {
            without_end(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                &b"1\r\nx\r\n".repeat(100),
                millis(1),
            )
        })
    }),
    ("a chunk size without end", || {
        answers(|| {
            without_end(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &[b'0'; 100], millis(1))
        })
    }),
    ("chunk extensions without end", || {
        answers(|| {
            without_end(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", &[b'e'; 100], millis(1))
        })
    }),
    ("greets with another protocol", || {
        Server::Greets(Box::new(|| without_end(b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0\0\0", millis(1))))
    }),
    ("answers before it is asked", || {
        Server::Greets(Box::new(|| at_once("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
    }),
];

fn assert_cheap(harness: &mut Harness, attack: &str, peak: usize, most_connects: usize) {
    assert!(peak < MAX_BYTES, "{attack}: {peak} bytes");
    let connects = harness.connected_to().len();
    assert!(connects <= most_connects, "{attack}: {connects} connections");
}

#[test]
fn at_the_gateways_description_each_is_a_failure_in_time() {
    for (attack, server) in ATTACKS {
        let mut harness = upnp_harness();
        harness.serve(GATEWAY_HTTP, server());
        let (peak, id) = peak_of(|| {
            let id = harness.create(Tcp, 8000);
            // `discover_timeout`, and what is under way then.
            harness.assert_fails(id, secs(11));
            harness.run_for(secs(290));
            id
        });
        // In each race one device, fetched three times at most, on another connection where one is refused.
        assert_cheap(&mut harness, attack, peak, 2 * 3 * RACES);
        assert_eq!(harness.callbacks(id).len(), 1, "{attack}");
        harness.assert_ends();
    }
}

#[test]
fn beside_an_honest_gateway_none_keeps_it_from_its_mapping() {
    for (attack, server) in ATTACKS {
        let mut harness = upnp_harness();
        let rogue = |n: u8| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66 + n)), 80);
        for n in 0..16 {
            harness.serve(rogue(n), server());
        }
        let (peak, id) = peak_of(|| {
            let id = harness.create(Tcp, 8000);
            for n in 0..16 {
                harness.inject(
                    Socket::Ssdp,
                    SocketAddr::new(rogue(n).ip(), 1900),
                    &answer(&format!("http://{}/x", rogue(n))),
                );
            }
            harness.assert_made_by_the_gateway(id, secs(1));
            harness.run_for(secs(290));
            id
        });
        // The gateway's own: description, address, entry, a look or two. Those of twelve strangers, on another connection where
        // one is refused.
        assert_cheap(&mut harness, attack, peak, 2 * 12 + 5);
        assert_eq!(harness.events(id).len(), 1, "{attack}");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn at_the_control_url_each_is_a_failure_in_time() {
    for (attack, server) in ATTACKS {
        let mut harness = upnp_harness();
        harness.serve_answers(GATEWAY_HTTP, |_| {
            page(description("Gateway", "", &[(WAN, "http://192.168.1.1:6000/ctl")]))
        });
        harness.serve(SocketAddr::new(GATEWAY, 6000), server());
        let (peak, id) = peak_of(|| {
            let id = harness.create(Tcp, 8000);
            // The search, then `mapping_timeout` of the first request.
            assert!(
                harness.runs_until(secs(15), |harness| harness.is_failure(id)),
                "{attack}: {:?}",
                harness.timeline(id)
            );
            harness.run_for(secs(260));
            id
        });
        // The description; the first attempt takes twelve requests, each other one; with the address, twice, and with the removal
        // of what an unclear request may have made, a look before it; on two connections each.
        assert_cheap(&mut harness, attack, peak, 1 + 2 * 12 + 2 * 6 * RACES);
        assert!(harness.callbacks(id).len() == 1, "{attack}: {:?}", harness.timeline(id));
        harness.assert_ends();
    }
}

#[test]
fn sixteen_gigabytes_at_once_fill_four_buffers() {
    let mut harness = upnp_harness();
    let rogue = |n: u8| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66 + n)), 80);
    let flood = || answers(|| without_end(b"HTTP/1.1 200 OK\r\n\r\n", &[0xff; 65_536], millis(1)));
    harness.serve(GATEWAY_HTTP, flood());
    for n in 0..16 {
        harness.serve(rogue(n), flood());
    }
    let (peak, ()) = peak_of(|| {
        let id = harness.create(Tcp, 8000);
        for n in 0..16 {
            harness.inject(
                Socket::Ssdp,
                SocketAddr::new(rogue(n).ip(), 1900),
                &answer(&format!("http://{}/x", rogue(n))),
            );
        }
        harness.assert_fails(id, secs(11));
        harness.run_for(secs(100));
    });
    // Three at once: two strangers' and the gateway's.
    assert!(peak < 3 * MAX_BYTES, "{peak} bytes");
    harness.assert_ends();
}

#[test]
fn interim_replies_and_odd_framing_do_not_hide_a_description() {
    let xml = description("Gateway", "", &[(WAN, "/ctl")]);
    let length = xml.len();
    let chunked: String = xml
        .as_bytes()
        .chunks(7)
        .map(|c| format!("{:x}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c)))
        .collect();
    for head in [
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{xml}"),
        format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{xml}"),
        format!(
            "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{xml}"
        ),
        format!("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{xml}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{xml}"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{chunked}0\r\n\r\n"
        ),
    ] {
        let mut harness = upnp_harness();
        let mut service = service("203.0.113.9".into());
        harness.serve_answers(GATEWAY_HTTP, move |request| {
            if request.starts_with("GET") { at_once(head.as_bytes()) } else { service(request) }
        });
        let id = harness.create(Tcp, 8000);
        assert!(harness.runs_until(secs(1), |harness| harness.is_success(id)), "{:?}", harness.timeline(id));
        harness.assert_ends();
    }
}

#[test]
fn a_gateway_that_turns_hostile_ends_in_failure_and_pauses() {
    // It was honest when it made the mapping; then its server drips.
    let mut harness = upnp_harness();
    let id = harness.create(Tcp, 8000);
    harness.assert_made_by_the_gateway(id, secs(1));
    harness.serve(GATEWAY_HTTP, answers(|| without_end(b"", b"H", secs(1))));
    let before = harness.connected_to().len();
    let start = harness.now();
    harness.run_for(secs(2 * 7200));
    assert!(harness.is_failure(id), "{:?}", harness.timeline(id));
    let hours = harness.now().since(start).as_secs() / 3600;
    let connects = harness.connected_to().len() - before;
    // Two hours of rechecks, then two of attempts, one in 30 s with three exchanges each.
    assert!(connects <= 1000, "{connects} connections in {hours} hours");
    harness.assert_ends();
}
