//! Gateways whose GetSpecificPortMappingEntry is odd.

use crate::stage::{Stage, VirtualClock, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::{Action, Gateway, Kind, Reply};
use plum_gateway::odd::{self, InternalPort, UNKNOWN};
use plum_wire::Transport::Tcp;

/// Each look is answered by the oddity of the external port's place among those that are mapped.
fn looks_by_port(gateway: &mut Gateway, first: u16) {
    gateway.add_script(move |request| {
        let place = request.external_port.and_then(|port| port.checked_sub(first));
        let unknown = place.and_then(|place| UNKNOWN.get(usize::from(place)));
        match (request.kind, unknown) {
            (Kind::Soap(Action::GetSpecificPortMappingEntry), Some((_, reply))) => reply(),
            _ => Reply::usual(),
        }
    });
}

/// 714 is the one answer that says something.
fn says_nothing(name: &str) -> bool {
    !name.starts_with("714")
}

rows! {
    fn a_wished_port_is_asked_for_whatever_a_look_at_it_says<S>() {
        for (name, reply) in UNKNOWN {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::looks_get(gateway, *reply);
            });
            let id = stage.create_wishing(Tcp, 8000, 9000);
            let within = if *name == "hanging" { millis(2300) } else { millis(500) };
            assert_eq!(stage.expect_success(within, id), (UpnpIgd, 9000), "{name}");
            stage.end();
        }
    }

    fn looks_that_say_nothing_lose_nothing<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            looks_by_port(gateway, 8000);
        });
        let ids: Vec<i32> = (8000..).zip(UNKNOWN).map(|(port, _)| stage.create(port)).collect();
        for &id in &ids {
            stage.expect_success(secs(5), id);
        }
        let looks = u64::try_from(2 * UNKNOWN.len()).expect("few");
        stage.wait(secs(60), "two looks at each entry", |stage| {
            stage.count_of(Action::GetSpecificPortMappingEntry) >= looks
        });
        stage.pass(secs(8000));
        for (&id, (name, _)) in ids.iter().zip(UNKNOWN).filter(|(_, (name, _))| says_nothing(name)) {
            assert_eq!(stage.told(id).len(), 1, "{name}: {:?}", stage.told(id));
        }
        assert_eq!(stage.entries().len(), ids.len());
        stage.end();
    }

    fn a_conflict_with_what_cannot_be_looked_at_leads_to_another_port<S>() {
        for (name, reply) in UNKNOWN {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::ports_are_refused(gateway, 8000..=8000, 718);
                odd::looks_get(gateway, *reply);
            });
            let id = stage.create(8000);
            let within = if *name == "hanging" { secs(9) } else { millis(500) };
            let (_, port) = stage.expect_success(within, id);
            assert!(port >= 49_152, "{name}: {port}");
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn an_entry_shown_with_another_internal_port_stays_and_is_deleted_at_the_end<S>() {
        for shown in [InternalPort::Zero, InternalPort::External] {
            for wish in [0, 9000] {
                let mut stage = S::begin(|gateway| {
                    odd::closes_pcp_port(gateway);
                    odd::looks_show(gateway, shown);
                });
                let id = stage.create_wishing(Tcp, 8000, wish);
                let port = if wish == 0 { 8000 } else { wish };
                assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, port));
                let looks = u64::from(wish != 0);
                if S::HAS_EXACT_TIMES || (shown, wish) == (InternalPort::Zero, 9000) {
                    stage.wait_for_looks(looks);
                }
                stage.pass(secs(8000));
                stage.assert_successes(id, 1);
                assert_eq!(stage.entries().len(), 1);
                stage.end();
            }
        }
    }

    fn an_entry_of_ours_that_is_in_the_way_is_replaced<S>() {
        // Left by an earlier run: the gateway refuses to make it again while it is there.
        for shown in [InternalPort::Zero, InternalPort::External] {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::looks_show(gateway, shown);
                odd::entries_are_not_replaced(gateway);
            });
            let id = stage.create(8000);
            stage.expect_success(millis(500), id);
            stage.gateway(odd::closes_http);
            stage.cleanup();
            assert_eq!(stage.entries().len(), 1, "nobody could delete it");
            let mut stage = stage.begin_again();
            stage.gateway(|gateway| gateway.faults.closed.http = false);
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(secs(2), id), (UpnpIgd, 8000), "{shown:?}");
            stage.end();
        }
    }
}

/// Virtual only: what the gateway denies is found out by looks at 2 and 6 s, and what comes of it by those of hours.
#[test]
fn entries_that_are_denied_are_believed_gone_once() {
    let mut stage = VirtualClock::begin(|gateway| {
        odd::closes_pcp_port(gateway);
        odd::looks_deny_entries(gateway);
    });
    let id = stage.create(8000);
    stage.expect_success(millis(500), id);
    stage.pass(secs(8000));
    assert!(stage.told(id).len() <= 2, "{:?}", stage.told(id));
    // It may be true one day: what is denied is made again, in silence, at most once a recheck period.
    let adds = stage.count_of(Action::AddPortMapping);
    assert!((10..=30).contains(&adds), "{adds}");
    stage.end();
}
