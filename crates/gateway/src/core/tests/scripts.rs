//! Scripts, and the habits of tables.

use super::upnp::{act, adding, exchange, get, post};
use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const HOST: &str = "192.168.1.100";

#[test]
fn a_script_sees_what_is_asked_for() {
    let mut gateway = new_gateway();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    gateway.add_script(move |request| {
        note.lock().unwrap().push(request.clone());
        Reply::usual()
    });
    ask(&mut gateway, secs(1), &pcp_map(1, 100));
    ask(&mut gateway, secs(2), &natpmp_map(0));
    act(&mut gateway, "AddPortMapping", &adding("9000", "8000", HOST, "60")).unwrap();
    get(&mut gateway);
    let seen = seen.lock().unwrap();
    let kinds: Vec<Kind> = seen.iter().map(|request| request.kind).collect();
    let add = Kind::Soap(Action::AddPortMapping);
    assert_eq!(kinds, [Kind::PcpMap, Kind::NatPmpDelete, add, Kind::HttpDescription]);
    let mapping = |request: &Request| {
        (request.transport, request.internal_port, request.external_port, request.lifetime)
    };
    assert_eq!(mapping(&seen[0]), (Some(Transport::Tcp), Some(8000), Some(8000), Some(100)));
    assert_eq!(mapping(&seen[1]), (Some(Transport::Tcp), Some(8000), Some(8000), Some(0)));
    assert_eq!(mapping(&seen[2]), (Some(Transport::Tcp), Some(8000), Some(9000), Some(60)));
    assert_eq!(seen[2].path, "/ctl/0");
    assert_eq!((seen[3].path.as_str(), mapping(&seen[3])), ("/rootDesc.xml", (None, None, None, None)));
    assert_eq!((seen[0].at, seen[0].from), (secs(1), client(40_000)));
}

#[test]
fn datagrams_are_refused_changed_delayed_and_dropped() {
    let mut gateway = new_gateway();
    let turn = Arc::new(AtomicU32::new(0));
    gateway.add_script(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::code(4),
        1 => Reply::edited(|bytes| bytes[9] = 0x99),
        2 => Reply::usual().after(ms(20)),
        3 => Reply::nothing(),
        4 => Reply::nothing().with_effect(),
        5 => Reply::bytes([1, 2, 3]).without_effect(),
        _ => Reply::late(ms(30)),
    });
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(100))[3], 4);
    assert_eq!(gateway.table().len(), 0);
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(100))[9], 0x99);
    assert_eq!(gateway.table().len(), 1);
    assert!(ask(&mut gateway, secs(0), &natpmp_map(200)).is_empty());
    assert_eq!(mapped(&gateway), [(8000, 8000, Some(200))]);
    assert_eq!(sent(&mut gateway, ms(20)).len(), 1);
    assert!(ask(&mut gateway, secs(1), &natpmp_map(0)).is_empty());
    assert_eq!(gateway.table().len(), 1);
    assert!(ask(&mut gateway, secs(1), &natpmp_map(0)).is_empty());
    assert_eq!(gateway.table().len(), 0);
    assert_eq!(ask_one(&mut gateway, secs(1), &natpmp_map(100)), [1, 2, 3]);
    assert_eq!(gateway.table().len(), 0);
    assert!(ask(&mut gateway, secs(1), &natpmp_map(100)).is_empty());
    assert_eq!(gateway.table().len(), 0);
    assert_eq!(sent(&mut gateway, secs(1) + ms(30)).len(), 1);
    assert_eq!(gateway.table().len(), 1);
}

#[test]
fn actions_are_refused_changed_cut_off_and_hung_up_on() {
    let mut gateway = new_gateway();
    let turn = Arc::new(AtomicU32::new(0));
    gateway.add_script(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::code(-911),
        1 => Reply::http(404, "nothing here"),
        2 => Reply::close(),
        3 => Reply::close().with_effect(),
        4 => Reply::cut_off(25),
        _ => Reply::bytes("<html>"),
    });
    let request = post(
        "urn:schemas-upnp-org:service:WANIPConnection:1",
        "AddPortMapping",
        &adding("9000", "8000", HOST, "0"),
    );
    let ask = |gateway: &mut Gateway| {
        let (bytes, closed) = exchange(gateway, secs(0), &request);
        assert!(closed);
        (String::from_utf8(bytes).unwrap(), gateway.table().len())
    };
    let (fault, entries) = ask(&mut gateway);
    assert!(fault.contains("500 Internal") && fault.contains("<errorCode>-911</errorCode>"), "{fault}");
    assert_eq!(entries, 0);
    let (missing, entries) = ask(&mut gateway);
    assert!(missing.starts_with("HTTP/1.1 404 ") && missing.ends_with("nothing here"), "{missing}");
    assert_eq!(entries, 0);
    assert_eq!(ask(&mut gateway), (String::new(), 0));
    assert_eq!(ask(&mut gateway), (String::new(), 1));
    assert_eq!(ask(&mut gateway).0.len(), 25);
    let (html, _) = ask(&mut gateway);
    assert!(html.starts_with("HTTP/1.1 200 OK\r\n") && html.ends_with("\r\n\r\n<html>"), "{html}");
    gateway.clear_scripts();
    assert!(ask(&mut gateway).0.contains("AddPortMappingResponse"));
}

