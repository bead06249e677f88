use super::*;

const WAN_IP_1: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const WAN_IP_2: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";

fn search(target: &str) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
    )
}

fn answers(gateway: &mut Gateway, search: &str) -> Vec<String> {
    gateway.handle_datagram(secs(0), UdpPort::Ssdp, client(50_000), search.as_bytes());
    sent(gateway, secs(0)).into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
}

/// Sends on a new connection; the bytes that come by `now`, and whether the connection was closed.
pub(super) fn exchange(gateway: &mut Gateway, now: Duration, request: &[u8]) -> (Vec<u8>, bool) {
    let connection = ConnectionId(gateway.counts.http_connections);
    gateway.handle_tcp_open(now, connection, client(50_001));
    gateway.handle_tcp_data(now, connection, request);
    received(gateway, now)
}

fn received(gateway: &mut Gateway, now: Duration) -> (Vec<u8>, bool) {
    let (mut all, mut closed) = (Vec::new(), false);
    while let Some(output) = gateway.poll_output(now) {
        assert!(!closed, "{output:?} after Close");
        match output {
            Output::Write { bytes, .. } => all.extend(bytes),
            Output::Close { .. } => closed = true,
            Output::Send { .. } | Output::Reset { .. } => panic!("{output:?}"),
        }
    }
    (all, closed)
}

const GET: &[u8] = b"GET /rootDesc.xml HTTP/1.1\r\nHost: 192.168.1.1:5000\r\nConnection: close\r\n\r\n";

/// Status line, headers and body.
pub(super) fn get(gateway: &mut Gateway) -> (String, String) {
    let (bytes, _) = exchange(gateway, secs(0), GET);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.into(), body.into())
}

pub(super) fn post(service: &str, action: &str, arguments: &[(&str, &str)]) -> Vec<u8> {
    let arguments: String = arguments.iter().map(|(n, v)| format!("<{n}>{v}</{n}>")).collect();
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{service}\">\
         {arguments}</u:{action}></s:Body></s:Envelope>"
    );
    let length = body.len();
    format!(
        "POST /ctl/0 HTTP/1.1\r\nHost: 192.168.1.1:5000\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\
         SOAPAction: \"{service}#{action}\"\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The body of a success, or the error code.
fn act_on(
    gateway: &mut Gateway,
    service: &str,
    action: &str,
    arguments: &[(&str, &str)],
) -> Result<String, u16> {
    let (bytes, closed) = exchange(gateway, secs(0), &post(service, action, arguments));
    assert!(closed);
    let text = String::from_utf8(bytes).unwrap();
    if text.starts_with("HTTP/1.1 200 OK\r\n") {
        return Ok(text);
    }
    assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
    Err(value(&text, "errorCode").parse().unwrap())
}

pub(super) fn act(gateway: &mut Gateway, action: &str, arguments: &[(&str, &str)]) -> Result<String, u16> {
    act_on(gateway, WAN_IP_1, action, arguments)
}

pub(super) fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {text}"));
    rest.split_once("</").unwrap().0
}

pub(super) fn adding<'a>(
    external: &'a str,
    internal: &'a str,
    host: &'a str,
    lease: &'a str,
) -> [(&'static str, &'a str); 8] {
    [
        ("NewRemoteHost", ""),
        ("NewExternalPort", external),
        ("NewProtocol", "TCP"),
        ("NewInternalPort", internal),
        ("NewInternalClient", host),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", "a &amp; b"),
        ("NewLeaseDuration", lease),
    ]
}

const HOST: &str = "192.168.1.100";

fn entry_of(port: &str) -> [(&str, &str); 3] {
    [("NewRemoteHost", ""), ("NewExternalPort", port), ("NewProtocol", "TCP")]
}

