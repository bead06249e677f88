//! WANIPv6FirewallControl:1.

use super::pinholes::{CLIENT, OTHER, ROUTER, ask_pcp, map, new_firewall};
use super::upnp::{post, value};
use super::*;

const FIREWALL: &str = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";
const WAN_IP_1: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// The answer to an action from this address, or the error code.
fn act_at(
    gateway: &mut Gateway,
    now: Duration,
    from: IpAddr,
    action: &str,
    arguments: &[(&str, &str)],
) -> Result<String, u16> {
    let request = String::from_utf8(post(FIREWALL, action, arguments)).unwrap();
    answer(gateway, now, from, &request.replace("/ctl/0", "/ctl/1"))
}

fn answer(gateway: &mut Gateway, now: Duration, from: IpAddr, request: &str) -> Result<String, u16> {
    let connection = ConnectionId(gateway.counts.http_connections);
    gateway.handle_tcp_open(now, connection, SocketAddr::new(from, 50_001));
    gateway.handle_tcp_data(now, connection, request.as_bytes());
    let mut text = String::new();
    while let Some(output) = gateway.poll_output(now) {
        if let Output::Write { bytes, .. } = output {
            text += &String::from_utf8(bytes).unwrap();
        }
    }
    if text.starts_with("HTTP/1.1 200 OK\r\n") {
        return Ok(text);
    }
    Err(value(&text, "errorCode").parse().unwrap())
}

fn act(gateway: &mut Gateway, action: &str, arguments: &[(&str, &str)]) -> Result<String, u16> {
    act_at(gateway, secs(0), IpAddr::V6(CLIENT), action, arguments)
}

fn adding<'a>(client: &'a str, port: &'a str, lease: &'a str) -> [(&'static str, &'a str); 6] {
    [
        ("RemoteHost", ""),
        ("RemotePort", "0"),
        ("InternalClient", client),
        ("InternalPort", port),
        ("Protocol", "6"),
        ("LeaseTime", lease),
    ]
}

/// AddPinhole for a TCP port of the client, at a time: its UniqueID or the error.
fn add_at(gateway: &mut Gateway, now: Duration, port: &str, lease: &str) -> Result<u16, u16> {
    let client = CLIENT.to_string();
    let arguments = adding(&client, port, lease);
    let text = act_at(gateway, now, IpAddr::V6(CLIENT), "AddPinhole", &arguments)?;
    Ok(value(&text, "UniqueID").parse().unwrap())
}

fn add(gateway: &mut Gateway, port: &str) -> Result<u16, u16> {
    add_at(gateway, secs(0), port, "3600")
}

/// UniqueID, port and end of every pinhole.
fn opened(gateway: &Gateway) -> Vec<(u16, u16, u64)> {
    gateway.pinholes().iter().map(|p| (p.id, p.key.port, p.expires_at.as_secs())).collect()
}

