//! The UPnP driver without the core: what the command finds and calls.

use plum_engine::driver::{Driver, Rung};
use plum_engine::io::{Arrival, Config, Cx, ExchangeId, Output, Socket, TcpEnd};
use plum_engine::time::Time;
use plum_engine::upnp::{Action, DeviceState, ExchangeError, Network, Outcome, Upnp};
use plum_testkit::random::Seeded;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
const TYPE: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:2";

/// A driver that has heard the gateway's device, and the connection for its description.
fn heard() -> (Cx, Upnp, ExchangeId) {
    let mut cx = Cx::new(Config::default(), Box::new(Seeded::new(1)));
    let mut upnp = Upnp::default();
    let network = Network { gateway: Some(GATEWAY), local: LOCAL, interface: 1, named: false };
    upnp.start(&mut cx, Some(network));
    upnp.probe(&mut cx);
    upnp.handle_opened(&mut cx, Some(SocketAddr::new(LOCAL, 40_000)));
    let searches = std::mem::take(&mut cx.outputs);
    assert!(searches.iter().all(|output| matches!(output, Output::Send { socket: Socket::Ssdp, .. })));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nST: {TYPE}\r\nUSN: uuid:x::{TYPE}\r\nLOCATION: http://{GATEWAY}:5000/desc.xml\r\n\r\n"
    );
    upnp.handle_datagram(
        &mut cx,
        Socket::Ssdp,
        Arrival::from(SocketAddr::new(GATEWAY, 1900)),
        answer.as_bytes(),
    );
    let exchange = connection(&mut cx);
    (cx, upnp, exchange)
}

/// The only connection that is wanted.
fn connection(cx: &mut Cx) -> ExchangeId {
    match std::mem::take(&mut cx.outputs).pop_front() {
        Some(Output::Connect { exchange, .. }) => exchange,
        other => panic!("{other:?}"),
    }
}

/// Lets a connection be established and answered; the request.
fn answer(cx: &mut Cx, upnp: &mut Upnp, exchange: ExchangeId, status: u16, body: &str) -> String {
    upnp.handle_tcp_connected(cx, exchange, SocketAddr::new(LOCAL, 40_001));
    let Some(Output::Write { bytes, .. }) = cx.outputs.pop_front() else { panic!("no request") };
    let reply = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    upnp.handle_tcp_data(cx, exchange, reply.as_bytes());
    String::from_utf8(bytes).expect("a request is text")
}

/// One that has described its only service that maps ports as well, and these others.
fn described_with(others: &str) -> (Cx, Upnp, Rung) {
    let (mut cx, mut upnp, exchange) = heard();
    let description = format!(
        "<root><device><deviceType>{TYPE}</deviceType><friendlyName>Box</friendlyName><serviceList><service>\
         <serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/ctl</controlURL>\
         </service>{others}</serviceList></device></root>"
    );
    assert!(answer(&mut cx, &mut upnp, exchange, 200, &description).starts_with("GET /desc.xml "));
    cx.outputs.clear();
    let rung = upnp.services()[0].rung;
    (cx, upnp, rung)
}

fn described() -> (Cx, Upnp, Rung) {
    described_with("")
}

#[test]
fn a_device_is_told_with_its_names_and_services() {
    let (_, upnp, _) = described();
    let (device, service) = (&upnp.devices()[0], &upnp.services()[0]);
    let about = device.about.as_ref().expect("it is described");
    assert_eq!((about.friendly_name.as_str(), about.igd_version()), ("Box", Some(2)));
    assert_eq!((service.device, service.named.url.path.as_str()), (device.number, "/ctl"));
    assert!(matches!(device.state, DeviceState::Described { .. }));
}

#[test]
fn a_device_without_a_description_is_told_with_the_reason() {
    let (mut cx, mut upnp, exchange) = heard();
    assert_eq!(upnp.devices()[0].state, DeviceState::Fetching);
    answer(&mut cx, &mut upnp, exchange, 404, "");
    let device = &upnp.devices()[0];
    assert_eq!((device.state, &device.about), (DeviceState::Unknown, &None));
    assert_eq!(device.trouble.expect("a reason").to_string(), "the gateway answers with HTTP status 404");
}

#[test]
fn each_call_is_answered_once_by_its_number() {
    let (mut cx, mut upnp, rung) = described();
    let index = |index: u8| {
        let argument = ("NewPortMappingIndex", index.to_string());
        Action::new("GetGenericPortMappingEntry", Some(argument))
    };
    upnp.call(&mut cx, rung, 11, index(0), Duration::from_secs(5));
    let exchange = connection(&mut cx);
    let body = "<s:Envelope><s:Body><u:GetResponse><NewInternalPort>80</NewInternalPort></u:GetResponse></s:Body></s:Envelope>";
    let request = answer(&mut cx, &mut upnp, exchange, 200, body);
    assert!(request.starts_with("POST /ctl ") && request.contains("<NewPortMappingIndex>0</"), "{request}");
    let (number, reply) = upnp.poll_reply().expect("a reply");
    let values = vec![("NewInternalPort".to_owned(), "80".to_owned())];
    assert_eq!((number, Outcome::read(&reply)), (11, Outcome::Done(values)));
    assert_eq!(upnp.poll_reply(), None);
    cx.outputs.clear();

    // One that has no answer is told as that, when its time is over.
    upnp.call(&mut cx, rung, 12, index(1), Duration::from_secs(5));
    let exchange = connection(&mut cx);
    upnp.handle_tcp_connected(&mut cx, exchange, SocketAddr::new(LOCAL, 40_002));
    cx.now = Time::ZERO + Duration::from_secs(5);
    upnp.handle_timeout(&mut cx);
    assert_eq!(upnp.poll_reply(), Some((12, Err(ExchangeError::TimedOut))));
    upnp.handle_tcp_end(&mut cx, exchange, TcpEnd::Closed);
    assert_eq!(upnp.poll_reply(), None);
}

#[test]
fn a_call_of_the_common_interface_goes_to_its_url() {
    let action = || Action::new("GetTotalBytesSent", None);
    let (mut cx, mut upnp, rung) = described();
    assert!(!upnp.call_common(&mut cx, rung, 1, action(), Duration::from_secs(5)), "there is none");
    assert!(cx.outputs.is_empty());

    let common = "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1";
    let other =
        format!("<service><serviceType>{common}</serviceType><controlURL>/common</controlURL></service>");
    let (mut cx, mut upnp, rung) = described_with(&other);
    assert_eq!(upnp.services().len(), 1, "it is no rung");
    assert!(upnp.call_common(&mut cx, rung, 2, action(), Duration::from_secs(5)));
    let exchange = connection(&mut cx);
    let request = answer(&mut cx, &mut upnp, exchange, 404, "");
    assert!(request.starts_with("POST /common "), "{request}");
    assert!(request.contains(&format!("\"{common}#GetTotalBytesSent\"")), "{request}");
    // Nor is it sent again to the service's URL, which is another.
    let (number, reply) = upnp.poll_reply().expect("a reply");
    assert_eq!((number, Outcome::read(&reply)), (2, Outcome::Status(404)));
    let is_sent = |output: &Output| matches!(output, Output::Connect { .. } | Output::Write { .. });
    assert!(!cx.outputs.iter().any(is_sent));
}