#[test]
fn search_is_answered_with_the_location_for_each_target() {
    let mut gateway = new_gateway();
    let device = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
    for target in ["upnp:rootdevice", device, WAN_IP_1] {
        let answers = answers(&mut gateway, &search(target));
        assert_eq!(answers.len(), 1);
        assert!(answers[0].starts_with("HTTP/1.1 200 OK\r\n") && answers[0].ends_with("\r\n\r\n"));
        assert!(answers[0].contains("\r\nLOCATION: http://192.168.1.1:5000/rootDesc.xml\r\n"));
        assert!(answers[0].contains(&format!("\r\nST: {target}\r\n")));
    }
    assert!(answers(&mut gateway, &search(WAN_IP_2)).is_empty());
    assert_eq!(gateway.counts.ssdp_search, 4);
}

#[test]
fn igd2_answers_for_the_versions_below_its_own() {
    let mut gateway = Gateway::new(Config { igd: Some(Igd::v2()), ..Config::at(GATEWAY) }, secs(0));
    for target in [WAN_IP_1, WAN_IP_2, "urn:schemas-upnp-org:device:InternetGatewayDevice:1"] {
        assert_eq!(answers(&mut gateway, &search(target)).len(), 1);
    }
    assert!(answers(&mut gateway, &search("ssdp:all")).len() > 5);
}

#[test]
fn search_without_mx_man_or_host_is_dropped() {
    let mut gateway = new_gateway();
    let good = search("upnp:rootdevice");
    for (part, instead) in [
        ("MX: 1\r\n", ""),
        ("MX: 1\r\n", "MX: 0\r\n"),
        ("MX: 1\r\n", "MX: soon\r\n"),
        ("MAN: \"ssdp:discover\"", "MAN: ssdp:discover"),
        ("HOST: 239.255.255.250:1900\r\n", ""),
        ("\r\n\r\n", "\r\n"),
        ("M-SEARCH * HTTP/1.1", "M-SEARCH / HTTP/1.1"),
    ] {
        assert!(answers(&mut gateway, &good.replace(part, instead)).is_empty(), "{part:?}");
    }
    assert_eq!((gateway.counts.ssdp_search, gateway.complaints().count()), (7, 7));
    assert_eq!(answers(&mut gateway, &good).len(), 1);
}

#[test]
fn notifications_of_others_and_its_own_are_not_counted() {
    let mut gateway = new_gateway();
    assert!(answers(&mut gateway, "NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\n\r\n").is_empty());
    assert_eq!((gateway.counts.total(), gateway.counts.max_packets_per_second), (0, 0));
}

#[test]
fn hostile_locations_come_alone_or_before_the_true_one() {
    let mut gateway = new_gateway();
    gateway.faults.extra_locations = vec!["http://203.0.113.1/".into()];
    let both = answers(&mut gateway, &search("upnp:rootdevice"));
    assert!(
        both[0].contains("LOCATION: http://203.0.113.1/\r\n")
            && both[1].contains("LOCATION: http://192.168.1.1")
    );
    gateway.faults.extra_locations.clear();
    gateway.faults.location = Some("https://user@evil/".into());
    assert!(
        answers(&mut gateway, &search("upnp:rootdevice"))[0].contains("LOCATION: https://user@evil/\r\n")
    );
}

#[test]
fn restart_is_notified_with_a_new_boot_id() {
    let mut gateway = new_gateway();
    gateway.config.announcements = 0;
    gateway.restart(true);
    let notified = sent(&mut gateway, secs(0));
    assert!(notified.iter().all(|(to, _)| *to == SSDP_GROUP));
    let first = String::from_utf8(notified[0].1.clone()).unwrap();
    assert!(
        first.contains("\r\nNTS: ssdp:alive\r\n") && first.contains("\r\nBOOTID.UPNP.ORG: 2\r\n"),
        "{first}"
    );
    gateway.notify(false);
    let (_, bytes) = sent(&mut gateway, secs(0)).remove(0);
    assert!(String::from_utf8(bytes).unwrap().contains("\r\nNTS: ssdp:byebye\r\n"));
}

