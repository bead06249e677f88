//! Gateways whose HTTP connections are odd.

use crate::stage::rows;
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::{Framing, Gateway};
use plum_gateway::odd;

rows! {
    fn one_connection_at_a_time_serves_six_mappings<S>() {
        for odd in [odd::one_connection_at_a_time, odd::refuses_a_second_connection] {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                odd(gateway);
                gateway.faults.delay = millis(10);
            });
            let ids: Vec<i32> = (8000..8006).map(|port| stage.create(port)).collect();
            for &id in &ids {
                assert_eq!(stage.expect_success(secs(5), id).0, UpnpIgd);
            }
            assert_eq!(stage.entries().len(), 6);
            for &id in &ids {
                stage.assert_successes(id, 1);
            }
            stage.pass(secs(8000));
            for &id in &ids {
                stage.assert_successes(id, 1);
            }
            stage.end();
        }
    }

    fn a_connection_that_stays_open_ends_with_its_document<S>() {
        let framings: [fn(&mut Gateway); 7] = [
            odd::connection_stays_open,
            |gateway| gateway.faults.http.framing = Framing::TooLong(100),
            |gateway| gateway.faults.http.keep_open = true,
            |gateway| gateway.faults.http.framing = Framing::TooShort(10),
            |gateway| stays_open(gateway, Framing::TooLong(1)),
            |gateway| stays_open(gateway, Framing::TooShort(1)),
            |gateway| stays_open(gateway, Framing::Chunked),
        ];
        for (n, framing) in framings.into_iter().enumerate() {
            let mut stage = S::begin(|gateway| {
                odd::closes_pcp_port(gateway);
                framing(gateway);
            });
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(secs(1), id), (UpnpIgd, 8000), "framing {n}");
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn a_connection_that_stays_open_without_a_body_is_waited_for_a_little<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            stays_open_without_a_body(gateway);
        });
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(secs(2), id), (UpnpIgd, 8000));
        stage.pass(secs(8000));
        stage.assert_successes(id, 1);
        stage.end();
    }
}

fn stays_open_without_a_body(gateway: &mut Gateway) {
    odd::addition_says(gateway, "");
    odd::connection_stays_open(gateway);
}

fn stays_open(gateway: &mut Gateway, framing: Framing) {
    gateway.faults.http.framing = framing;
    gateway.faults.http.keep_open = true;
}
