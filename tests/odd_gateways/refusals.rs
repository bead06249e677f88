//! Gateways that refuse everything.

use crate::stage::{Stage, VirtualClock, rows};
use crate::{millis, secs};
use plum_gateway::core::{Action, Gateway};
use plum_gateway::odd;

fn actions<S: Stage>(stage: &mut S) -> u64 {
    stage.gateway(|gateway| gateway.counts.soap.values().sum())
}

rows! {
    fn five_hundred_mappings_cost_a_gateway_that_refuses_some_dozens_of_requests<S>() {
        let mut stage = S::begin(odd::refuses_everything);
        let ids: Vec<i32> = (1..=500).map(|port| stage.create(8000 + port)).collect();
        stage.wait(secs(3), "all have failed", |stage| ids.iter().all(|&id| !stage.told(id).is_empty()));
        let requests = actions(&mut stage);
        assert!(requests < 60, "{requests} requests");
        for &id in &ids {
            assert_eq!(stage.told(id), [plum_engine::io::Event::Failure]);
        }
        stage.end();
    }

    fn a_gateway_that_refuses_no_more_maps_them_all<S>() {
        let mut stage = S::begin(odd::refuses_everything);
        let ids: Vec<i32> = (1..=20).map(|port| stage.create(8000 + port)).collect();
        for &id in &ids {
            stage.expect_failure(secs(3), id);
        }
        stage.gateway(Gateway::clear_scripts);
        for &id in &ids {
            stage.expect_success(secs(15), id);
        }
        stage.end();
    }
}

/// Virtual only: hundreds of mappings, many times.
#[test]
fn whatever_a_service_answers_to_everything_it_gets_some_dozens_of_requests() {
    for (name, reply) in odd::UNKNOWN.iter().filter(|(name, _)| *name != "hanging") {
        let mut stage = VirtualClock::begin(|gateway| odd::answers_everything(gateway, *reply));
        let ids: Vec<i32> = (1..=500).map(|port| stage.create(8000 + port)).collect();
        stage.wait(secs(3), name, |stage| ids.iter().all(|&id| !stage.told(id).is_empty()));
        let requests = actions(&mut stage);
        assert!(requests < 60, "{name}: {requests} requests");
        for &id in &ids {
            assert_eq!(stage.told(id), [plum_engine::io::Event::Failure], "{name}");
        }
        stage.end();
    }
}

/// Virtual only: retries come after 5, 10, 20 s and so on.
#[test]
fn retries_are_one_request_each() {
    let mut stage = VirtualClock::begin(odd::refuses_everything);
    let ids: Vec<i32> = (1..=500).map(|port| stage.create(8000 + port)).collect();
    stage.wait(secs(3), "all have failed", |stage| ids.iter().all(|&id| !stage.told(id).is_empty()));
    let before = actions(&mut stage);
    stage.pass(secs(280));
    let requests = actions(&mut stage) - before;
    // Within 280 s each mapping is tried again six times at most.
    assert!(requests <= 6 * 500, "{requests} requests");
    let one = VirtualClock::begin(odd::refuses_everything);
    let mut one = one;
    let id = one.create(8000);
    one.expect_failure(secs(3), id);
    one.gateway(|gateway| gateway.counts.reset());
    one.pass(secs(280));
    let adds = one.count_of(Action::AddPortMapping);
    assert!((4..=7).contains(&adds), "{adds} requests of one mapping");
    assert_eq!(one.told(id).len(), 1);
    let took = stage.cleanup();
    assert!(took < millis(900), "{took:?}");
}
