//! Forged and replayed answers of PCP and NAT-PMP. (The kernel keeps out what does not come from the gateway's address and
//! port; `sockets` shows that. What comes here has passed it, as if the source were forged, too.)

use crate::harness::{Harness, millis, secs, set_up};
use crate::world::GATEWAY;
use plum_engine::io::{Allowed, Event, Protocol, Socket};
use plum_gateway::core::{Kind, Spoken, Times};
use plum_wire::Transport::{Tcp, Udp};
use std::net::SocketAddr;

const SERVER: SocketAddr = SocketAddr::new(GATEWAY, 5351);
/// The liar's external address, 198.51.100.66 as PCP writes it.
const LIE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 66];

/// A gateway so far away that whoever else answers is faster, with PCP and NAT-PMP or one of them.
fn far_away(pcp: bool, natpmp: bool) -> Harness {
    let mut harness = set_up(|setup| {
        setup.latency = millis(50);
        setup.engine.allowed = Allowed::Pcp;
        setup.gateways[0].first_epoch = 100_000;
    });
    harness.gateway().faults.closed.pcp = !pcp;
    harness.gateway().faults.closed.natpmp = !natpmp;
    harness
}

/// Success to a MAP request, with a lie in it.
fn pcp_success(request: &[u8], epoch: u32) -> Vec<u8> {
    let mut bytes = request.to_vec();
    bytes[1] |= 0x80;
    bytes[2..4].fill(0);
    bytes[4..8].copy_from_slice(&7200u32.to_be_bytes());
    bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
    bytes[12..24].fill(0);
    bytes[42..44].copy_from_slice(&6666u16.to_be_bytes());
    bytes[44..60].copy_from_slice(&LIE);
    bytes
}

/// Success to a mapping request, with a lie in it.
fn natpmp_success(opcode: u8, internal_port: u16, epoch: u32) -> Vec<u8> {
    let mut bytes = vec![0, 128 + opcode, 0, 0];
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&internal_port.to_be_bytes());
    bytes.extend_from_slice(&6666u16.to_be_bytes());
    bytes.extend_from_slice(&7200u32.to_be_bytes());
    bytes
}

/// A NAT-PMP public address, the liar's.
fn natpmp_address(epoch: u32) -> Vec<u8> {
    let mut bytes = vec![0, 128, 0, 0];
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&LIE[12..]);
    bytes
}

/// Changes one thing.
fn but(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    bytes
}

/// Requests to the gateway so far.
fn requests(harness: &mut Harness) -> usize {
    harness.wire(|wired| wired.sent.len())
}