#[test]
fn the_first_of_several_scripts_with_a_wish_decides() {
    let mut gateway = new_gateway();
    gateway.add_script(|_| Reply::usual());
    gateway.add_script(|_| Reply::code(3));
    gateway.add_script(|_| Reply::code(4));
    assert_eq!(ask_one(&mut gateway, secs(0), &natpmp_map(100))[3], 3);
}

#[test]
fn leases_may_end_early_or_not_be_prolonged() {
    let mut gateway = new_gateway();
    let add = |gateway: &mut Gateway, lease| {
        act(gateway, "AddPortMapping", &adding("9000", "8000", HOST, lease)).unwrap();
        mapped(gateway)[0].2
    };
    gateway.faults.leases = Leases::GoneAfter(secs(2));
    assert_eq!(add(&mut gateway, "7200"), Some(2));
    assert_eq!(add(&mut gateway, "0"), None);
    gateway.forget_mappings();
    gateway.faults.leases = Leases::NotExtended;
    assert_eq!(add(&mut gateway, "100"), Some(100));
    gateway.handle_timeout(secs(50));
    assert_eq!(add(&mut gateway, "100"), Some(100));
    gateway.handle_timeout(secs(100));
    assert_eq!(add(&mut gateway, "100"), Some(200));
}

#[test]
fn a_port_that_carries_traffic_outlives_its_deletion() {
    let mut gateway = new_gateway();
    gateway.faults.deletion_leaves = Some(120);
    ask(&mut gateway, secs(0), &pcp_map(1, 7200));
    let answer = ask_one(&mut gateway, secs(10), &pcp_map(1, 0));
    assert_eq!((answer[3], &answer[4..8]), (0, &[0, 0, 0, 120][..]));
    assert_eq!(mapped(&gateway), [(8000, 8000, Some(130))]);
}

#[test]
fn a_gateway_of_one_connection_resets_the_others() {
    let mut gateway = new_gateway();
    gateway.faults.http.max_connections = Some(1);
    gateway.faults.http.resets_beyond = true;
    assert!(!gateway.refuses_tcp());
    gateway.handle_tcp_open(secs(0), ConnectionId(1), client(1));
    assert!(!gateway.refuses_tcp());
    gateway.handle_tcp_open(secs(0), ConnectionId(2), client(2));
    assert_eq!(gateway.poll_output(secs(0)), Some(Output::Reset { connection: ConnectionId(2) }));
    assert_eq!(gateway.poll_output(secs(0)), None);
}

#[test]
fn a_restart_may_be_silent_and_without_a_boot_id() {
    let mut gateway = new_gateway();
    gateway.faults.never_announces = true;
    gateway.restart(true);
    assert!(sent(&mut gateway, secs(10)).is_empty());
    gateway.faults.never_announces = false;
    gateway.faults.no_boot_id = true;
    gateway.notify(true);
    for (_, bytes) in sent(&mut gateway, secs(10)) {
        assert!(!String::from_utf8(bytes).unwrap().contains("BOOTID"));
    }
}

#[test]
fn a_device_that_is_no_gateway_answers_for_itself_alone() {
    let igd = Igd::other("MediaRenderer", "7d1f2a60-0000-4000-8000-00c0ffee0002");
    assert_eq!(
        igd.targets(),
        [
            "upnp:rootdevice",
            "uuid:7d1f2a60-0000-4000-8000-00c0ffee0002",
            "urn:schemas-upnp-org:device:MediaRenderer:1"
        ]
    );
    assert!(!igd.description().contains("WANIPConnection"));
    let huawei = Igd { domain: "urn:dslforum-org".into(), ..Igd::with(1, &[WanKind::DslForumIp1]) };
    assert!(huawei.description().contains("urn:dslforum-org:device:InternetGatewayDevice:1"));
    assert!(huawei.description().contains("urn:dslforum-org:service:WANIPConnection:1"));
}
