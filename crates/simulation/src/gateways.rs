//! Random gateways: what each is like for good (its character), and what goes wrong with it for a while.

use plum_gateway::core::{
    Action, AssignedPort, Chance, Config, Faults, Framing, Igd, Junk, Kind, Refusal, Spoken, Times, WanKind,
    WrongSource,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// One of the things.
pub fn pick<T: Copy>(rng: &mut fastrand::Rng, things: &[T]) -> T {
    things[rng.usize(0..things.len())]
}

/// True so many times of a hundred.
pub fn percent(rng: &mut fastrand::Rng, chance: u32) -> bool {
    rng.u32(0..100) < chance
}

/// A gateway of this address as it leaves the shop.
pub fn config(rng: &mut fastrand::Rng, address: IpAddr, external: Ipv4Addr) -> Config {
    let kinds = [WanKind::Ip1, WanKind::Ip1, WanKind::Ip2, WanKind::Ppp1];
    let services: Vec<WanKind> = (0..rng.usize(1..3)).map(|_| pick(rng, &kinds)).collect();
    let version = if services.contains(&WanKind::Ip2) { 2 } else { 1 };
    Config {
        igd: (!percent(rng, 15)).then(|| Igd::with(version, &services)),
        external_address: external,
        // Most have been running for long.
        first_epoch: if percent(rng, 70) { rng.u32(0..10_000_000) } else { rng.u32(0..100) },
        announcements: pick(rng, &[0, 1, 3, 10]),
        max_mappings: if percent(rng, 3) { rng.usize(1..20) } else { 65_536 },
        seed: rng.u64(..),
        ..Config::at(address)
    }
}

/// What a gateway is like when nothing is wrong: what it speaks, and its habits.
pub fn character(rng: &mut fastrand::Rng) -> Faults {
    let mut faults = Faults::default();
    choose_protocols(rng, &mut faults);
    if percent(rng, 50) {
        faults.delay = Duration::from_millis(rng.u64(0..60));
    }
    match rng.u32(0..20) {
        0..3 => faults.max_lifetime = Some(rng.u32(60..600)),
        3..6 => faults.max_lifetime = Some(rng.u32(600..7200)),
        6 => faults.lifetime = Some(rng.u32(7200..400_000)),
        // UPnP has no word for a lease that is shorter than what was asked for.
        7 => faults.lifetime = Some(rng.u32(60..7200)),
        _ => {}
    }
    match rng.u32(0..20) {
        0 => faults.assigned_port = AssignedPort::Offset(rng.u16(1..100)),
        1 => faults.assigned_port = AssignedPort::Exactly(rng.u16(1..2000)),
        2 => faults.junk = Junk::Before,
        3 => faults.junk = Junk::After,
        4 => faults.duplicate = Chance::both(f64::from(rng.u32(0..50)) / 100.0),
        5 => faults.external_address_text = Some("0.0.0.0".into()),
        6 => faults.epoch_survives_restart = true,
        9..12 => faults.tables_apart = true,
        7 => {
            let code = pick(rng, &[2, 3, 4, 8, 9]);
            faults.refuse(Kind::PcpMap, code);
        }
        8 => {
            let code = pick(rng, &[2, 3, 4, 5]);
            faults.refuse(Kind::NatPmpMap, code);
        }
        _ => {}
    }
    match rng.u32(0..16) {
        0 => faults.permanent_leases_only = true,
        1 => faults.same_ports_only = true,
        2 => faults.no_add_any = true,
        3 => faults.http.max_connections = Some(rng.usize(1..4)),
        _ => {}
    }
    faults.http.framing =
        pick(rng, &[Framing::ContentLength, Framing::ContentLength, Framing::Chunked, Framing::UntilClose]);
    faults.http.keep_open = faults.http.framing != Framing::UntilClose && percent(rng, 20);
    faults
}

/// Which protocols are spoken, and how the others are not.
pub fn choose_protocols(rng: &mut fastrand::Rng, faults: &mut Faults) {
    faults.silence = Default::default();
    faults.closed = Default::default();
    (faults.pcp, faults.natpmp) = (Spoken::Yes, Spoken::Yes);
    match rng.u32(0..20) {
        0..10 => {}
        10..12 => faults.silence.pcp = Times::Always,
        12..14 => faults.closed.pcp = true,
        14..17 => faults.pcp = Spoken::UnsuppVersion(rng.u8(0..2)),
        17..19 => (faults.closed.pcp, faults.closed.natpmp) = (true, true),
        _ => (faults.silence.pcp, faults.silence.natpmp) = (Times::Always, Times::Always),
    }
    match rng.u32(0..20) {
        0 => faults.silence.natpmp = Times::Always,
        1 => faults.closed.natpmp = true,
        2 => faults.natpmp = Spoken::UnsuppVersion(2),
        _ => {}
    }
    match rng.u32(0..20) {
        0 => faults.silence.ssdp = Times::Always,
        1 => faults.closed.ssdp = true,
        _ => {}
    }
}

/// What goes wrong, and what follows from it for how long after it is over.
pub struct Trouble {
    /// For the trace.
    pub name: &'static str,
    /// A protocol may have been refused to a mapping for this long (docs/protocols.md: tried again when the lifetime of that
    /// answer is over; UPnP's 727 holds for an hour).
    pub excludes_for: Duration,
    /// What UPnP may take for the gateway's nature: equal ports only (724), entries that it does not tell of.
    pub is_remembered: bool,
    /// ADDRESS_MISMATCH puts PCP and NAT-PMP out for good, and slow answers make every wait longer.
    pub lasts: bool,
    /// The longest lifetime that is granted while it lasts, where that is more than is asked for.
    pub lifetime: Duration,
}

/// Adds to what is wrong with a gateway.
pub fn trouble(rng: &mut fastrand::Rng, faults: &mut Faults) -> Trouble {
    let mut trouble = Trouble {
        name: "",
        excludes_for: Duration::ZERO,
        is_remembered: false,
        lasts: false,
        lifetime: Duration::ZERO,
    };
    trouble.name = match rng.u32(0..13) {
        0 => {
            faults.loss = Chance::both(f64::from(rng.u32(1..60)) / 100.0);
            "loses packets"
        }
        1 => {
            faults.duplicate = Chance::both(f64::from(rng.u32(1..100)) / 100.0);
            faults.reorder = f64::from(rng.u32(0..60)) / 100.0;
            faults.reorder_by = Duration::from_millis(rng.u64(1..2000));
            trouble.lasts = true;
            "doubles and reorders"
        }
        2 => {
            faults.delay = Duration::from_millis(rng.u64(0..3000));
            trouble.lasts = true;
            "is slow"
        }
        3 | 4 => {
            choose_protocols(rng, faults);
            "speaks other protocols"
        }
        5 => {
            let lifetime = pick(rng, &[0, 1, 5, 30, 600, 7200, 86_400, 1_000_000]);
            faults.lifetime = Some(lifetime);
            trouble.lifetime = Duration::from_secs(lifetime.into());
            "grants other lifetimes"
        }
        6 => {
            match rng.u32(0..6) {
                0 => faults.junk = Junk::Instead,
                1 => faults.wrong_source = Some(WrongSource::Port),
                2 => {
                    let other = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66));
                    faults.wrong_source = Some(WrongSource::Address(other));
                }
                3 => faults.wrong_nonce = Times::Next(rng.u32(1..50)),
                4 => faults.wrong_internal_port = Times::Next(rng.u32(1..50)),
                _ => faults.assigned_port = AssignedPort::Exactly(0),
            }
            "answers with nonsense"
        }
        7 | 8 => {
            let kind = pick(rng, &[Kind::PcpMap, Kind::NatPmpMap, Kind::PcpDelete, Kind::NatPmpAddress]);
            let lifetime = pick(rng, &[0, 30, 300, 1800]);
            let times = if rng.bool() { Times::Always } else { Times::Next(rng.u32(1..10)) };
            let code = rng.u16(1..14);
            trouble.lasts |= code == 12;
            faults.refuse_some(Refusal { kind, port: None, code, lifetime, times });
            trouble.excludes_for = Duration::from_secs(u64::from(lifetime).max(30));
            "refuses"
        }
        9 | 10 => {
            // Those that the library calls.
            let others = [Action::GetConnectionTypeInfo, Action::GetListOfPortMappings];
            let is_called = |action: &Action| !action.is_of_interface() && !others.contains(action);
            let actions: Vec<Action> = Action::ALL.into_iter().filter(is_called).collect();
            for _ in 0..rng.usize(1..4) {
                let action = pick(rng, &actions);
                let codes = [401, 402, 501, 602, 606, 714, 716, 718, 724, 725, 727, 728, 729];
                let code = pick(rng, &codes);
                trouble.is_remembered = true;
                if code == 727 {
                    trouble.excludes_for = Duration::from_secs(3600);
                }
                let times = if rng.bool() { Times::Always } else { Times::Next(rng.u32(1..6)) };
                let kind = Kind::Soap(action);
                faults.refuse_some(Refusal { kind, port: None, code, lifetime: 30, times });
            }
            "refuses actions"
        }
        11 => {
            bad_http(rng, faults);
            trouble.is_remembered = true;
            "has a bad HTTP server"
        }
        _ => {
            let text = pick(rng, &["0.0.0.0", "", "224.0.0.1", "10.9.8.7", "nonsense"]);
            faults.external_address_text = Some(text.into());
            "has a strange external address"
        }
    };
    trouble
}

fn bad_http(rng: &mut fastrand::Rng, faults: &mut Faults) {
    let http = &mut faults.http;
    match rng.u32(0..10) {
        0 => http.stall_after = Some(rng.usize(0..2000)),
        1 => http.junk = Times::Next(rng.u32(1..20)),
        2 => http.hang_up = Times::Next(rng.u32(1..20)),
        3 => faults.silence.http = Times::Next(rng.u32(1..20)),
        4 => faults.closed.http = true,
        5 => http.soap_status = Some(rng.u16(300..600)),
        6 => http.dribble = Some((rng.usize(1..200), Duration::from_millis(rng.u64(1..200)))),
        7 => http.max_connections = Some(rng.usize(0..3)),
        8 => http.framing = Framing::TooLong(rng.usize(1..100)),
        _ => http.framing = Framing::TooShort(rng.usize(1..100)),
    }
}
