//! Gateways that are not alone on their network, or are heard by multicast alone.

use crate::stage::{Lan, Machine, Start, lan_rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::{self, NatPmp, Pcp, UpnpIgd};
use plum_gateway::core::{Action, Gateway, Igd, Kind, Reply, Silence, Times, Transport};
use plum_gateway::odd;

/// A machine that is no gateway: a television, a printer.
fn other(n: u8, hangs: bool) -> Machine {
    Box::new(move |machine| {
        odd::closes_pcp_port(machine);
        machine.set_igd(Some(Igd::other(
            "MediaRenderer",
            &format!("7d1f2a60-0000-4000-8000-0000000000{n:02x}"),
        )));
        if hangs {
            machine.faults.silence.http = Times::Always;
        }
    })
}

/// A next hop that maps nothing.
fn deaf_next_hop(machine: &mut Gateway) {
    odd::drops_pcp_port(machine);
    machine.set_igd(None);
}

/// A gateway with UPnP alone and a name of its own.
fn second_gateway(machine: &mut Gateway) {
    odd::closes_pcp_port(machine);
    machine.set_igd(Some(Igd { uuid: "7d1f2a60-0000-4000-8000-00c0ffee0077".into(), ..Igd::default() }));
}

lan_rows! {
    fn a_gateway_that_is_not_the_next_hop_is_found_among_twenty_others<S>() {
        // The gateway answers before the others, after them, or at the end of the second that MX allows; and all that have a
        // place may hang.
        for (late, hanging) in [(0, 3..5), (20, 0..2), (900, 10..12), (900, 0..20), (900, 0..3)] {
            let mut machines: Vec<Machine> = vec![Box::new(deaf_next_hop)];
            machines.extend((0..20).map(|n| other(n, hanging.contains(&n))));
            machines.push(Box::new(move |machine| {
                second_gateway(machine);
                odd::own_description_comes_late(machine, millis(late));
            }));
            let mut stage = S::begin_lan(Start::default(), machines);
            let id = stage.create(8000);
            let what = "the mapping is made";
            stage.wait(millis(1500), what, |stage| stage.success(id).is_some());
            assert_eq!(stage.success(id), Some((UpnpIgd, 8000)));
            assert_eq!(stage.entries_of(21).len(), 1);
            stage.assert_successes(id, 1);
            stage.end_lan(22);
        }
    }

    fn a_gateway_that_answers_no_search_is_found_by_its_notification<S>() {
        let gateway = |machine: &mut Gateway| {
            odd::closes_pcp_port(machine);
            odd::answers_no_search(machine);
        };
        let mut stage = S::begin_lan(Start::default(), vec![Box::new(gateway)]);
        let id = stage.create(8000);
        stage.expect_failure(secs(4), id);
        stage.gateway(|gateway| gateway.notify(true));
        assert_eq!(stage.expect_success(secs(6), id), (UpnpIgd, 8000));
        stage.end_lan(1);
    }

    fn a_gateway_that_answers_no_search_may_announce_itself_meanwhile<S>() {
        let ports: [fn(&mut Gateway); 2] = [odd::closes_pcp_port, odd::drops_pcp_port];
        for port in ports {
            let gateway = move |machine: &mut Gateway| {
                port(machine);
                odd::answers_no_search(machine);
            };
            let mut stage = S::begin_lan(Start::default(), vec![Box::new(gateway)]);
            let id = stage.create(8000);
            stage.spend(millis(1000));
            stage.gateway(|gateway| gateway.notify(true));
            assert_eq!(stage.expect_success(secs(6), id), (UpnpIgd, 8000));
            stage.end_lan(1);
        }
    }

    fn an_orderly_restart_without_a_boot_id_is_over_in_seconds<S>() {
        let mut stage = S::begin_lan(Start::default(), vec![Box::new(odd::gives_no_boot_id)]);
        let ids = [8000, 8001].map(|port| stage.create(port));
        for id in ids {
            assert_eq!(stage.expect_success(secs(1), id).0, UpnpIgd);
        }
        stage.spend(secs(1));
        stage.gateway(|gateway| {
            gateway.notify(false);
            gateway.add_script(|request| match request.kind {
                Kind::Soap(_) => Reply::http(404, ""),
                _ => Reply::usual(),
            });
        });
        stage.spend(secs(1));
        stage.set_power(0, false);
        stage.spend(secs(2));
        stage.gateway(|gateway| {
            gateway.clear_scripts();
            gateway.forget_mappings();
        });
        stage.set_power(0, true);
        stage.gateway(|gateway| {
            gateway.notify(false);
            gateway.notify(true);
        });
        for id in ids {
            stage.wait(secs(8), "the entry is back", |stage| stage.entries().len() == 2);
            stage.wait(secs(1), "SUCCESS again", |stage| stage.success(id).is_some());
        }
        stage.end_lan(1);
    }

    fn a_look_that_is_overtaken_by_a_request_says_nothing_of_its_entry<S>() {
        let gateway = |machine: &mut Gateway| {
            odd::closes_pcp_port(machine);
            odd::looks_deny_slowly(machine, millis(300));
        };
        let mut stage = S::begin_lan(Start::default(), vec![Box::new(gateway)]);
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(secs(1), id), (UpnpIgd, 8000));
        let looks = Kind::Soap(Action::GetSpecificPortMappingEntry);
        stage.wait(secs(3), "a look is under way", |stage| stage.count(looks) > 0);
        stage.gateway(|gateway| {
            odd::additions_take_time(gateway, millis(600));
            gateway.restart(false);
        });
        let is_told = |stage: &mut S| stage.told(id).len() == 2 && stage.success(id).is_some();
        stage.wait(secs(6), "SUCCESS again", is_told);
        stage.end_lan(1);
    }

    fn an_addition_that_a_restart_has_overtaken_is_made_again<S>() {
        let mut stage = S::begin_lan(Start::default(), vec![Box::new(odd::closes_pcp_port)]);
        let first = stage.create(8000);
        assert_eq!(stage.expect_success(secs(1), first), (UpnpIgd, 8000));
        stage.gateway(|gateway| odd::additions_take_time(gateway, millis(600)));
        let second = stage.create(8001);
        let additions = Kind::Soap(Action::AddPortMapping);
        stage.wait(secs(1), "it has its entry", |stage| stage.count(additions) == 2);
        // The table is lost, and the connection is not.
        stage.gateway(|gateway| {
            gateway.notify(false);
            gateway.forget_mappings();
            gateway.notify(true);
        });
        assert_eq!(stage.expect_success(secs(6), second), (UpnpIgd, 8001));
        stage.wait(secs(6), "the other is made again", |stage| stage.told(first).len() == 2);
        assert_eq!(stage.entries().len(), 2);
        stage.assert_successes(second, 1);
        stage.end_lan(1);
    }

    fn a_reboot_of_a_pcp_server_is_over_twelve_seconds_after_its_return<S>() {
        assert_reboot_is_survived::<S>(Pcp, |_| {});
    }

    fn a_reboot_of_a_natpmp_server_is_over_twelve_seconds_after_its_return<S>() {
        assert_reboot_is_survived::<S>(NatPmp, |gateway| gateway.faults.closed.pcp = true);
    }

    fn a_reboot_of_a_upnp_device_is_over_twelve_seconds_after_its_return<S>() {
        assert_reboot_is_survived::<S>(UpnpIgd, odd::closes_pcp_port);
    }

    fn a_reboot_without_a_boot_id_is_over_twelve_seconds_after_the_devices_return<S>() {
        assert_reboot_is_survived::<S>(UpnpIgd, odd::gives_no_boot_id);
    }

    fn a_next_hop_that_comes_late_gets_its_mappings<S>() {
        let machines: Vec<Machine> = vec![Box::new(odd::closes_pcp_port), Box::new(second_gateway)];
        let mut stage = S::begin_lan(Start { recheck: secs(5) }, machines);
        stage.set_power(0, false);
        let id = stage.create(8000);
        stage.wait(secs(5), "the other gateway maps", |stage| stage.success(id).is_some());
        assert_eq!(stage.entries_of(1).len(), 1);
        stage.set_power(0, true);
        stage.gateway(|gateway| gateway.notify(true));
        stage.wait(secs(6), "the next hop maps", |stage| stage.entries_of(0).len() == 1);
        stage.wait(secs(1), "the other gateway maps no more", |stage| stage.entries_of(1).is_empty());
        stage.end_lan(2);
    }

    fn a_next_hop_that_reboots_gets_its_mappings_back<S>() {
        let machines: Vec<Machine> = vec![Box::new(odd::closes_pcp_port), Box::new(second_gateway)];
        let mut stage = S::begin_lan(Start { recheck: secs(5) }, machines);
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(secs(1), id), (UpnpIgd, 8000));
        stage.set_power(0, false);
        stage.gateway(Gateway::forget_mappings);
        stage.spend(secs(3));
        // Its table is empty before anybody can ask it again.
        stage.gateway(|gateway| gateway.restart(false));
        stage.set_power(0, true);
        stage.gateway(|gateway| gateway.notify(true));
        let is_told = |stage: &mut S| stage.told(id).len() == 2 && stage.success(id).is_some();
        stage.wait(secs(6), "the next hop maps again", is_told);
        stage.wait(secs(1), "the other gateway maps no more", |stage| stage.entries_of(1).is_empty());
        stage.pass(secs(60));
        assert_eq!((stage.entries_of(0).len(), stage.entries_of(1).len()), (1, 0));
        stage.end_lan(2);
    }

    fn a_pcp_server_of_the_same_address_elsewhere_is_left_alone<S>() {
        assert_elsewhere_is_left_alone::<S>(|_| {});
    }

    fn a_natpmp_server_of_the_same_address_elsewhere_is_left_alone<S>() {
        assert_elsewhere_is_left_alone::<S>(|gateway| gateway.faults.closed.pcp = true);
    }

    fn a_upnp_device_of_the_same_address_elsewhere_is_left_alone<S>() {
        assert_elsewhere_is_left_alone::<S>(odd::closes_pcp_port);
    }

    fn a_dead_host_does_not_keep_the_gateway_from_its_deletions<S>() {
        let gateway = |machine: &mut Gateway| {
            machine.set_igd(None);
            machine.faults.natpmp = plum_gateway::core::Spoken::UnsuppVersion(2);
            for port in 8000..8004 {
                machine.faults.refuse_port(Kind::PcpMap, 2, port);
            }
        };
        let machines: Vec<Machine> = vec![Box::new(gateway), Box::new(second_gateway)];
        let mut stage = S::begin_lan(Start::default(), machines);
        let ids: Vec<i32> = (8000..8024).map(|port| stage.create(port)).collect();
        for &id in &ids {
            stage.wait(secs(5), "all are made", |stage| stage.success(id).is_some());
        }
        assert_eq!((stage.entries_of(0).len(), stage.entries_of(1).len()), (20, 4));
        stage.set_power(1, false);
        let took = stage.cleanup();
        assert!(!S::HAS_EXACT_TIMES || took <= millis(900), "{took:?}");
        stage.wait(millis(20), "the twenty are gone", |stage| stage.entries_of(0).is_empty());
        assert_eq!(stage.entries_of(1).len(), 4);
    }
}

