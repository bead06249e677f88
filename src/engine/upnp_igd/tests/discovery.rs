use super::bench::*;
use super::{no_wish, tcp};
use crate::engine::driver::{Notice, Status};
use crate::engine::upnp_igd::Network;

#[test]
fn finds_a_gateway_and_maps_in_three_round_trips() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    assert_eq!(bench.driver.status(), Status::Unknown);
    bench.map(tcp(4000), no_wish());

    bench.run_until(49);
    assert_eq!(bench.driver.status(), Status::Unknown);
    bench.run_until(50);
    assert_eq!(bench.driver.status(), Status::Working);
    bench.run_until(61);
    assert_eq!(bench.driver.status(), Status::Up);
    bench.run_until(1000);

    let timetable: Vec<_> = bench.requests.iter().map(|(at, line)| (*at, line.as_str())).collect();
    assert_eq!(
        timetable,
        [
            (51, "GET /root.xml"),
            (62, "GetExternalIPAddress"),
            (62, "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200"),
        ]
    );
    assert_eq!(
        bench.notices,
        [(50, Notice::StatusChanged), (61, Notice::StatusChanged), (72, granted(tcp(4000), 4000)),]
    );
}

#[test]
fn searches_the_gateway_first_then_all() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    let gateway = addr("192.168.1.1:1900");
    let group = addr("239.255.255.250:1900");
    let expected: Vec<_> = [[(0, gateway); 6], [(0, group); 6]].concat();
    assert_eq!(bench.searches, expected);
    bench.run_until(5000);
    assert_eq!(bench.searches.len(), 12, "one answer is enough");
}

#[test]
fn asks_only_the_gateway_when_it_was_named() {
    let mut bench = Bench::with_igd(IP1);
    bench.add(
        SsdpDevice::new("192.168.1.5:1900", "http://192.168.1.5:80/root.xml"),
        "192.168.1.5:80",
        Server::igd(IP1),
    );
    bench.start_in(Network { gateway: Some(ip(GATEWAY)), local: ip(LOCAL), named: true });
    assert_eq!(bench.searches, [(0, addr("192.168.1.1:1900")); 6]);
    // An answer of another device, that nobody asked for.
    let answer = "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:service:WANIPConnection:1\r\n\
                  LOCATION: http://192.168.1.5:80/root.xml\r\nUSN: uuid:x\r\n\r\n";
    bench.datagram("192.168.1.5:1900", answer);
    bench.run_until(1000);
    assert_eq!(bench.driver.status(), Status::Up);
    assert!(bench.connects.iter().all(|(_, to)| to.ip() == ip(GATEWAY)));
}

#[test]
fn waits_for_the_socket() {
    let mut bench = Bench::with_igd(IP1);
    bench.drive(|driver, cx| {
        driver.start(cx, Network { gateway: Some(ip(GATEWAY)), local: ip(LOCAL), named: false });
        driver.search(cx);
    });
    bench.run_until(100);
    assert!(bench.searches.is_empty());
    bench.drive(|driver, cx| driver.handle_opened(cx, Some(addr("192.168.1.20:40000"))));
    assert_eq!(bench.searches.len(), 12);
    bench.run_until(300);
    assert_eq!(bench.driver.status(), Status::Up);
}

#[test]
fn is_out_when_the_socket_cannot_be_opened() {
    let mut bench = Bench::with_igd(IP1);
    bench.drive(|driver, cx| {
        driver.start(cx, Network { gateway: Some(ip(GATEWAY)), local: ip(LOCAL), named: false });
        driver.search(cx);
        driver.map(cx, tcp(1), no_wish());
    });
    bench.drive(|driver, cx| driver.handle_opened(cx, None));
    assert_eq!(bench.notices, [(0, Notice::StatusChanged), (0, Notice::TimedOut { key: tcp(1) })]);
    assert_eq!(bench.driver.status(), Status::Out);
}