#[test]
fn description_and_search_have_the_service_with_ipv6_only() {
    let mut gateway = new_firewall();
    let description = gateway.config().igd.as_ref().unwrap().description();
    let (_, service) = description.split_once(FIREWALL).unwrap();
    assert_eq!(value(service, "controlURL"), "/ctl/1");
    let search = format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: [ff02::c]:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {FIREWALL}\r\n\r\n"
    );
    let mut location = |from: IpAddr| {
        let from = SocketAddr::new(from, 50_000);
        gateway.handle_datagram(secs(0), UdpPort::Ssdp, from, search.as_bytes());
        match gateway.poll_output(secs(0)) {
            Some(Output::Send { from, bytes, .. }) => (from.ip(), String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let (from, answer) = location(IpAddr::V6(CLIENT));
    assert_eq!(from, IpAddr::V6(ROUTER));
    assert!(answer.contains(&format!("LOCATION: http://[{ROUTER}]:5000/rootDesc.xml\r\n")), "{answer}");
    let (from, answer) = location(super::CLIENT);
    assert_eq!(from, GATEWAY);
    assert!(answer.contains("LOCATION: http://192.168.1.1:5000/rootDesc.xml\r\n"), "{answer}");
    assert!(!new_gateway().config().igd.as_ref().unwrap().description().contains("Firewall"));
}

#[test]
fn pinholes_get_unique_ids_from_1() {
    let mut gateway = new_firewall();
    assert_eq!(add(&mut gateway, "8000"), Ok(1));
    assert_eq!(add(&mut gateway, "8001"), Ok(2));
    assert_eq!(opened(&gateway), [(1, 8000, 3600), (2, 8001, 3600)]);
    let id = [("UniqueID", "1")];
    assert!(act(&mut gateway, "DeletePinhole", &id).is_ok());
    assert_eq!(act(&mut gateway, "DeletePinhole", &id), Err(704));
    assert_eq!(add(&mut gateway, "8000"), Ok(3));
    assert_eq!(gateway.counts.of(Kind::Soap(Action::AddPinhole)), 3);
}

#[test]
fn same_arguments_extend_and_give_the_same_id() {
    let mut gateway = new_firewall();
    assert_eq!(add(&mut gateway, "8000"), Ok(1));
    assert_eq!(add_at(&mut gateway, secs(100), "8000", "3601"), Ok(1));
    assert_eq!(opened(&gateway), [(1, 8000, 3701)]);
    let client = CLIENT.to_string();
    let mut to_one_peer = adding(&client, "8000", "60");
    to_one_peer[0].1 = "2003:2::9";
    let text = act(&mut gateway, "AddPinhole", &to_one_peer).unwrap();
    assert_eq!(value(&text, "UniqueID"), "2");
}

#[test]
fn after_a_restart_ids_count_from_1_again() {
    let mut gateway = new_firewall();
    assert_eq!((add(&mut gateway, "8000"), add(&mut gateway, "8001")), (Ok(1), Ok(2)));
    gateway.restart(false);
    assert_eq!(add(&mut gateway, "8001"), Ok(1));
    // What a restart keeps has its id still, which another pinhole may get.
    gateway.restart(true);
    assert_eq!(add(&mut gateway, "8001"), Ok(1));
    assert_eq!(add(&mut gateway, "8002"), Ok(1));
    assert!(act(&mut gateway, "DeletePinhole", &[("UniqueID", "1")]).is_ok());
    assert_eq!(opened(&gateway), [(1, 8002, 3600)]);
}

#[test]
fn leases_are_updated_and_run_out() {
    let mut gateway = new_firewall();
    assert_eq!(add_at(&mut gateway, secs(0), "8000", "60"), Ok(1));
    let update = |gateway: &mut Gateway, id, lease| {
        let arguments = [("UniqueID", id), ("NewLeaseTime", lease)];
        act_at(gateway, secs(10), IpAddr::V6(CLIENT), "UpdatePinhole", &arguments).map(drop)
    };
    assert_eq!(update(&mut gateway, "1", "100"), Ok(()));
    assert_eq!(opened(&gateway), [(1, 8000, 110)]);
    assert_eq!(update(&mut gateway, "2", "100"), Err(704));
    assert_eq!(update(&mut gateway, "1", "0"), Err(402));
    assert_eq!(gateway.poll_timeout(), Some(secs(110)));
    gateway.handle_timeout(secs(110));
    assert_eq!((opened(&gateway), gateway.poll_timeout()), (vec![], None));
    assert_eq!(update(&mut gateway, "1", "100"), Err(704));
}

#[test]
fn what_is_wrong_with_an_addition_decides_the_error() {
    let mut gateway = new_firewall();
    let client = CLIENT.to_string();
    let mut error = |at: usize, value: &str| {
        let mut arguments = adding(&client, "8000", "3600");
        arguments[at].1 = value;
        act(&mut gateway, "AddPinhole", &arguments).expect_err(value)
    };
    assert_eq!(error(1, "x"), 402);
    assert_eq!(error(2, ""), 708);
    assert_eq!(error(2, "192.168.1.100"), 402);
    assert_eq!(error(2, "2003:1::6"), 606);
    assert_eq!(error(3, "0"), 706);
    assert_eq!(error(3, "1023"), 606);
    assert_eq!(error(4, "TCP"), 402);
    assert_eq!(error(4, "132"), 705);
    assert_eq!(error(4, "65535"), 707);
    assert_eq!(error(5, "0"), 402);
    assert_eq!(error(5, "86401"), 402);
    let mut disordered = adding(&client, "8000", "3600");
    disordered.swap(0, 1);
    assert_eq!(act(&mut gateway, "AddPinhole", &disordered), Err(402));
    assert_eq!(opened(&gateway), []);
    assert_eq!(add_at(&mut gateway, secs(0), "1024", "86400"), Ok(1));
}

#[test]
fn pinhole_is_its_own_addresses_business_alone() {
    let mut gateway = new_firewall();
    assert_eq!(add(&mut gateway, "8000"), Ok(1));
    let (client, other) = (CLIENT.to_string(), OTHER.to_string());
    let id = [("UniqueID", "1")];
    for from in [IpAddr::V6(OTHER), super::CLIENT] {
        let mut act = |action, arguments: &[_]| act_at(&mut gateway, secs(0), from, action, arguments);
        assert_eq!(act("AddPinhole", &adding(&client, "8001", "60")), Err(606));
        assert_eq!(act("UpdatePinhole", &[id[0], ("NewLeaseTime", "60")]), Err(606));
        for action in ["DeletePinhole", "CheckPinholeWorking", "GetPinholePackets"] {
            assert_eq!(act(action, &id), Err(606), "{action} from {from}");
        }
    }
    let its_own =
        act_at(&mut gateway, secs(0), IpAddr::V6(OTHER), "AddPinhole", &adding(&other, "8000", "60"));
    assert_eq!(value(&its_own.unwrap(), "UniqueID"), "2");
    assert_eq!(opened(&gateway), [(1, 8000, 3600), (2, 8000, 60)]);
}

#[test]
fn firewall_that_is_off_or_forbids_pinholes_says_so() {
    let mut gateway = new_firewall();
    assert_eq!(add(&mut gateway, "8000"), Ok(1));
    for (disabled, forbidden, status, error) in [
        (false, false, ("1", "1"), None),
        (true, false, ("0", "1"), Some(702)),
        (false, true, ("1", "0"), Some(703)),
    ] {
        gateway.faults.firewall_disabled = disabled;
        gateway.faults.inbound_pinholes_forbidden = forbidden;
        let text = act(&mut gateway, "GetFirewallStatus", &[]).unwrap();
        assert_eq!((value(&text, "FirewallEnabled"), value(&text, "InboundPinholeAllowed")), status);
        assert_eq!(add(&mut gateway, "8000").err(), error);
        assert_eq!(act(&mut gateway, "GetPinholePackets", &[("UniqueID", "1")]).err(), error);
    }
}

#[test]
fn scripted_errors_and_a_full_table_open_nothing() {
    let mut gateway = new_firewall();
    for code in [402, 403, 701, 704] {
        gateway.faults.refuse_next(Kind::Soap(Action::AddPinhole), code, 1);
        assert_eq!(add(&mut gateway, "8000"), Err(code));
    }
    gateway.faults.refuse_port(Kind::Soap(Action::AddPinhole), 403, 8001);
    assert_eq!((add(&mut gateway, "8000"), add(&mut gateway, "8001")), (Ok(1), Err(403)));
    gateway.add_script(|_| Reply::code(501));
    assert_eq!(add(&mut gateway, "8002"), Err(501));
    gateway.clear_scripts();
    gateway.add_script(|_| Reply::usual().without_effect());
    assert_eq!(add(&mut gateway, "8002"), Ok(2));
    assert_eq!(opened(&gateway), [(1, 8000, 3600)]);

    let config = Config { max_mappings: 1, ..Config::at(GATEWAY) }.with_ipv6(ROUTER);
    let mut small = Gateway::new(config, secs(0));
    assert_eq!((add(&mut small, "8000"), add(&mut small, "8001")), (Ok(1), Err(701)));
    assert_eq!(add(&mut small, "8000"), Ok(1));
}

#[test]
fn pinhole_works_once_a_packet_came_through() {
    let mut gateway = new_firewall();
    assert_eq!(add(&mut gateway, "8000"), Ok(1));
    let id = [("UniqueID", "1")];
    assert_eq!(act(&mut gateway, "CheckPinholeWorking", &id), Err(709));
    let (peer, to) = (SocketAddr::from((OTHER, 9)), SocketAddr::from((CLIENT, 8000)));
    assert!(gateway.pinholes_mut().let_in(Transport::Tcp, peer, to));
    let text = act(&mut gateway, "CheckPinholeWorking", &id).unwrap();
    assert_eq!(value(&text, "IsWorking"), "1");
    let text = act(&mut gateway, "GetPinholePackets", &id).unwrap();
    assert_eq!(value(&text, "PinholePackets"), "1");
}

#[test]
fn pinhole_of_pcp_is_adopted_and_deleted_by_firewall_control() {
    let mut gateway = new_firewall();
    assert_eq!(ask_pcp(&mut gateway, secs(0), CLIENT, &map(CLIENT, 1, 100))[3], 0);
    assert_eq!(add(&mut gateway, "8000"), Ok(1));
    assert_eq!(opened(&gateway), [(1, 8000, 3600)]);
    // Its nonce guards it still.
    assert_eq!(ask_pcp(&mut gateway, secs(1), CLIENT, &map(CLIENT, 2, 100))[3], 2);
    assert!(act(&mut gateway, "DeletePinhole", &[("UniqueID", "1")]).is_ok());
    assert_eq!(ask_pcp(&mut gateway, secs(1), CLIENT, &map(CLIENT, 2, 100))[3], 0);
}

#[test]
fn each_service_takes_its_own_actions_only() {
    let mut gateway = new_firewall();
    assert_eq!(act(&mut gateway, "GetExternalIPAddress", &[]), Err(401));
    assert_eq!(act(&mut gateway, "GetOutboundPinholeTimeout", &[]), Err(401));
    let request = String::from_utf8(post(WAN_IP_1, "GetFirewallStatus", &[])).unwrap();
    assert_eq!(answer(&mut gateway, secs(0), IpAddr::V6(CLIENT), &request), Err(401));
}
