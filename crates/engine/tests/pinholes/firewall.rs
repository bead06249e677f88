//! WANIPv6FirewallControl:1: making pinholes, renewing them, and what a gateway may answer.

use super::*;

fn refused(code: u16) -> World {
    let mut world = firewall_world();
    world.gateway().faults.refuse(ADD, code);
    world
}

#[test]
fn a_call_has_the_arguments_of_the_standard_in_their_order() {
    let mut world = firewall_world();
    opened(&mut world);
    // The gateway refuses any other order, wrong numbers of protocols, and a wildcard that is not empty.
    let udp = world.create(Udp, 8000);
    world.run_until(|world| world.is_success(udp));
    assert!(world.gateway().complaints().next().is_none());
    let (from, to) = ("[2600::9]:50000".parse().unwrap(), format!("[{IPV6_LOCAL}]:8000").parse().unwrap());
    for transport in [gateway::Transport::Tcp, gateway::Transport::Udp] {
        assert!(world.gateway().pinholes_mut().let_in(transport, from, to), "{transport:?} from anywhere");
    }
    assert_removed(world);
}

#[test]
fn each_recheck_looks_by_the_same_call_with_the_other_lease() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.run_for(secs(1300));
    let leases = lifetimes(&world, ADD);
    assert_eq!(leases, [3600, 3601, 3600, 3601, 3600].map(Some));
    assert_eq!(world.callbacks(id).len(), 1, "nothing is told");
    let others = [UPDATE, DELETE, Kind::Soap(Action::CheckPinholeWorking)];
    assert_eq!(others.map(|kind| world.counts().of(kind)), [0; 3]);
    assert_removed(world);
}

#[test]
fn without_rechecks_a_pinhole_is_renewed_by_its_lease() {
    let mut world = world_with(|setup| setup.engine.recheck_interval = secs(100_000));
    world.gateway().faults.closed.pcp = true;
    let id = opened(&mut world);
    world.run_for(secs(20_000));
    assert_eq!(world.callbacks(id).len(), 1);
    let adds = received(&world, ADD);
    assert!((5..=11).contains(&(adds.len() - 1)), "{} renewals", adds.len() - 1);
    assert!(unique_id(&mut world).is_some());
}

#[test]
fn looks_are_paced() {
    let mut world = firewall_world();
    for port in 1..=200 {
        world.create(Tcp, 10_000 + port);
    }
    world.run_until(World::all_success);
    let before = received(&world, ADD).len();
    world.run_for(secs(350) - world.elapsed());
    let looks = received(&world, ADD).split_off(before);
    assert_eq!(looks.len(), 200);
    let within =
        |start: Duration| looks.iter().filter(|look| look.at >= start && look.at < start + secs(1)).count();
    let most = looks.iter().map(|look| within(look.at)).max().unwrap();
    assert!(most <= 11, "{most} looks in a second");
}

#[test]
fn another_unique_id_shows_that_the_pinhole_was_lost() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    let before = unique_id(&mut world);
    world.gateway().forget_mappings();
    world.run_for(secs(310));
    assert_ne!(unique_id(&mut world), before);
    let events = world.events(id);
    assert!(
        matches!(events[..], [Event::Success { .. }, Event::Pending, Event::Success { .. }]),
        "{events:?}"
    );
    assert_eq!(world.counts().of(DELETE), 0, "the old number may be another pinhole's");
    assert_removed(world);
}

#[test]
fn a_restart_voids_the_numbers_of_all_pinholes() {
    for is_announced in [true, false] {
        let mut world = firewall_world();
        world.gateway().faults.never_announces = !is_announced;
        let ids = [8000, 8001].map(|port| world.create(Tcp, port));
        world.run_until(World::all_success);
        world.start_gateway(false);
        world.run_for(secs(620));
        for (id, port) in ids.into_iter().zip([8000, 8001]) {
            assert!(world.gateway().pinholes().get(&key(Tcp, port)).is_some());
            // Without a word they are made anew under the numbers that they had.
            let told = if is_announced { 2 } else { 1 };
            assert_eq!(world.callbacks(id).len(), told, "{:?}", world.timeline(id));
        }
        world.destroy_and_wait(ids[0]);
        assert!(world.gateway().pinholes().get(&key(Tcp, 8001)).is_some(), "the other one stays");
        assert_removed(world);
    }
}