#[test]
fn searches_again_by_the_schedule_and_gives_up_after_it() {
    let mut bench = Bench::empty();
    bench.start();
    bench.map(tcp(1), no_wish());
    bench.run_until(60_000);
    let mut rounds: Vec<u64> = bench.searches.iter().map(|&(at, _)| at).collect();
    rounds.dedup();
    let waits: Vec<u64> = rounds.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 3);
    for (wait, nominal) in waits.iter().zip([250, 500, 1000]) {
        assert!((nominal * 9 / 10 - 1..=nominal).contains(wait), "{wait} for {nominal}");
    }
    assert_eq!(bench.searches.len(), 4 * 12);
    assert_eq!(bench.notices, [(3750, Notice::StatusChanged), (3750, Notice::TimedOut { key: tcp(1) })]);
    assert_eq!(bench.driver.status(), Status::Out);
    assert_eq!(bench.driver.poll_timeout(), None);
    // What is asked for now ends at once.
    bench.map(tcp(2), no_wish());
    assert_eq!(bench.notices_of(tcp(2)), [Notice::TimedOut { key: tcp(2) }]);
}

#[test]
fn finds_a_gateway_whose_first_answers_were_lost() {
    let mut bench = Bench::with_igd(IP1);
    bench.devices[0].deaf_until_ms = 300;
    bench.start();
    bench.run_until(3000);
    assert_eq!(bench.driver.status(), Status::Up);
    assert_eq!(bench.searches.len(), 3 * 12);
    assert!(bench.when(|notice| *notice == Notice::StatusChanged) < Some(900));
}

#[test]
fn takes_an_answer_that_comes_after_the_end() {
    let mut bench = Bench::with_igd(IP1);
    bench.devices[0].delay_ms = 5000;
    bench.start();
    bench.run_until(4000);
    assert_eq!(bench.driver.status(), Status::Out);
    bench.run_until(5100);
    assert_eq!(bench.driver.status(), Status::Up);
}

#[test]
fn tries_a_device_again_whose_server_was_not_up_yet() {
    let mut bench = Bench::with_igd(IP1);
    bench.server().mood = Mood::Refuses;
    bench.start();
    bench.run_until(400);
    assert_eq!(bench.driver.status(), Status::Unknown);
    bench.server().mood = Mood::Well;
    bench.run_until(1500);
    assert_eq!(bench.driver.status(), Status::Up);
}

#[test]
fn fetches_each_description_once_however_often_it_is_named() {
    let mut bench = Bench::with_igd(IP1);
    bench.devices[0].targets = vec![IGD1, IP1, PPP1, "upnp:rootdevice"];
    bench.start();
    bench.run_until(1000);
    assert_eq!(bench.count("GET"), 1);
}

#[test]
fn forgets_everything_at_a_start() {
    let mut bench = Bench::with_igd(IP1);
    bench.server().reply_ms = 500;
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(700);
    assert_eq!(bench.driver.status(), Status::Up);
    let before = bench.requests.len();
    bench.drive(|driver, cx| {
        driver.start(cx, Network { gateway: Some(ip("10.0.0.1")), local: ip("10.0.0.2"), named: false });
    });
    assert_eq!(bench.driver.status(), Status::Unknown);
    assert_eq!(bench.driver.poll_timeout(), None);
    bench.run_until(60_000);
    assert_eq!(bench.requests.len(), before);
    assert_eq!(bench.notices_of(tcp(4000)), []);
}

#[test]
fn reads_every_style_of_http() {
    for style in [Style::Length, Style::SlowChunks, Style::UntilClose, Style::TooLongLength, Style::BareLf] {
        let mut bench = Bench::with_igd(IP1);
        bench.server().style = style;
        bench.start();
        bench.map(tcp(4000), no_wish());
        bench.run_until(9000);
        assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)], "{style:?}");
    }
}

#[test]
fn follows_redirects_on_the_same_host() {
    let mut bench = Bench::with_igd(IP1);
    let server = std::mem::replace(bench.server(), Server::new());
    *bench.server() = server
        .page("/real.xml", 200, &description(&[(IP1, "/ctl")]))
        .page("/2", 307, "http://192.168.1.1:5000/real.xml")
        .page("/1", 302, "2")
        .page("/root.xml", 301, "/1");
    bench.start();
    bench.run_until(1000);
    assert_eq!(bench.driver.status(), Status::Up);
    assert_eq!(bench.lines(), ["GET /root.xml", "GET /1", "GET /2", "GET /real.xml", "GetExternalIPAddress"]);
}