#[test]
fn description_names_each_service_with_its_control_url() {
    let mut igd = Igd::with(1, &[WanKind::Ppp1, WanKind::Ip1]);
    igd.url_base = Some("http://192.168.1.1:5000/".into());
    igd.services[1].control_url = Some("ctl/1".into());
    igd.friendly_name = "R&D <1>".into();
    let mut gateway = Gateway::new(Config { igd: Some(igd), ..Config::at(GATEWAY) }, secs(0));
    let (head, body) = get(&mut gateway);
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(&format!("Content-Length: {}", body.len()))
    );
    assert_eq!(value(&body, "URLBase"), "http://192.168.1.1:5000/");
    assert_eq!(value(&body, "friendlyName"), "R&amp;D &lt;1&gt;");
    let ppp = body.find("<serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1<").unwrap();
    let ip = body.find("<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1<").unwrap();
    assert!(ppp < body.find("<controlURL>/ctl/0<").unwrap() && ip < body.find("<controlURL>ctl/1<").unwrap());
    assert_eq!(gateway.counts.http_description, 1);
}

#[test]
fn adding_getting_and_deleting_a_mapping() {
    let mut gateway = new_gateway();
    act(&mut gateway, "AddPortMapping", &adding("9000", "8000", HOST, "7200")).unwrap();
    assert_eq!(mapped(&gateway), [(9000, 8000, Some(7200))]);
    let entry = act(&mut gateway, "GetSpecificPortMappingEntry", &entry_of("9000")).unwrap();
    let get = |name| value(&entry, name).to_string();
    assert_eq!((get("NewInternalPort"), get("NewInternalClient")), ("8000".into(), HOST.into()));
    assert_eq!(
        (get("NewPortMappingDescription"), get("NewLeaseDuration")),
        ("a &amp; b".into(), "7200".into())
    );
    let generic = act(&mut gateway, "GetGenericPortMappingEntry", &[("NewPortMappingIndex", "0")]).unwrap();
    assert_eq!(value(&generic, "NewExternalPort"), "9000");
    let beyond = act(&mut gateway, "GetGenericPortMappingEntry", &[("NewPortMappingIndex", "1")]);
    assert_eq!(beyond, Err(713));
    act(&mut gateway, "DeletePortMapping", &entry_of("9000")).unwrap();
    assert!(gateway.table().is_empty());
    assert_eq!(act(&mut gateway, "DeletePortMapping", &entry_of("9000")), Err(714));
    assert_eq!(act(&mut gateway, "GetSpecificPortMappingEntry", &entry_of("9000")), Err(714));
    assert_eq!(gateway.counts.soap[&Action::DeletePortMapping], 2);
}

#[test]
fn address_and_status_are_told_while_connected() {
    let mut gateway = new_gateway();
    let address = act(&mut gateway, "GetExternalIPAddress", &[]).unwrap();
    assert_eq!(value(&address, "NewExternalIPAddress"), "203.0.113.7");
    assert_eq!(value(&act(&mut gateway, "GetStatusInfo", &[]).unwrap(), "NewConnectionStatus"), "Connected");
    assert_eq!(value(&act(&mut gateway, "GetNATRSIPStatus", &[]).unwrap(), "NewNATEnabled"), "1");
    gateway.config.igd.as_mut().unwrap().services[0].status = "Disconnected".into();
    let address = act(&mut gateway, "GetExternalIPAddress", &[]).unwrap();
    assert_eq!(value(&address, "NewExternalIPAddress"), "");
}

