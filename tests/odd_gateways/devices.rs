//! Gateways whose descriptions and services are odd.

use crate::stage::{Stage, rows};
use crate::{millis, secs};
use plum_engine::io::Protocol::UpnpIgd;
use plum_gateway::core::{Action, Gateway, Igd, Reply, WanKind};
use plum_gateway::odd::{self, Replies};

/// What is of no use as a description.
const USELESS: [(&str, Replies); 9] = [
    ("404", || Reply::http(404, "")),
    ("401", || Reply::http(401, odd::HTML)),
    ("501", || Reply::http(501, "")),
    ("500", || Reply::http(500, "")),
    ("200 with HTML", || Reply::http(200, odd::HTML)),
    ("200 without a body", || Reply::http(200, "")),
    ("closed", Reply::close),
    ("reset", Reply::reset),
    ("hanging", Reply::nothing),
];

/// Maps one port, by the second of what the gateway has.
fn assert_second<S: Stage>(what: &str, within: u64, odd: impl FnOnce(&mut Gateway)) {
    let mut stage = S::begin(|gateway| {
        odd::closes_pcp_port(gateway);
        odd(gateway);
    });
    let id = stage.create(8000);
    stage.wait(millis(within), what, |stage| stage.success(id).is_some());
    assert_eq!(stage.success(id).map(|success| success.0), Some(UpnpIgd), "{what}");
    assert_eq!(stage.entries().len(), 1, "{what}");
    stage.pass(secs(1000));
    stage.assert_successes(id, 1);
    stage.end();
}

rows! {
    fn a_first_description_of_no_use_gives_way_to_the_second<S>() {
        for (what, reply) in USELESS {
            for late in [0, 5, 50] {
                assert_second::<S>(&format!("{what}, {late} ms"), 700, |gateway| {
                    odd::first_description_gets(gateway, reply);
                    odd::own_description_comes_late(gateway, millis(late));
                });
            }
        }
    }

    fn a_first_device_of_no_use_gives_way_to_the_second<S>() {
        for (what, reply) in odd::UNKNOWN {
            let within = if *what == "hanging" { 3500 } else { 1000 };
            for late in [0, 5, 50] {
                for names in [|_: &mut Gateway| {}, odd::first_device_has_its_own_name] {
                    assert_second::<S>(&format!("{what}, {late} ms"), within, |gateway| {
                        odd::first_device_gets(gateway, *reply);
                        odd::own_description_comes_late(gateway, millis(late));
                        names(gateway);
                    });
                }
            }
        }
    }

    fn a_first_device_that_is_down_gives_way_to_the_second<S>() {
        for late in [0, 5, 50] {
            assert_second::<S>("Disconnected", 1000, |gateway| {
                odd::first_device_is_down(gateway);
                odd::own_description_comes_late(gateway, millis(late));
            });
        }
    }

    fn a_first_service_of_no_use_gives_way_to_the_second<S>() {
        assert_second::<S>("Disconnected", 1000, odd::first_service_is_down);
        for (what, reply) in odd::UNKNOWN {
            let within = if *what == "hanging" { 3500 } else { 1000 };
            assert_second::<S>(what, within, |gateway| odd::first_service_gets(gateway, *reply));
        }
    }

    fn a_service_that_maps_nothing_gives_way_to_the_next<S>() {
        // It says that it is connected, and has an address.
        for kinds in [[WanKind::Ip2, WanKind::Ip1], [WanKind::Ip1, WanKind::Ppp1], [WanKind::Ip1, WanKind::Ip1]] {
            assert_second::<S>("501 to additions", 1000, |gateway| {
                gateway.set_igd(Some(Igd::with(2, &kinds)));
                odd::first_service_makes_nothing(gateway);
            });
        }
    }

    fn services_of_the_dsl_forum_do_where_there_are_no_others<S>() {
        for kind in [WanKind::DslForumIp1, WanKind::DslForumPpp1] {
            for domain in ["urn:dslforum-org", "urn:schemas-upnp-org"] {
                assert_second::<S>("DSL forum", 500, |gateway| {
                    gateway.set_igd(Some(Igd { domain: domain.into(), ..Igd::with(1, &[kind]) }));
                });
            }
        }
    }

    fn services_of_the_dsl_forum_come_after_all_others<S>() {
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            gateway.set_igd(Some(Igd::with(1, &[WanKind::DslForumIp1, WanKind::Ip1])));
            // Actions of the DSL forum's service are refused: they need a password.
            gateway.add_script(|request| match request.path.as_str() {
                "/ctl/0" => Reply::http(401, ""),
                _ => Reply::usual(),
            });
        });
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(millis(500), id), (UpnpIgd, 8000));
        stage.end();
    }

    fn a_host_that_is_misnamed_is_where_its_answer_came_from<S>() {
        let hosts = ["router.invalid", "[::1]", "10.1.2.3", "192.168.001.001", "192.168.1.77", "127.9.9.9", "localhost"];
        for host in hosts {
            assert_second::<S>(&format!("LOCATION {host}"), 500, |gateway| odd::location_names(gateway, host));
            assert_second::<S>(&format!("URLBase {host}"), 500, |gateway| {
                let port = gateway.config().http_port;
                odd::url_base_is(gateway, &format!("http://{host}:{port}/"));
            });
            assert_second::<S>(&format!("control URL {host}"), 500, |gateway| {
                let port = gateway.config().http_port;
                odd::control_url_is(gateway, &format!("http://{host}:{port}/ctl/0"));
            });
        }
    }

    fn a_port_of_urlbase_that_is_closed_gives_way_to_the_locations<S>() {
        assert_second::<S>("URLBase of a closed port", 1000, |gateway| {
            let address = gateway.config().address;
            odd::url_base_is(gateway, &format!("http://{address}:9/"));
        });
        assert_second::<S>("URLBase without a port", 1000, |gateway| {
            let address = gateway.config().address;
            odd::url_base_is(gateway, &format!("http://{address}/"));
        });
        assert_second::<S>("URLBase that is none", 500, |gateway| odd::url_base_is(gateway, "garbage"));
        assert_second::<S>("empty URLBase", 500, |gateway| odd::url_base_is(gateway, ""));
    }

    fn a_port_of_a_control_url_that_is_closed_gives_way_to_the_locations<S>() {
        for host in ["ADDRESS:9", "router.invalid:9", "router.invalid", "192.168.001.001:9"] {
            assert_second::<S>(host, 1000, |gateway| {
                let host = host.replace("ADDRESS", &gateway.config().address.to_string());
                odd::control_url_is(gateway, &format!("http://{host}/ctl/0"));
            });
        }
    }

    fn requests_of_a_search_are_few<S>() {
        // Twenty locations of one gateway, all of the same service.
        let mut stage = S::begin(|gateway| {
            odd::closes_pcp_port(gateway);
            let (address, port) = (gateway.config().address, gateway.config().http_port);
            gateway.faults.extra_locations =
                (0..20).map(|n| format!("http://{address}:{port}/{n}.xml")).collect();
            let description = Igd::default().description();
            gateway.add_script(move |request| match request.path.ends_with(".xml") {
                true => Reply::http(200, description.clone()),
                false => Reply::usual(),
            });
        });
        let id = stage.create(8000);
        assert_eq!(stage.expect_success(millis(1000), id), (UpnpIgd, 8000));
        assert_eq!(stage.count_of(Action::AddPortMapping), 1);
        stage.end();
    }
}