#[test]
fn of_two_pinholes_with_one_number_the_older_is_made_anew() {
    let mut world = firewall_world();
    let first = opened(&mut world);
    // It counts from 1 again, and has lost the first without a word.
    world.gateway().faults.never_announces = true;
    world.run_for(secs(10));
    world.start_gateway(false);
    let second = world.create(Tcp, 8001);
    world.run_for(secs(5));
    assert!(world.gateway().pinholes().get(&key(Tcp, 8000)).is_some(), "long before the next recheck");
    assert_eq!([first, second].map(|id| world.callbacks(id).len()), [2, 1]);
    assert_removed(world);
}

#[test]
fn two_pinholes_that_share_a_number_do_not_chase_each_other_and_end_by_their_lease() {
    let mut world = firewall_world();
    let first = opened(&mut world);
    world.gateway().faults.never_announces = true;
    world.run_for(secs(10));
    // It keeps the pinhole and its number, and gives the number again.
    world.start_gateway(true);
    let second = world.create(Tcp, 8001);
    world.run_for(secs(2000));
    let ids: Vec<u16> = world.gateway().pinholes().iter().map(|pinhole| pinhole.id).collect();
    assert_eq!(ids, [1, 1]);
    assert_eq!([first, second].map(|id| world.callbacks(id).len()), [2, 1]);
    assert!(received(&world, ADD).len() < 20);
    world.destroy_and_wait(second);
    world.run_for(secs(2));
    assert!(world.gateway().pinholes().get(&key(Tcp, 8000)).is_some(), "the other one is not hit");
    assert!(world.gateway().pinholes().get(&key(Tcp, 8001)).is_none());
    world.cleanup();
    world.run_for(secs(2));
    world.assert_nothing_left();
}

#[test]
fn update_is_called_where_a_pinhole_that_exists_is_refused() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().faults.refuse(ADD, 501);
    world.run_for(secs(650));
    assert_eq!(lifetimes(&world, UPDATE), [Some(3601), Some(3600)]);
    assert_eq!(world.callbacks(id).len(), 1);
    let expires_at = world.gateway().pinholes().get(&key(Tcp, 8000)).unwrap().expires_at;
    assert!(expires_at > gateway_time(world.now()) + secs(3500));
    assert_removed(world);
}

#[test]
fn a_pinhole_that_update_does_not_find_is_lost() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().forget_mappings();
    // There is no room for it any more.
    world.gateway().faults.refuse(ADD, 701);
    world.run_for(secs(310));
    assert_eq!(world.counts().of(UPDATE), 1);
    assert!(world.is_failure(id), "{:?}", world.timeline(id));
    assert_eq!(upnp_error(&mut world, id), Some(701));
    world.gateway().faults.refusals.clear();
    world.run_for(secs(60));
    assert!(world.is_success(id));
    assert_removed(world);
}

#[test]
fn a_refused_update_says_nothing_about_the_pinhole() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().faults.refuse(ADD, 606);
    world.gateway().faults.refuse(UPDATE, 606);
    world.run_for(secs(3500));
    assert_eq!(world.events(id).len(), 1, "{:?}", world.timeline(id));
    world.gateway().faults.refusals.clear();
    assert_removed(world);
}

#[test]
fn a_lost_reply_is_followed_by_the_same_call() {
    let mut world = firewall_world();
    world.gateway().add_script(once(ADD, || Reply::nothing().with_effect()));
    let id = opened(&mut world);
    assert_eq!(lifetimes(&world, ADD), [Some(3600), Some(3600)]);
    assert_eq!(world.callbacks(id).len(), 1);
    assert_eq!(world.gateway().pinholes().len(), 1);
    assert_removed(world);
}

/// A reply to the first request of a kind.
fn once(kind: Kind, reply: fn() -> Reply) -> impl FnMut(&Request) -> Reply + Send {
    let mut is_done = false;
    move |request| match request.kind == kind && !std::mem::replace(&mut is_done, true) {
        true => reply(),
        false => Reply::usual(),
    }
}