#[test]
fn follows_no_redirect_elsewhere_and_no_circle() {
    for (target, fetches) in
        [("http://192.168.1.9:5000/x", 1), ("/root.xml", 4), ("https://192.168.1.1/x", 1)]
    {
        let mut bench = Bench::with_igd(IP1);
        bench.server().pages.insert("/root.xml".to_owned(), (302, target.to_owned()));
        bench.start();
        bench.run_until(230);
        assert_eq!(bench.connects.len(), fetches, "{target}");
        bench.run_until(60_000);
        assert!(bench.connects.iter().all(|(_, to)| *to == addr("192.168.1.1:5000")));
        assert_eq!(bench.driver.status(), Status::Out);
    }
}

#[test]
fn ignores_locations_on_other_hosts() {
    for location in [
        "http://192.168.1.9:80/root.xml",
        "http://127.0.0.1:80/root.xml",
        "http://93.184.216.34/root.xml",
        "http://user@192.168.1.1/root.xml",
        "https://192.168.1.1/root.xml",
        "file:///etc/passwd",
        "http://gateway/root.xml",
        "http://192.168.1.1:5000\r\n/root.xml",
        "",
    ] {
        let mut bench = Bench::with_igd(IP1);
        bench.devices[0].location = location.to_owned();
        bench.start();
        bench.run_until(60_000);
        // The one with a line break in it is a good URL that ends there.
        let allowed = addr("192.168.1.1:5000");
        assert!(bench.connects.iter().all(|&(_, to)| to == allowed), "{location}: {:?}", bench.connects);
        assert_eq!(bench.driver.status(), Status::Out, "{location}");
    }
}

#[test]
fn a_device_may_name_a_description_on_the_gateway() {
    let mut bench = Bench::with_igd(IP1);
    bench.devices[0] = SsdpDevice::new("192.168.1.2:1900", "http://192.168.1.1:5000/root.xml");
    bench.start();
    bench.run_until(1000);
    assert_eq!(bench.driver.status(), Status::Up);
}

#[test]
fn ignores_answers_from_the_internet() {
    let mut bench = Bench::empty();
    bench.add(
        SsdpDevice::new("93.184.216.34:1900", "http://93.184.216.34:80/root.xml"),
        "93.184.216.34:80",
        Server::igd(IP1),
    );
    bench.start();
    bench.run_until(5000);
    assert!(bench.connects.is_empty());
}

#[test]
fn control_urls_stay_on_the_host() {
    for (base, control_url, is_taken) in [
        ("", "/ctl", true),
        ("", "ctl", true),
        ("", "http://192.168.1.1:5000/ctl", true),
        ("<URLBase>http://192.168.1.1:5000/</URLBase>", "ctl", true),
        // A base elsewhere does not count.
        ("<URLBase>http://10.9.9.9:5000/</URLBase>", "/ctl", true),
        ("", "http://10.9.9.9:5000/ctl", false),
        ("", "//10.9.9.9/ctl", false),
        ("", "", false),
    ] {
        let mut bench = Bench::with_igd(IP1);
        let page = description_with_base(base, &[(IP1, control_url)]);
        bench.server().pages.insert("/root.xml".to_owned(), (200, page));
        bench.start();
        bench.map(tcp(4000), no_wish());
        bench.run_until(60_000);
        assert_eq!(
            bench.notices_of(tcp(4000)) == [granted(tcp(4000), 4000)],
            is_taken,
            "{base} {control_url}"
        );
        assert!(bench.connects.iter().all(|(_, to)| *to == addr("192.168.1.1:5000")));
    }
}

