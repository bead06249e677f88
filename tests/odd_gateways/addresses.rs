//! Gateways whose external address is odd, or not to be had.

use crate::stage::{Stage, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::Action;
use plum_gateway::odd::{self, Replies, UNKNOWN};

rows! {
    fn no_address_after_a_good_mapping_is_a_failure_and_no_loop<S>() {
        assert_failure_without_loop::<S>(&UNKNOWN[..5]);
    }

    fn an_error_for_an_address_is_a_failure_and_no_loop<S>() {
        assert_failure_without_loop::<S>(&UNKNOWN[5..]);
    }

    fn an_address_that_is_none_is_a_failure_that_says_so<S>() {
        for text in ["", "0.0.0.0", "127.0.0.1", "224.0.0.1", "2001:db8::7", "not connected", "203.0.113"] {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd::address_is(gateway, text);
            });
            let id = stage.create(8000);
            stage.expect_failure(secs(10), id);
            assert!(stage.has_logged("external"), "{text:?}: the reason is not told");
            stage.pass(secs(1000));
            assert_eq!(stage.told(id).len(), 1, "{text:?}: {:?}", stage.told(id));
            stage.end();
        }
    }

    fn the_address_that_natpmp_tells_does_for_upnp<S>() {
        for (name, reply) in UNKNOWN {
            let mut stage = S::begin(|gateway| {
                gateway.faults.silence.pcp = plum_gateway::core::Times::Always;
                odd::natpmp_refuses(gateway, 4);
                odd::address_gets(gateway, *reply);
            });
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(secs(7), id), (UpnpIgd, 8000), "{name}");
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn an_address_that_comes_later_is_a_success<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::address_is(gateway, "0.0.0.0");
        });
        let id = stage.create(8000);
        stage.expect_failure(millis(1500), id);
        stage.gateway(|gateway| gateway.faults.external_address_text = None);
        stage.expect_success(secs(11), id);
        stage.end();
    }
}

fn assert_failure_without_loop<S: Stage>(replies: &[(&str, Replies)]) {
    for (name, reply) in replies {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            odd::address_gets(gateway, *reply);
        });
        let id = stage.create(8000);
        stage.expect_failure(secs(10), id);
        let requests = stage.count_of(Action::AddPortMapping);
        assert!(requests <= 12, "{name}: {requests} AddPortMapping");
        stage.pass(secs(60));
        let requests = stage.count_of(Action::AddPortMapping) - requests;
        assert!(requests <= 12, "{name}: {requests} AddPortMapping more in a minute");
        assert_eq!(stage.told(id).len(), 1, "{name}: {:?}", stage.told(id));
        stage.end();
    }
}