#[test]
fn pinholes_that_are_not_allowed_are_asked_for_again_each_recheck() {
    let changes: [fn(&mut gateway::Faults); 2] =
        [|faults| faults.inbound_pinholes_forbidden = true, |faults| faults.refuse(ADD, 403)];
    for (change, code) in changes.into_iter().zip([703, 403]) {
        let mut world = firewall_world();
        change(&mut world.gateway().faults);
        let ids = [8000, 8001].map(|port| world.create(Tcp, port));
        for id in ids {
            world.run_until(|world| world.is_failure(id));
            assert_eq!(upnp_error(&mut world, id), Some(code));
        }
        let before = received(&world, ADD).len();
        assert_eq!(before, 1, "one answer is true of all");
        world.run_for(secs(290));
        assert_eq!(received(&world, ADD).len(), before);
        // Its owner allows it.
        (world.gateway().faults.inbound_pinholes_forbidden, world.gateway().faults.refusals) =
            (false, Vec::new());
        world.run_for(secs(20));
        assert!(world.all_success(), "{code}: {:?}", world.timeline(ids[0]));
        assert_removed(world);
    }
}

#[test]
fn a_table_that_is_full_is_tried_again_after_30_s() {
    let mut world = refused(701);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(upnp_error(&mut world, id), Some(701));
    world.run_for(secs(29) - world.elapsed());
    assert_eq!(received(&world, ADD).len(), 1);
    world.gateway().faults.refusals.clear();
    world.run_for(secs(10));
    assert!(world.is_success(id));
}

#[test]
fn a_refused_lease_is_asked_for_once_more_with_3600_s() {
    let mut world = firewall_world();
    world.gateway().faults.refuse_next(ADD, 402, 1);
    let id = opened(&mut world);
    assert_eq!(lifetimes(&world, ADD), [Some(3600), Some(3600)]);
    world.gateway().faults.refuse_next(ADD, 402, 1);
    world.run_for(secs(310));
    assert_eq!(lifetimes(&world, ADD)[2..], [Some(3601), Some(3600)]);
    assert_eq!(world.callbacks(id).len(), 1);
    let mut world = refused(402);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!((received(&world, ADD).len(), upnp_error(&mut world, id)), (2, Some(402)));
}

#[test]
fn a_port_below_1024_that_is_refused_is_no_reason_for_others() {
    let mut world = firewall_world();
    let low = world.create(Tcp, 80);
    let high = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(low));
    assert_eq!(upnp_error(&mut world, low), Some(606));
    world.run_until(|world| world.is_success(high));
    assert!(world.elapsed() < secs(5));
}

#[test]
fn every_other_code_fails_the_rung() {
    for code in [401, 501, 606, 705, 999] {
        let mut world = refused(code);
        let ids = [8000, 8001].map(|port| world.create(Tcp, port));
        for id in ids {
            world.run_until(|world| world.is_failure(id));
            assert_eq!(upnp_error(&mut world, id), Some(code.into()));
        }
        assert_eq!(received(&world, ADD).len(), 1, "one request for both: {code}");
        assert!(world.elapsed() < secs(5));
    }
}

#[test]
fn a_fault_to_the_status_changes_nothing() {
    for reply in [|| Reply::code(401), || Reply::http(500, ""), || Reply::bytes("nonsense")] {
        let mut world = firewall_world();
        world.gateway().add_script(move |request| match request.kind {
            STATUS => reply(),
            _ => Reply::usual(),
        });
        let id = opened(&mut world);
        assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
        assert!(world.elapsed() < secs(1));
        assert_removed(world);
    }
}

#[test]
fn a_unique_id_of_any_form_is_used_and_one_without_end_is_not() {
    for (length, is_used) in [(1, true), (64, true), (65, false), (10_000, false)] {
        let mut world = firewall_world();
        world.gateway().add_script(move |request| match request.kind {
            ADD => Reply::edited(move |body| {
                let text = String::from_utf8_lossy(body).into_owned();
                let (head, rest) = text.split_once("<UniqueID>").unwrap();
                let tail = rest.split_once("</UniqueID>").unwrap().1;
                *body = format!("{head}<UniqueID>{}</UniqueID>{tail}", "7".repeat(length)).into_bytes();
            }),
            _ => Reply::usual(),
        });
        let id = world.create(Tcp, 8000);
        world.run_for(secs(5));
        assert_eq!(world.is_success(id), is_used, "{length}");
        if !is_used {
            assert!(reasons(&mut world, id).contains(&(Protocol::UpnpIgd, Reason::Unreadable)));
            // What may be there is ended without a UniqueID.
            world.destroy_and_wait(id);
            world.run_for(secs(2));
            assert!(world.gateway().pinholes().is_empty());
        }
    }
}

