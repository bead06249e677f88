//! A host on the link that sends NAT-PMP answers in the gateway's name to all ports, again and again: it needs to see nothing
//! of ours, since NAT-PMP has no nonce.

use crate::harness::{Harness, ip, millis, secs, set_up};
use crate::world::{EXTERNAL, GATEWAY};
use plum_engine::io::{Event, MappingId, Protocol, Socket};
use plum_gateway::core::{Spoken, Times};
use plum_gateway::odd;
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

const SERVER: SocketAddr = SocketAddr::new(GATEWAY, 5351);
const PORT: NonZeroU16 = NonZeroU16::new(8000).expect("not 0");

/// What each port gets: an external address, and that the port is mapped; in the end, in PCP's form, that PCP is not spoken.
pub fn lies(address: IpAddr, port: u16) -> [Vec<u8>; 3] {
    let IpAddr::V4(address) = address else { panic!("NAT-PMP knows IPv4 only") };
    let map = [&port.to_be_bytes()[..], &port.to_be_bytes(), &7200u32.to_be_bytes()].concat();
    [
        [&[0, 128, 0, 0, 0, 0, 0, 9][..], &address.octets()].concat(),
        [&[0, 130, 0, 0, 0, 0, 0, 9][..], &map].concat(),
        vec![2, 0x81, 0, 1, 0, 0, 0, 30],
    ]
}

/// A sweep that goes round and round: the port of each socket has its turn at a point in time that is known to nobody.
struct Sweep {
    /// In how many milliseconds each port has its turn, in the same order each time or in another.
    round: u64,
    is_shuffled: bool,
    random: fastrand::Rng,
    lies: [Vec<u8>; 3],
    /// The turns of the sockets' ports, and how often each socket had been opened then.
    turns: [(Socket, usize, u64); 2],
}

impl Sweep {
    fn new(seed: u64, round: u64, is_shuffled: bool, lies: [Vec<u8>; 3]) -> Sweep {
        let turns = [(Socket::Pcp, 0, 0), (Socket::NatPmp, 0, 0)];
        Sweep { round, is_shuffled, random: fastrand::Rng::with_seed(seed), lies, turns }
    }

    /// The millisecond `at` of the sweep.
    fn go_on(&mut self, harness: &mut Harness, at: u64) {
        for (socket, opens, turn) in &mut self.turns {
            let opened = harness.wire(|wired| wired.opens.iter().filter(|open| *open == socket).count());
            if *opens != opened || self.is_shuffled && at.is_multiple_of(self.round) {
                (*opens, *turn) = (opened, self.random.u64(..self.round));
            }
            if at % self.round == *turn {
                for lie in &self.lies {
                    harness.inject(*socket, SERVER, lie);
                }
            }
        }
        harness.run_for(millis(1));
    }
}

/// The gateway's UPnP has made it, and the program was never told anything else. (Its answers can say that it has restarted, as
/// forged announcements can.)
#[track_caller]
fn assert_honest(harness: &mut Harness, id: MappingId, what: &str) {
    let made = Event::Success { protocol: Protocol::UpnpIgd, address: EXTERNAL, port: PORT };
    assert!(harness.is_success(id), "{what}: {:?}", harness.timeline(id));
    assert!(harness.callbacks(id).iter().all(|event| *event == made), "{what}: {:?}", harness.timeline(id));
    assert_eq!(harness.gateway().table().len(), 1, "{what}");
}

#[test]
fn a_sweep_of_all_ports_takes_no_mapping_from_a_gateway_that_answers_by_upnp() {
    // A lie that is another address, and one that changes nothing but who has the mapping.
    let lie = ip("198.51.100.66");
    for (address, round, wait) in [
        (lie, 500, 0),
        (EXTERNAL, 500, 0),
        (EXTERNAL, 100, 0),
        (lie, 500, 400),
        (lie, 250, 800),
        (lie, 900, 800),
    ] {
        for seed in 0..100 {
            let mut harness = set_up(|setup| setup.seed = seed);
            let silence = &mut harness.gateway().faults.silence;
            (silence.pcp, silence.natpmp) = (Times::Always, Times::Always);
            if wait > 0 {
                odd::own_description_comes_late(harness.gateway(), millis(wait));
            }
            let mut sweep = Sweep::new(seed, round, seed % 2 == 1, lies(address, 8000));
            let id = harness.create(Tcp, 8000);
            for at in 0..4000 {
                sweep.go_on(&mut harness, at);
            }
            assert_honest(&mut harness, id, &format!("seed {seed}, {address}, {round} ms, {wait} ms"));
            // A sweep while a second one is asked for, and while the first is renewed.
            sweep.lies = lies(address, 8001);
            let second = harness.create(Tcp, 8001);
            for at in 0..2000 {
                sweep.go_on(&mut harness, at);
            }
            assert_eq!(harness.made_by(second), Some(Protocol::UpnpIgd), "seed {seed}");
            harness.destroy_and_wait(second);
            harness.run_for(secs(4000));
            assert_honest(&mut harness, id, &format!("seed {seed}, {address}"));
            harness.assert_ends();
        }
    }
}