#[test]
fn other_vendors_twins_are_no_services() {
    let mut bench = Bench::with_igd(IP1);
    let page = description(&[("urn:dslforum-org:service:WANIPConnection:1", "/tr064"), (IP1, "/ctl")]);
    bench.server().pages.insert("/root.xml".to_owned(), (200, page));
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn decoys_never_count_as_working() {
    let mut bench = Bench::empty();
    for host in 10..40 {
        let at = format!("192.168.1.{host}:80");
        let mut decoy = SsdpDevice::new(&format!("192.168.1.{host}:1900"), &format!("http://{at}/media.xml"));
        decoy.targets = vec!["upnp:rootdevice"];
        let page = "<root><device><deviceType>urn:schemas-upnp-org:device:MediaServer:1</deviceType>\
                    <friendlyName>TV</friendlyName></device></root>";
        bench.add(decoy, &at, Server::new().page("/media.xml", 200, page));
    }
    bench.start();
    bench.run_until(60_000);
    assert_eq!(bench.notices, [(3750, Notice::StatusChanged)]);
    assert_eq!(bench.driver.status(), Status::Out);
    assert_eq!(bench.count("GET"), 12, "only so many are looked at");
    assert_eq!(bench.max_open, 2, "and few at once");
}

#[test]
fn tarpits_do_not_keep_it_from_the_gateway() {
    let mut bench = Bench::empty();
    for host in 10..40 {
        let at = format!("192.168.1.{host}:80");
        let mut tarpit = SsdpDevice::new(&format!("192.168.1.{host}:1900"), &format!("http://{at}/x"));
        tarpit.delay_ms = 1;
        let mut server = Server::new();
        server.mood = Mood::Silent;
        bench.add(tarpit, &at, server);
    }
    bench.add(
        SsdpDevice::new("192.168.1.1:1900", "http://192.168.1.1:5000/root.xml"),
        "192.168.1.1:5000",
        Server::igd(IP1),
    );
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert_eq!(bench.when(|notice| *notice == granted(tcp(4000), 4000)), Some(72));
}

#[test]
fn a_description_without_end_is_cut_off() {
    let mut bench = Bench::with_igd(IP1);
    bench.server().mood = Mood::Babbles;
    bench.start();
    bench.run_until(51 + 10 + 30 * 16);
    assert_eq!(bench.driver.status(), Status::Working);
    bench.run_until(51 + 10 + 31 * 16);
    // 1 MiB has come in pieces of 32 KiB, one every 16 ms; 2 MiB would have.
    assert_eq!(bench.driver.status(), Status::Unknown);
    bench.run_until(20_000);
    assert_eq!(bench.driver.status(), Status::Out);
}

#[test]
fn a_description_that_does_not_come_ends_with_the_discover_timeout() {
    let mut bench = Bench::with_igd(IP1);
    bench.server().mood = Mood::Silent;
    bench.start();
    bench.run_until(9999);
    assert_eq!(bench.driver.status(), Status::Working);
    bench.run_until(10_000);
    assert_eq!(bench.driver.status(), Status::Out);
    assert_eq!(bench.notices.last(), Some(&(10_000, Notice::StatusChanged)));
    assert_eq!(bench.driver.poll_timeout(), None);
}

#[test]
fn prefers_the_gateway_to_a_quicker_device() {
    let mut bench = Bench::with_igd(IP1);
    let mut other = SsdpDevice::new("192.168.1.5:1900", "http://192.168.1.5:80/root.xml");
    other.delay_ms = 5;
    bench.add(other, "192.168.1.5:80", Server::igd(IP2));
    bench.server().reply_ms = 900;
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(5000);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
    assert_eq!(bench.igd().table.len(), 1);
}

#[test]
fn takes_a_device_beside_the_gateway_when_that_is_silent() {
    let mut bench = Bench::empty();
    bench.add(
        SsdpDevice::new("192.168.1.5:1900", "http://192.168.1.5:80/root.xml"),
        "192.168.1.5:80",
        Server::igd(IP1),
    );
    bench.start();
    bench.run_until(310);
    assert_eq!(bench.driver.status(), Status::Working);
    bench.run_until(311);
    assert_eq!(bench.driver.status(), Status::Up, "250 ms after its description");
    bench.run_until(1000);
    assert_eq!(bench.lines(), ["GET /root.xml", "GetExternalIPAddress"]);
}

/// A device on our own address.
fn with_own_device(service_type: &'static str) -> Bench {
    let mut bench = Bench::empty();
    bench.add(
        SsdpDevice::new("192.168.1.20:1900", "http://192.168.1.20:80/root.xml"),
        "192.168.1.20:80",
        Server::igd(service_type),
    );
    bench
}

#[test]
fn takes_a_device_on_this_very_host_as_one_beside_the_gateway() {
    let mut bench = with_own_device(IP1);
    bench.start();
    bench.run_until(310);
    assert_eq!(bench.driver.status(), Status::Working);
    bench.run_until(311);
    assert_eq!(bench.driver.status(), Status::Up, "250 ms after its description");

    let mut bench = with_own_device(IP2);
    bench.add_igd(IP1);
    bench.server().reply_ms = 900;
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(5000);
    assert_eq!(bench.igd().table.len(), 1, "the gateway's own is preferred");
}

#[test]
fn takes_a_device_on_this_very_host_at_once_where_that_is_the_gateway() {
    let mut bench = with_own_device(IP1);
    bench.start_in(Network { gateway: Some(ip(LOCAL)), local: ip(LOCAL), named: false });
    bench.run_until(61);
    assert_eq!(bench.driver.status(), Status::Up);
    assert!(!bench.driver.is_elsewhere());
}

#[test]
fn a_device_that_was_lost_is_asked_itself_when_it_is_searched_for() {
    let mut bench = with_own_device(IP1);
    bench.start();
    bench.run_until(400);
    bench.servers.get_mut(&addr("192.168.1.20:80")).expect("its server").mood = Mood::Refuses;
    bench.map(tcp(4000), no_wish());
    bench.run_until(2000);
    assert!(bench.when(|notice| *notice == Notice::Lost).is_some());
    bench.searches.clear();
    bench.search();
    let mut asked: Vec<_> = bench.searches.iter().map(|&(_, to)| to.to_string()).collect();
    asked.dedup();
    assert_eq!(asked, ["192.168.1.1:1900", "192.168.1.20:1900", "239.255.255.250:1900"]);
}

#[test]
fn a_device_on_this_very_host_is_not_the_gateway_that_was_named() {
    let mut bench = with_own_device(IP1);
    bench.start_in(Network { gateway: Some(ip(GATEWAY)), local: ip(LOCAL), named: true });
    bench.datagram("192.168.1.20:1900", &bench.devices[0].answer(IGD1));
    bench.run_until(5000);
    assert!(bench.connects.is_empty());
}

#[test]
fn without_a_next_hop_all_devices_are_equal() {
    let mut bench = Bench::with_igd(IP1);
    bench.add(
        SsdpDevice::new("192.168.1.5:1900", "http://192.168.1.5:80/root.xml"),
        "192.168.1.5:80",
        Server::new().page("/root.xml", 200, &description(&[(IP2, "/ctl")])).control(
            "/ctl",
            Igd { connection_status: "Disconnected", external: String::new(), ..Igd::new(IP2) },
        ),
    );
    bench.start_in(Network { gateway: None, local: ip(LOCAL), named: false });
    assert_eq!(bench.searches, [(0, addr("239.255.255.250:1900")); 6]);
    bench.map(tcp(4000), no_wish());
    bench.run_until(1000);
    assert_eq!(bench.igd().table.len(), 1, "the one that is connected");
}

/// Several services on the gateway: (type, connection status, external address).
fn with_services(services: &[(&'static str, &'static str, &str)]) -> Bench {
    let mut bench = Bench::with_igd(IP1);
    let urls: Vec<String> = (0..services.len()).map(|index| format!("/ctl{index}")).collect();
    let listed: Vec<_> = services.iter().zip(&urls).map(|(service, url)| (service.0, url.as_str())).collect();
    let mut server = Server::new().page("/root.xml", 200, &description(&listed));
    for (&(service_type, connection_status, external), url) in services.iter().zip(&urls) {
        let igd = Igd { connection_status, external: external.to_owned(), ..Igd::new(service_type) };
        server = server.control(url, igd);
    }
    *bench.server() = server;
    bench
}

#[test]
fn of_several_services_takes_the_connected_one() {
    for (services, expected) in [
        ([(IP1, "Disconnected", "0.0.0.0"), (PPP1, "Connected", EXTERNAL)], "/ctl1"),
        ([(PPP1, "Connected", EXTERNAL), (IP1, "Connected", EXTERNAL)], "/ctl1"),
        ([(IP1, "Connected", EXTERNAL), (IP2, "Up", EXTERNAL)], "/ctl1"),
        ([(IP1, "Connected", ""), (PPP1, "Up", EXTERNAL)], "/ctl1"),
        ([(IP1, "Unconfigured", "0.0.0.0"), (PPP1, "Disconnected", "0.0.0.0")], "/ctl0"),
    ] {
        let mut bench = with_services(&services);
        bench.start();
        bench.map(tcp(4000), no_wish());
        bench.run_until(5000);
        let taken: Vec<_> = bench
            .server()
            .controls
            .iter()
            .filter(|(_, igd)| !igd.table.is_empty())
            .map(|(url, _)| url.as_str())
            .collect();
        assert_eq!(taken, [expected], "{services:?}");
    }
}

#[test]
fn several_services_cost_one_round_trip_more() {
    let mut bench = with_services(&[(IP1, "Connected", EXTERNAL), (PPP1, "Connected", EXTERNAL)]);
    bench.start();
    bench.map(tcp(4000), no_wish());
    bench.run_until(5000);
    let timetable: Vec<_> = bench.requests.iter().map(|(at, line)| (*at, line.as_str())).collect();
    assert_eq!(
        timetable,
        [
            (51, "GET /root.xml"),
            (62, "GetStatusInfo"),
            (62, "GetExternalIPAddress"),
            (62, "GetStatusInfo"),
            (62, "GetExternalIPAddress"),
            // The external address is known from the choice.
            (73, "AddPortMapping tcp 4000 to 192.168.1.20:4000 for 7200"),
        ]
    );
}

#[test]
fn rests_when_another_protocol_has_won_and_goes_on_when_asked() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    bench.run_until(20);
    bench.drive(|driver, cx| driver.rest(cx));
    bench.run_until(10_000);
    assert!(bench.connects.is_empty());
    assert_eq!(bench.searches.len(), 12);
    assert_eq!(bench.driver.status(), Status::Working, "it is known that there is something");
    bench.map(tcp(4000), no_wish());
    bench.run_until(11_000);
    assert_eq!(bench.notices_of(tcp(4000)), [granted(tcp(4000), 4000)]);
}