#[test]
fn the_link_is_told_at_a_control_url_of_its_own() {
    let mut gateway = new_gateway();
    let service = crate::core::interface::SERVICE_TYPE;
    let mut told = |path: &str, service: &str, action: &str| {
        let request = String::from_utf8(post(service, action, &[])).unwrap().replace("/ctl/0", path);
        String::from_utf8(exchange(&mut gateway, secs(0), request.as_bytes()).0).unwrap()
    };
    let link = told("/ctl/common", service, "GetCommonLinkProperties");
    assert!(link.contains("<NewPhysicalLinkStatus>Up</") && link.contains("200 OK"), "{link}");
    assert!(told("/ctl/common", service, "GetTotalBytesSent").contains("<NewTotalBytesSent>123456789</"));
    assert!(told("/ctl/common", service, "GetStatusInfo").contains("<errorCode>401</"));
    let connection = WanKind::Ip1.service_type();
    assert!(told("/ctl/common", connection, "GetTotalBytesSent").contains("<errorCode>401</"));
    assert!(told("/ctl/0", connection, "GetTotalBytesSent").contains("<errorCode>401</"));
    assert!(told("/ctl/0", connection, "GetConnectionTypeInfo").contains("<NewConnectionType>IP_Routed</"));
}

#[test]
fn entry_of_the_same_client_is_overwritten_and_of_another_a_conflict() {
    let mut gateway = new_gateway();
    act(&mut gateway, "AddPortMapping", &adding("9000", "8000", HOST, "0")).unwrap();
    act(&mut gateway, "AddPortMapping", &adding("9000", "8001", HOST, "0")).unwrap();
    assert_eq!(mapped(&gateway), [(9000, 8001, None)]);
    gateway.occupy(Transport::Tcp, 9001, SocketAddr::from(([192, 168, 1, 50], 80)));
    assert_eq!(act(&mut gateway, "AddPortMapping", &adding("9001", "8000", HOST, "0")), Err(718));
    assert_eq!(act(&mut gateway, "DeletePortMapping", &entry_of("9001")), Err(606));
}

#[test]
fn pcp_deletion_removes_what_upnp_renewed() {
    let mut gateway = new_gateway();
    ask_one(&mut gateway, secs(0), &pcp_map(1, 7200));
    act(&mut gateway, "AddPortMapping", &adding("8000", "8000", HOST, "7200")).unwrap();
    ask_one(&mut gateway, secs(1), &pcp_map(1, 0));
    assert!(gateway.table().is_empty());
}

#[test]
fn adding_for_another_host_or_with_wrong_arguments_is_refused() {
    let mut gateway = new_gateway();
    let mut add = |arguments: &[(&str, &str)]| act(&mut gateway, "AddPortMapping", arguments).unwrap_err();
    assert_eq!(add(&adding("9000", "8000", "192.168.1.50", "0")), 606);
    assert_eq!(add(&adding("0", "8000", HOST, "0")), 716);
    assert_eq!(add(&adding("9000", "0", HOST, "0")), 402);
    assert_eq!(add(&adding("70000", "8000", HOST, "0")), 402);
    assert_eq!(add(&adding("9000", "8000", HOST, "0")[1..]), 402);
    let mut swapped = adding("9000", "8000", HOST, "0");
    swapped.swap(1, 2);
    assert_eq!(add(&swapped), 402);
    assert!(gateway.table().is_empty());
}

#[test]
fn an_action_without_quotes_is_done_and_complained_of() {
    let mut gateway = new_gateway();
    let quoted = String::from_utf8(post(WAN_IP_1, "GetExternalIPAddress", &[])).unwrap();
    let name = format!("{WAN_IP_1}#GetExternalIPAddress");
    let unquoted = quoted.replacen(&format!("\"{name}\""), &name, 1);
    for (request, complaints) in [(quoted, 0), (unquoted, 1)] {
        let (bytes, _) = exchange(&mut gateway, secs(0), request.as_bytes());
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(gateway.complaints().count(), complaints);
    }
}