#[test]
fn one_sweep_is_found_out_by_what_comes_to_the_socket_of_the_other_protocol() {
    // The worst that may happen: each of its packets comes when it is waited for, but it comes to all ports.
    let mut harness = set_up(|_| {});
    let silence = &mut harness.gateway().faults.silence;
    (silence.pcp, silence.natpmp) = (Times::Always, Times::Always);
    let id = harness.create(Tcp, 8000);
    for _ in 0..2000 {
        for lie in lies(ip("198.51.100.66"), 8000) {
            for socket in [Socket::NatPmp, Socket::Pcp] {
                harness.inject(socket, SERVER, &lie);
            }
        }
        harness.run_for(millis(1));
    }
    assert_honest(&mut harness, id, "a packet each millisecond");
}

#[test]
fn a_second_exchange_that_says_something_else_is_believed_as_little_as_the_first() {
    let mut harness = set_up(|_| {});
    let silence = &mut harness.gateway().faults.silence;
    (silence.pcp, silence.natpmp) = (Times::Always, Times::Always);
    let id = harness.create(Tcp, 8000);
    // Whoever meets our port at once, and lies about another address each time.
    for n in 0..2000u32 {
        let [.., third, fourth] = n.to_be_bytes();
        for lie in lies(Ipv4Addr::new(198, 51, third, fourth).into(), 8000) {
            harness.inject(Socket::NatPmp, SERVER, &lie);
        }
        harness.run_for(millis(1));
    }
    assert_honest(&mut harness, id, "another address each time");
}

#[test]
fn a_natpmp_server_that_answers_at_once_is_asked_once() {
    // PCP is denied, or its port is closed; UPnP answers as soon as it can, or not at all.
    for (is_denied, has_upnp) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut harness = set_up(|setup| {
            if !has_upnp {
                setup.gateways[0].igd = None;
            }
        });
        if is_denied {
            harness.gateway().faults.pcp = Spoken::UnsuppVersion(0);
        } else {
            harness.gateway().faults.closed.pcp = true;
        }
        let id = harness.create(Tcp, 8000);
        // Two round trips of 4 ms.
        assert!(
            harness.runs_until(millis(9), |harness| harness.is_success(id)),
            "{:?}",
            harness.timeline(id)
        );
        assert_eq!(harness.made_by(id), Some(Protocol::NatPmp));
        let second = harness.create(Tcp, 8001);
        harness.assert_made_by_the_gateway(second, millis(9));
        let counts = harness.counts();
        assert_eq!((counts.natpmp_address, counts.natpmp_map), (1, 2), "{is_denied}, {has_upnp}");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_natpmp_server_beside_upnp_and_a_silent_pcp_is_asked_twice_for_its_first_mapping() {
    let mut harness = set_up(|_| {});
    harness.gateway().faults.silence.pcp = Times::Always;
    let id = harness.create(Tcp, 8000);
    assert!(harness.runs_until(millis(255), |harness| harness.is_success(id)), "{:?}", harness.timeline(id));
    assert_eq!(harness.made_by(id), Some(Protocol::NatPmp));
    let counts = harness.counts();
    assert_eq!((counts.natpmp_address, counts.natpmp_map), (2, 2));
    assert_eq!(harness.gateway().table().len(), 1);
    let second = harness.create(Tcp, 8001);
    harness.assert_made_by_the_gateway(second, millis(300));
    assert_eq!(harness.counts().natpmp_map, 3);
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn a_natpmp_server_whose_second_answers_are_lost_loses_its_first_mapping_to_upnp_and_leaves_nothing() {
    let mut harness = set_up(|_| {});
    harness.gateway().faults.silence.pcp = Times::Always;
    let id = harness.create(Tcp, 8000);
    harness.run_until(|harness| harness.counts().natpmp_map == 1);
    harness.gateway().faults.silence.natpmp = Times::Always;
    harness.assert_made_by_the_gateway(id, millis(600));
    assert_eq!(harness.made_by(id), Some(Protocol::UpnpIgd));
    harness.run_for(secs(30));
    harness.gateway().faults.silence.natpmp = Times::Never;
    assert_eq!(harness.callbacks(id).len(), 1);
    harness.run_for(secs(4000));
    harness.assert_ends();
    harness.assert_nothing_left();
}