fn assert_reboot_is_survived<S: Lan>(protocol: Protocol, gateway: fn(&mut Gateway)) {
    let mut stage = S::begin_lan(Start::default(), vec![Box::new(gateway)]);
    let ids = [8000, 8001].map(|port| stage.create(port));
    for id in ids {
        assert_eq!(stage.expect_success(secs(1), id).0, protocol);
    }
    if protocol == UpnpIgd {
        // What is lost before its early looks is made again without a word.
        let looks = Kind::Soap(Action::GetSpecificPortMappingEntry);
        stage.wait(secs(8), "two looks at each entry", |stage| stage.count(looks) >= 4);
    }
    stage.set_power(0, false);
    stage.spend(if S::HAS_EXACT_TIMES { secs(30) } else { secs(4) });
    stage.set_power(0, true);
    stage.gateway(|gateway| gateway.restart(false));
    stage.wait(secs(12), "the entries are back", |stage| stage.entries().len() == 2);
    for id in ids {
        stage
            .wait(secs(1), "SUCCESS again", |stage| stage.told(id).len() >= 2 && stage.success(id).is_some());
    }
    stage.end_lan(1);
}

/// What was destroyed, but not deleted, at a gateway is not deleted at one of the same address elsewhere; upon the return it is.
fn assert_elsewhere_is_left_alone<S: Lan>(gateway: fn(&mut Gateway)) {
    for returns in [false, true] {
        let mut stage = S::begin_at_home(Start::default(), vec![Box::new(gateway), Box::new(gateway)]);
        let ids = [8000, 8001].map(|port| stage.create(port));
        for id in ids {
            stage.expect_success(secs(1), id);
        }
        // There, somebody has made what could be ours.
        let first = stage.machine(0, |gateway| gateway.table().iter().next().map(|entry| entry.internal));
        let ours = first.expect("an entry");
        stage.machine(1, |gateway| gateway.occupy(Transport::Tcp, ours.port(), ours));
        stage.machine(0, |gateway| {
            let silence = &mut gateway.faults.silence;
            (silence.pcp, silence.natpmp, silence.http) = (Times::Always, Times::Always, Times::Always);
        });
        stage.destroy_and_wait(ids[0]);
        stage.go_to(1);
        stage.wait(secs(6), "it is mapped there", |stage| stage.entries_of(1).len() == 1);
        stage.pass(secs(400));
        if returns {
            stage.machine(0, |gateway| gateway.faults.silence = Silence::default());
            let told = stage.told(ids[1]).len();
            stage.go_to(0);
            let is_told = |stage: &mut S| stage.told(ids[1]).len() > told && stage.success(ids[1]).is_some();
            stage.wait(secs(6), "it is told again", is_told);
            stage.wait(secs(6), "what was destroyed is deleted", |stage| stage.entries_of(0).len() == 1);
        }
        stage.cleanup();
        // What is out of reach keeps what it had; nowhere is touched what is somebody else's. (The last datagram may be under way.)
        let expected = if returns { [0, 2] } else { [2, 1] };
        stage.wait(millis(20), "nothing else is left", |stage| {
            [0, 1].map(|home| stage.machine(home, |gateway| gateway.table().len())) == expected
        });
    }
}