#[test]
fn unknown_actions_wrong_services_and_bad_bodies_are_refused() {
    let mut gateway = new_gateway();
    assert_eq!(act(&mut gateway, "SetConnectionType", &[]), Err(401));
    assert_eq!(act_on(&mut gateway, WAN_IP_2, "GetExternalIPAddress", &[]), Err(401));
    let status = |gateway: &mut Gateway, from: &str, to: &str| {
        let request = String::from_utf8(post(WAN_IP_1, "GetExternalIPAddress", &[])).unwrap();
        let changed = request.replacen(from, to, 1);
        assert_ne!(request, changed);
        let text = String::from_utf8(exchange(gateway, secs(0), changed.as_bytes()).0).unwrap();
        text[9..12].to_string()
    };
    assert_eq!(
        status(&mut gateway, "\"urn:schemas-upnp-org:service:WANIPConnection:1#GetExternalIPAddress\"", "x"),
        "500"
    );
    assert_eq!(status(&mut gateway, "<u:Get", "<u:Put"), "500");
    assert_eq!(status(&mut gateway, "Host: 192.168.1.1:5000\r\n", ""), "400");
    assert_eq!(status(&mut gateway, "HTTP/1.1", "HTTP/9"), "400");
    assert_eq!(status(&mut gateway, "/ctl/0", "/other"), "404");
}

#[test]
fn any_port_is_given_by_version_2_alone() {
    let mut gateway = new_gateway();
    assert_eq!(act(&mut gateway, "AddAnyPortMapping", &adding("9000", "8000", HOST, "60")), Err(401));
    let mut gateway = Gateway::new(Config { igd: Some(Igd::v2()), ..Config::at(GATEWAY) }, secs(0));
    let any = |gateway: &mut Gateway, arguments: &[(&str, &str)]| {
        act_on(gateway, WAN_IP_2, "AddAnyPortMapping", arguments)
            .map(|text| value(&text, "NewReservedPort").to_string())
    };
    gateway.occupy(Transport::Tcp, 9000, SocketAddr::from(([192, 168, 1, 50], 80)));
    assert_eq!(any(&mut gateway, &adding("9000", "8000", HOST, "60")), Ok("9001".into()));
    assert_eq!(any(&mut gateway, &adding("9001", "8000", HOST, "60")), Ok("9001".into()), "its own again");
    assert_eq!(any(&mut gateway, &adding("0", "8002", HOST, "60")), Ok("8002".into()));
    gateway.faults.no_add_any = true;
    assert_eq!(any(&mut gateway, &adding("9000", "8000", HOST, "60")), Err(401));
}

#[test]
fn scripted_errors_strike_by_action_port_and_condition() {
    let mut gateway = new_gateway();
    gateway.faults.refuse_next(Kind::Soap(Action::GetExternalIPAddress), 501, 1);
    assert_eq!(act(&mut gateway, "GetExternalIPAddress", &[]), Err(501));
    assert!(act(&mut gateway, "GetExternalIPAddress", &[]).is_ok());
    gateway.faults.refuse_port(Kind::Soap(Action::AddPortMapping), 729, 8000);
    assert_eq!(act(&mut gateway, "AddPortMapping", &adding("9000", "8000", HOST, "0")), Err(729));
    gateway.faults.permanent_leases_only = true;
    assert_eq!(act(&mut gateway, "AddPortMapping", &adding("8001", "8001", HOST, "7200")), Err(725));
    gateway.faults.same_ports_only = true;
    assert_eq!(act(&mut gateway, "AddPortMapping", &adding("9001", "8001", HOST, "0")), Err(724));
    assert!(act(&mut gateway, "AddPortMapping", &adding("8001", "8001", HOST, "0")).is_ok());
    gateway.faults.refuse(Kind::HttpDescription, 503);
    assert!(get(&mut gateway).0.starts_with("HTTP/1.1 503 "));
}