#[test]
fn a_search_while_mappings_are_there_leaves_them_alone() {
    let mut bench = Bench::with_igd(IP1);
    bench.start_up();
    bench.map(tcp(4000), no_wish());
    bench.run_until(300);
    let searches = bench.searches.len();
    bench.search();
    bench.run_until(1000);
    assert_eq!(bench.searches.len(), searches);
    assert_eq!(bench.driver.status(), Status::Up);
}

#[test]
fn any_bytes_are_survived() {
    let mut bench = Bench::with_igd(IP1);
    bench.start();
    for text in
        ["", "\0", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nLOCATION:\r\n\r\n", "NOTIFY * HTTP/1.1\r\n\r\n"]
    {
        bench.datagram("192.168.1.1:1900", text);
        bench.notification("192.168.1.1:1900", text);
    }
    bench.run_until(1000);
    assert_eq!(bench.driver.status(), Status::Up);
    bench.drive(|driver, cx| {
        let unknown = crate::engine::io::ExchangeId(99);
        driver.handle_tcp_connected(cx, unknown, addr("1.2.3.4:5"));
        driver.handle_tcp_data(cx, unknown, b"x");
        driver.handle_tcp_end(cx, unknown, crate::engine::io::TcpEnd::Closed);
        driver.handle_timeout(cx);
    });
    assert_eq!(bench.driver.status(), Status::Up);
}