#[test]
fn a_connection_from_another_address_sends_nothing() {
    let mut world = firewall_world();
    let other: Ipv6Addr = "2600:1::200".parse().unwrap();
    world.network.ipv6.addresses.list.push(stable(other, INTERFACE));
    world.network.other_source = Some(other);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.counts().of(Kind::HttpDescription), 0);
    // Later, with a description from before.
    let mut world = firewall_world();
    opened(&mut world);
    world.network.ipv6.addresses.list.push(stable(other, INTERFACE));
    world.network.other_source = Some(other);
    let id = world.create(Tcp, 8001);
    world.run_for(secs(30));
    assert!(world.is_failure(id));
    assert!(reasons(&mut world, id).contains(&(Protocol::UpnpIgd, Reason::OtherSource)));
    assert!(received(&world, ADD).iter().all(|received| received.from.ip() == IpAddr::V6(IPV6_LOCAL)));
    world.network.other_source = None;
    world.run_for(secs(300));
    assert!(world.is_success(id), "it changes nothing for good");
}

#[test]
fn a_status_that_allows_no_pinholes_fails_the_rung_whatever_add_pinhole_says() {
    let mut world = firewall_world();
    world.gateway().add_script(|request| match request.kind {
        STATUS => Reply::edited(|body| {
            let text = String::from_utf8_lossy(body);
            *body = text.replace("<InboundPinholeAllowed>1<", "<InboundPinholeAllowed>false<").into_bytes();
        }),
        _ => Reply::usual(),
    });
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(upnp_error(&mut world, id), Some(703));
    world.run_for(secs(1));
    assert!(world.gateway().pinholes().is_empty(), "what it made is deleted");
    world.gateway().clear_scripts();
    world.run_for(secs(310));
    assert!(world.is_success(id));
    assert_removed(world);
}

#[test]
fn short_recheck_periods_look_at_one_pinhole_each_the_one_looked_at_longest_ago() {
    let mut world = world_with(|setup| setup.engine.recheck_interval = secs(10));
    world.gateway().faults.closed.pcp = true;
    for port in 8000..8003 {
        world.create(Tcp, port);
    }
    world.run_until(World::all_success);
    let before = received(&world, ADD).len();
    world.run_for(secs(29) - world.elapsed());
    assert_eq!(received(&world, ADD).len(), before);
    world.run_for(secs(65) - world.elapsed());
    let looks: Vec<Option<u16>> = received(&world, ADD)[before..].iter().map(|look| look.port).collect();
    assert_eq!(looks, [8000, 8001, 8002].map(Some));
}

#[test]
fn a_mapping_that_is_wanted_again_takes_over_the_request_that_is_under_way() {
    let mut world = firewall_world();
    world.gateway().add_script(once(ADD, || Reply::usual().after(millis(300))));
    let first = world.create(Tcp, 8000);
    world.run_for(millis(20));
    world.destroy(first);
    let second = opened(&mut world);
    world.run_for(secs(20));
    assert!(world.is_success(second) && world.is_destroyed(first));
    assert_eq!(world.gateway().pinholes().len(), 1);
    assert_removed(world);
}

#[test]
fn the_lease_that_the_program_asks_for_is_kept_within_the_standards_bounds() {
    for (secs, leases) in [
        (600, [600, 601]),
        (601, [601, 600]),
        (1, [2, 3]),
        (0, [86_398, 86_399]),
        (u32::MAX, [86_398, 86_399]),
    ] {
        let mut world = firewall_world();
        let wish = Suggestion { lifetime_secs: Some(secs), ..Suggestion::default() };
        let id = world.create_wishing(Tcp, 8000, wish);
        world.run_until(|world| world.is_success(id));
        // Each recheck looks at the pinhole.
        let looks = |world: &World| lifetimes(world, ADD).len() >= 4;
        assert!(world.runs_until(Duration::from_secs(1200), looks));
        let asked = lifetimes(&world, ADD);
        for (index, lease) in asked.into_iter().enumerate() {
            assert_eq!(lease, Some(leases[index % 2]), "of {secs}");
        }
        assert_removed(world);
    }
}