#[test]
fn framing_may_be_chunked_wrong_or_missing() {
    let mut gateway = new_gateway();
    let (_, body) = get(&mut gateway);
    let length = |head: &str| -> Option<usize> {
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map(|text| text.parse().unwrap())
    };
    gateway.faults.http.framing = Framing::TooLong(10);
    assert_eq!(length(&get(&mut gateway).0), Some(body.len() + 10));
    gateway.faults.http.framing = Framing::TooShort(10);
    assert_eq!(length(&get(&mut gateway).0), Some(body.len() - 10));
    gateway.faults.http.framing = Framing::UntilClose;
    assert_eq!((length(&get(&mut gateway).0), get(&mut gateway).1), (None, body.clone()));
    gateway.faults.http.framing = Framing::Chunked;
    let (head, chunked) = get(&mut gateway);
    assert!(head.contains("\r\nTransfer-Encoding: chunked") && length(&head).is_none());
    let (mut rest, mut whole) = (chunked.as_str(), String::new());
    loop {
        let (size, after) = rest.split_once(";part=yes\r\n").unwrap_or(("0", rest));
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap();
    }
    assert_eq!((whole, rest), (body, "0\r\nX-Trailer: yes\r\n\r\n"));
}

#[test]
fn open_connections_take_one_request_after_the_other() {
    let mut gateway = new_gateway();
    gateway.faults.http.keep_open = true;
    let (bytes, closed) = exchange(&mut gateway, secs(0), &[GET, GET].concat());
    assert!(!closed);
    assert_eq!(String::from_utf8(bytes).unwrap().matches("HTTP/1.1 200 OK").count(), 2);
}

#[test]
fn slow_answers_come_piece_by_piece_or_stop() {
    let mut gateway = new_gateway();
    gateway.faults.delay = ms(5);
    gateway.faults.http.dribble = Some((10, ms(100)));
    assert_eq!(exchange(&mut gateway, ms(0), GET), (vec![], false));
    assert_eq!(received(&mut gateway, ms(5)).0.len(), 10);
    assert_eq!(received(&mut gateway, ms(205)).0.len(), 20);
    let (rest, closed) = received(&mut gateway, secs(1000));
    assert!(closed && rest.len() > 1000);
    gateway.faults.http.dribble = None;
    gateway.faults.http.stall_after = Some(7);
    exchange(&mut gateway, secs(2000), GET);
    assert_eq!(received(&mut gateway, secs(4000)), (b"HTTP/1.".to_vec(), false));
}

#[test]
fn http_may_hang_up_be_silent_talk_junk_or_redirect() {
    let mut gateway = new_gateway();
    gateway.faults.http.hang_up = Times::Next(1);
    assert_eq!(exchange(&mut gateway, secs(0), GET), (vec![], true));
    gateway.faults.silence.http = Times::Next(1);
    assert_eq!(exchange(&mut gateway, secs(0), GET), (vec![], false));
    gateway.faults.http.junk = Times::Next(1);
    let (junk, closed) = exchange(&mut gateway, secs(0), GET);
    assert!(!junk.starts_with(b"HTTP/") && closed);
    gateway.faults.http.redirect = Some("/moved.xml".into());
    let (head, _) = get(&mut gateway);
    assert!(head.starts_with("HTTP/1.1 302 Found\r\n") && head.contains("\r\nLocation: /moved.xml\r\n"));
    gateway.faults.http.max_connections = Some(gateway.connections.len());
    assert!(gateway.refuses_tcp());
}

#[test]
fn requests_in_pieces_are_put_together_and_endless_ones_refused() {
    let mut gateway = new_gateway();
    let connection = ConnectionId(900);
    gateway.handle_tcp_open(secs(0), connection, client(1));
    for octet in GET {
        assert_eq!(gateway.poll_output(secs(0)), None);
        gateway.handle_tcp_data(secs(0), connection, &[*octet]);
    }
    let (bytes, closed) = received(&mut gateway, secs(0));
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && closed);
    let (bytes, closed) = exchange(&mut gateway, secs(0), &vec![b'a'; 70_000]);
    assert!(bytes.starts_with(b"HTTP/1.1 400 ") && closed);
    assert_eq!(gateway.counts.max_http_connections, 1);
}
