//! NAT-PMP servers that are odd.

use crate::stage::{Stage, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::{NatPmp, UpnpIgd};
use plum_gateway::core::{Gateway, Spoken, Times};
use plum_gateway::odd::{self, InternalPort};

/// PCP is silent, is refused by NAT-PMP's form, or has its port dropped: what a router without it does.
const WITHOUT_PCP: [fn(&mut Gateway); 2] = [
    |gateway| gateway.faults.silence.pcp = Times::Always,
    |gateway| gateway.faults.pcp = Spoken::UnsuppVersion(0),
];

rows! {
    fn map_is_silent_and_upnp_works<S>() {
        for without_pcp in WITHOUT_PCP {
            let mut stage = S::begin(|gateway| {
                without_pcp(gateway);
                odd::natpmp_maps_nothing(gateway);
            });
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(4500), id), (UpnpIgd, 8000));
            stage.assert_successes(id, 1);
            stage.end();
        }
    }

    fn map_is_refused_and_upnp_works<S>() {
        for without_pcp in WITHOUT_PCP {
            for code in [1, 2, 3, 4, 5, 6, 255, 4711] {
                let mut stage = S::begin(|gateway| {
                    without_pcp(gateway);
                    odd::natpmp_refuses(gateway, code);
                });
                let id = stage.create(8000);
                assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000), "result {code}");
                stage.assert_successes(id, 1);
                stage.end();
            }
        }
    }

    fn map_grants_nothing_and_upnp_works<S>() {
        for odd in [odd::natpmp_grants_nothing, odd::natpmp_grants_no_port] {
            let mut stage = S::begin(|gateway| {
                WITHOUT_PCP[0](gateway);
                odd(gateway);
            });
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000));
            stage.end();
        }
    }

    fn map_is_answered_in_another_form_and_upnp_works<S>() {
        // Cut off, of another version; an error in 8 octets.
        assert_upnp_after::<S>(4500, &[0, 130, 0, 0, 0, 0, 0, 9, 31, 64, 31, 64]);
        assert_upnp_after::<S>(4500, &[1, 130, 0, 1, 0, 0, 0, 9]);
        assert_upnp_after::<S>(500, &[0, 130, 0, 5, 0, 0, 0, 9]);
    }

    fn map_is_answered_for_another_and_upnp_works<S>() {
        // UDP in place of TCP, another port.
        assert_upnp_after::<S>(4500, &[0, 129, 0, 0, 0, 0, 0, 9, 31, 64, 31, 64, 0, 0, 28, 32]);
        assert_upnp_after::<S>(4500, &[0, 130, 0, 0, 0, 0, 0, 9, 31, 65, 31, 66, 0, 0, 28, 32]);
    }

    fn an_address_that_is_not_told_and_upnp_works<S>() {
        let mut stage = S::begin(|gateway| {
            // So that the mapping is asked for at once.
            gateway.faults.pcp = Spoken::UnsuppVersion(0);
            odd::natpmp_tells_no_address(gateway);
        });
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(millis(4500), id), (UpnpIgd, 8000));
        stage.assert_successes(id, 1);
        stage.end();
    }

    fn ports_are_cut_to_8_bits_and_upnp_works<S>() {
        for (internal, wish) in [(8000, 0), (8000, 9000), (256, 0)] {
            let mut stage = S::begin(|gateway| {
                WITHOUT_PCP[0](gateway);
                odd::natpmp_cuts_ports(gateway);
            });
            let id = stage.create_wishing(plum_wire::Transport::Udp, internal, wish);
            let external = if wish == 0 { internal } else { wish };
            assert_eq!(stage.expect_success(millis(4500), id), (UpnpIgd, external));
            stage.end();
        }
    }

    fn a_vpn_provider_that_names_no_internal_port_maps<S>() {
        for named in [InternalPort::Zero, InternalPort::External] {
            let mut stage = S::begin(|gateway| odd::vpn_provider(gateway, named));
            let id = stage.create(8000);
            assert_eq!(stage.expect_success(millis(500), id), (NatPmp, 28_000), "{named:?}");
            stage.pass(secs(8000));
            stage.assert_successes(id, 1);
            assert_eq!(stage.entries().len(), 1);
            stage.end();
        }
    }
}

/// UPnP maps after these milliseconds, where NAT-PMP answers so.
fn assert_upnp_after<S: Stage>(within: u64, answer: &'static [u8]) {
    let mut stage = S::begin(|gateway| {
        WITHOUT_PCP[0](gateway);
        odd::natpmp_answers(gateway, answer);
    });
    let id = stage.create(8000);
    assert_eq!(stage.expect_success(millis(within), id), (UpnpIgd, 8000), "{answer:?}");
    stage.assert_successes(id, 1);
    stage.end();
}