#[test]
fn forged_pcp_answers_change_nothing() {
    let mut harness = far_away(true, false);
    let id = harness.create(Tcp, 8000);
    let request = harness.sent_from(Socket::Pcp).pop().expect("a request");
    let good = pcp_success(&request, 100_000);
    let forged = [
        ("nonce", but(&good, |b| b[24] ^= 1)),
        ("last octet of the nonce", but(&good, |b| b[35] ^= 0x80)),
        ("no nonce", but(&good, |b| b[24..36].fill(0))),
        ("opcode PEER", but(&good, |b| b[1] = 0x82)),
        ("opcode unknown", but(&good, |b| b[1] = 0xff)),
        ("a request", but(&good, |b| b[1] = 1)),
        ("version", but(&good, |b| b[0] = 3)),
        ("internal port", but(&good, |b| b[41] ^= 1)),
        ("internal port 0", but(&good, |b| b[40..42].fill(0))),
        ("transport", but(&good, |b| b[36] = 17)),
        ("transport unknown", but(&good, |b| b[36] = 132)),
        ("all ports", but(&good, |b| b[36] = 0)),
        ("cut", good[..56].to_vec()),
        ("no multiple of four", but(&good, |b| b.push(0))),
        ("too long", but(&good, |b| b.resize(1104, 0))),
        ("ANNOUNCE nobody asked for", but(&good, |b| b[1] = 0x80)),
        ("short ANNOUNCE", but(&good[..24], |b| b[1] = 0x80)),
        ("an error, nonce", but(&good, |b| (b[3], b[24]) = (2, b[24] ^ 1))),
        ("mismatch, nonce", but(&good, |b| (b[3], b[24]) = (12, b[24] ^ 1))),
        ("empty", Vec::new()),
        ("zeros", vec![0; 60]),
        ("ones", vec![0xff; 1100]),
    ];
    let before = requests(&mut harness);
    for (what, bytes) in &forged {
        for _ in 0..3 {
            harness.inject(Socket::Pcp, SERVER, bytes);
        }
        assert_eq!(harness.events(id), [], "{what}");
        assert_eq!(requests(&mut harness), before, "{what}");
    }
    harness.assert_made_by_the_gateway(id, millis(100));
    assert_eq!(harness.made_by(id), Some(Protocol::Pcp));
    // And afterwards, when something is there to be lost.
    let unsupported = [("UNSUPP_VERSION", vec![2, 128, 0, 1]), ("another version", vec![0, 128, 0, 1])];
    for (what, bytes) in forged.iter().chain(&unsupported) {
        harness.inject(Socket::Pcp, SERVER, bytes);
        assert_eq!(harness.events(id).len(), 1, "{what}");
    }
    harness.run_for(secs(60));
    assert_eq!(harness.events(id).len(), 1);
    assert_eq!(requests(&mut harness), before);
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn forged_natpmp_answers_change_nothing() {
    let mut harness = far_away(false, true);
    let id = harness.create(Tcp, 8000);
    // Of two requests nobody knows which an answer without their port would answer.
    let other = harness.create(Tcp, 9000);
    harness.run_until(|harness| harness.network.nodes[0].gateway.counts.natpmp_map > 1);
    let good = natpmp_success(2, 8000, 100_000);
    let forged = [
        ("other transport", but(&good, |b| b[1] = 129)),
        ("opcode unknown", but(&good, |b| b[1] = 131)),
        ("a request", but(&good, |b| b[1] = 2)),
        ("version", but(&good, |b| b[0] = 1)),
        ("internal port", but(&good, |b| b[9] ^= 1)),
        ("internal port 0", but(&good, |b| b[8..10].fill(0))),
        ("internal port that is the external one", but(&good, |b| b.copy_within(10..12, 8))),
        ("cut", good[..15].to_vec()),
        ("cut error", but(&good[..7], |b| b[3] = 2)),
        ("empty", Vec::new()),
        ("ones", vec![0xff; 1100]),
    ];
    for (what, bytes) in &forged {
        let before = requests(&mut harness);
        for _ in 0..3 {
            harness.inject(Socket::NatPmp, SERVER, bytes);
        }
        assert!(harness.events(id).is_empty() && harness.events(other).is_empty(), "{what}");
        assert_eq!(requests(&mut harness), before, "{what}");
    }
    harness.assert_made_by_the_gateway(id, millis(150));
    harness.assert_made_by_the_gateway(other, millis(150));
    assert_eq!(harness.made_by(id), Some(Protocol::NatPmp));
    let before = requests(&mut harness);
    for (what, bytes) in forged.iter().map(|(what, bytes)| (*what, bytes.clone())).chain([
        ("success nobody asked for", good.clone()),
        ("an error nobody asked for", but(&good, |b| b[3] = 2)),
        ("deleted", but(&good, |b| b[12..16].fill(0))),
        ("an address nobody asked for", natpmp_address(100_000)),
        ("a restart nobody asked for", natpmp_address(0)),
        ("PCP only", vec![2, 128, 0, 1]),
    ]) {
        harness.inject(Socket::NatPmp, SERVER, &bytes);
        assert_eq!(harness.events(id).len(), 1, "{what}");
    }
    harness.run_for(secs(60));
    assert_eq!(harness.events(id).len(), 1);
    assert_eq!(requests(&mut harness), before);
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn an_answer_before_its_request_is_forgotten() {
    for pcp in [true, false] {
        let mut harness = far_away(pcp, !pcp);
        let first = harness.create(Udp, 8000);
        harness.assert_made_by_the_gateway(first, millis(250));
        let socket = if pcp { Socket::Pcp } else { Socket::NatPmp };
        let request = harness.sent_from(socket).pop().expect("a request");
        let early = if pcp {
            // The nonce is not drawn yet: the forger can only guess.
            but(&pcp_success(&request, 100_000), |b| b[40..42].copy_from_slice(&9000u16.to_be_bytes()))
        } else {
            natpmp_success(1, 9000, 100_000)
        };
        harness.inject(socket, SERVER, &early);
        let second = harness.create(Udp, 9000);
        assert_eq!(harness.events(second), []);
        harness.assert_made_by_the_gateway(second, millis(250));
        assert_eq!(harness.events(second).len(), 1);
    }
}

#[test]
fn a_grant_from_before_a_restart_is_dropped() {
    let mut harness = far_away(true, false);
    let first = harness.create(Udp, 8000);
    harness.assert_made_by_the_gateway(first, millis(250));
    harness.run_for(secs(100));
    let second = harness.create(Udp, 9000);
    let request = harness.sent_from(Socket::Pcp).pop().expect("a request");
    // The gateway announces that it has lost everything; what it said before is still on its way.
    harness.start_gateway(false);
    harness.run_for(millis(60));
    harness.inject(Socket::Pcp, SERVER, &pcp_success(&request, 100_100));
    assert_eq!(harness.events(second), []);
    for id in [second, first] {
        harness.assert_made_by_the_gateway(id, secs(10));
    }
}

/// What the gateway answered, as somebody who records it hears it.
fn recorded(harness: &mut Harness, ports: std::ops::Range<u16>) -> Vec<Vec<u8>> {
    let epoch = 100_000 + u32::try_from(harness.elapsed().as_secs()).expect("a short test");
    let asked: Vec<Vec<u8>> = harness.sent_from(Socket::Pcp);
    let table: Vec<_> = harness.table().iter().map(|m| (m.internal.port(), m.external_port)).collect();
    ports
        .map(|port| {
            let is_of_it = |bytes: &&Vec<u8>| bytes[1] == 1 && bytes[40..42] == port.to_be_bytes();
            let request = asked.iter().rfind(is_of_it).expect("it was asked for");
            let &(_, external) = table.iter().find(|(internal, _)| *internal == port).expect("it is made");
            but(&pcp_success(request, epoch), |b| {
                b[42..44].copy_from_slice(&external.to_be_bytes());
                b[56..60].copy_from_slice(&[203, 0, 113, 7]);
            })
        })
        .collect()
}

#[test]
fn replayed_answers_cost_the_gateway_next_to_nothing() {
    let mut harness = far_away(true, false);
    let ids: Vec<_> = (8000..8010).map(|port| harness.create(Tcp, port)).collect();
    harness.run_until(Harness::all_success);
    let records = recorded(&mut harness, 8000..8010);
    harness.run_for(secs(600));
    let before = requests(&mut harness);
    // Ten minutes old: an epoch that runs backwards, as after a restart.
    for _ in 0..1000 {
        for record in &records {
            harness.inject(Socket::Pcp, SERVER, record);
        }
        harness.run_for(millis(100));
    }
    let caused = requests(&mut harness) - before;
    assert!(caused <= 200, "10,000 replays in 100 s cost the gateway {caused} requests");
    harness.run_for(secs(30));
    for id in ids {
        harness.assert_made_by_the_gateway(id, secs(1));
    }
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn replays_do_not_bring_a_destroyed_mapping_back() {
    let mut harness = far_away(true, false);
    let id = harness.create(Tcp, 8000);
    let other = harness.create(Tcp, 8001);
    harness.run_until(Harness::all_success);
    let records = recorded(&mut harness, 8000..8001);
    harness.destroy_and_wait(id);
    let before = requests(&mut harness);
    for _ in 0..1000 {
        harness.inject(Socket::Pcp, SERVER, &records[0]);
        harness.run_for(millis(20));
    }
    let caused = requests(&mut harness) - before;
    assert!(caused <= 5, "1,000 replays cost the gateway {caused} requests");
    assert!(harness.is_destroyed(id));
    assert_eq!(harness.events(other).len(), 1);
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn a_liar_with_the_gateways_address_and_port_is_found_out_at_the_next_recheck() {
    // NAT-PMP has no nonce: who can forge the gateway's address and port and guess ours can answer in its place.
    let mut harness = far_away(false, true);
    let id = harness.create(Tcp, 8000);
    harness.run_for(millis(1));
    harness.inject(Socket::NatPmp, SERVER, &natpmp_address(100_000));
    harness.inject(Socket::NatPmp, SERVER, &natpmp_success(2, 8000, 100_000));
    harness.run_until(|harness| harness.is_success(id));
    let told = harness.success(id).expect("it is made");
    assert_eq!(told.1, crate::harness::ip("198.51.100.66"), "the lie is believed");
    assert!(harness.runs_until(secs(301), |harness| {
        harness.success(id).is_some_and(|(_, address, _)| address == crate::world::EXTERNAL)
    }));
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn forged_port_unreachables_are_only_silence_to_a_gateway_that_is_known() {
    let mut harness = far_away(true, true);
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(id));
    let before = requests(&mut harness);
    for _ in 0..1000 {
        for socket in [Socket::Pcp, Socket::NatPmp] {
            harness.act(|wired, now| {
                use plum_engine::machine::Machine;
                wired.handle_refused(now, socket.into());
            });
        }
        harness.run_for(millis(10));
    }
    assert!(matches!(harness.events(id)[..], [Event::Success { protocol: Protocol::Pcp, .. }]));
    assert_eq!(requests(&mut harness), before);
    let other = harness.create(Tcp, 8001);
    harness.assert_made_by_the_gateway(other, millis(200));
    assert_eq!(harness.made_by(other), Some(Protocol::Pcp));
}

/// That PCP is not spoken, as PCP says it, as NAT-PMP does, and as short as it is understood.
const UNSUPPORTED: [&[u8]; 3] = [
    &[2, 0x81, 0, 1, 0, 0, 0, 30, 0, 1, 0x86, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0, 0x81, 0, 1, 0, 1, 0x86, 0xa0],
    &[2, 0x80, 0, 1],
];

#[test]
fn that_a_protocol_is_not_spoken_is_not_believed_of_a_gateway_that_has_granted_by_it() {
    for (protocol, socket) in [(Protocol::Pcp, Socket::Pcp), (Protocol::NatPmp, Socket::NatPmp)] {
        let mut harness = far_away(protocol == Protocol::Pcp, true);
        let id = harness.create(Tcp, 8000);
        harness.assert_made_by_the_gateway(id, millis(250));
        // Nothing of it is left, and what the forger answers is the first that is asked again.
        harness.destroy_and_wait(id);
        for port in 8001..8010 {
            let id = harness.create(Tcp, port);
            for bytes in UNSUPPORTED.into_iter().cycle().take(30) {
                harness.inject(socket, SERVER, bytes);
                harness.run_for(millis(1));
            }
            harness.assert_made_by_the_gateway(id, millis(250));
            assert_eq!(harness.made_by(id), Some(protocol));
            harness.destroy_and_wait(id);
            // Rechecks pass; then the gateway restarts.
            harness.run_for(secs(310));
            if port == 8005 {
                harness.start_gateway(false);
            }
        }
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_gateway_that_speaks_pcp_no_more_is_found_out_by_its_silence() {
    let mut harness = far_away(true, true);
    let id = harness.create(Tcp, 8000);
    harness.assert_made_by_the_gateway(id, millis(250));
    harness.run_for(millis(1));
    harness.gateway().faults.pcp = Spoken::UnsuppVersion(0);
    // PCP may be silent for as long as a mapping may take.
    let second = harness.create(Tcp, 8001);
    harness.assert_made_by_the_gateway(second, millis(10_500));
    assert_eq!(harness.made_by(second), Some(Protocol::NatPmp));
    let third = harness.create(Tcp, 8002);
    harness.assert_made_by_the_gateway(third, millis(500));
    assert_eq!(harness.made_by(third), Some(Protocol::NatPmp));
    harness.run_for(secs(7200));
    assert!(!harness.events(id).contains(&Event::Pending), "{:?}", harness.timeline(id));
    harness.assert_ends();
}

/// ADDRESS_MISMATCH.
const MISMATCH: u16 = 12;

#[test]
fn address_mismatches_cost_one_look_in_half_a_minute_whatever_comes_between() {
    let mut harness = set_up(|setup| {
        setup.engine.allowed = Allowed::Pcp;
        setup.engine.recheck_interval = millis(100);
        setup.gateways[0].first_epoch = 100_000;
    });
    let held = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.is_success(held));
    let before = (requests(&mut harness), harness.wire(|wired| wired.opens.len()));
    harness.gateway().faults.refuse(Kind::PcpMap, MISMATCH);
    for port in 9000..9100 {
        harness.create(Tcp, port);
        let grant = recorded(&mut harness, 8000..8001).remove(0);
        for _ in 0..100 {
            harness.inject(Socket::Pcp, SERVER, &grant);
            harness.run_for(millis(1));
        }
    }
    let sent = requests(&mut harness) - before.0;
    let sockets = harness.wire(|wired| wired.opens.len()) - before.1;
    assert!(sent <= 250 && sockets <= 2, "{sent} requests, {sockets} sockets in 10 s");
    assert_eq!(harness.callbacks(held).len(), 1);
    // Nobody is to be told that NAT-PMP could do it.
    assert_eq!(harness.counts().natpmp_map, 0);
}

#[test]
fn two_address_mismatches_are_forgiven_after_the_recheck_period() {
    for lost in [Protocol::Pcp, Protocol::NatPmp] {
        let mut harness = far_away(true, true);
        harness.gateway().faults.refuse_next(Kind::PcpMap, MISMATCH, 2);
        let id = harness.create(Tcp, 8000);
        assert!(harness.runs_until(secs(1), |harness| harness.is_failure(id)), "{:?}", harness.timeline(id));
        // NAT-PMP would map the port of another host.
        assert_eq!(harness.counts().natpmp_map, 0);
        harness.gateway().faults.closed.pcp = lost == Protocol::NatPmp;
        harness.assert_made_by_the_gateway(id, secs(301));
        assert_eq!(harness.made_by(id), Some(if lost == Protocol::Pcp { lost } else { Protocol::NatPmp }));
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn silence_after_an_address_mismatch_ends_in_the_next_protocol() {
    let mut harness = far_away(true, true);
    let id = harness.create(Tcp, 8000);
    harness.assert_made_by_the_gateway(id, millis(250));
    harness.gateway().faults.refuse_next(Kind::PcpMap, MISMATCH, 1);
    let second = harness.create(Tcp, 8001);
    harness.run_until(|harness| harness.counts().pcp_map > 1);
    harness.gateway().faults.silence.pcp = Times::Always;
    harness.assert_made_by_the_gateway(second, millis(10_500));
    assert_eq!(harness.made_by(second), Some(Protocol::NatPmp));
}
