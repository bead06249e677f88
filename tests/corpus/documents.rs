//! What UPnP devices send beside HTTP itself: descriptions, SOAP, SSDP.

use crate::index::Row;
use crate::messages;
use plum_wire::http::Url;
use plum_wire::{igd, soap, ssdp};

/// `svcN=TYPE -> URL` facts of the two kinds of services that descriptions are read for.
fn expected_services(row: &Row) -> Vec<igd::Service> {
    (1..9)
        .filter_map(|n| {
            // The fact may hold line feeds around both parts.
            let (service_type, url) = row.fact(&format!("svc{n}"))?.split_once("->").unwrap();
            let url = url.trim();
            let control_url = if url == "(none)" { "" } else { url }.to_owned();
            Some(igd::Service { service_type: service_type.trim().to_owned(), control_url })
        })
        .collect()
}

/// What a service is to us: a kind of [`igd::WanService`], the same of the DSL forum, or nothing.
fn kind(service: &igd::Service) -> String {
    match (service.kind().or(service.firewall_kind()), service.dsl_forum_kind()) {
        (Some(kind), _) => format!("{kind:?}"),
        (None, Some(kind)) => format!("dslforum {kind:?}"),
        (None, None) => "none".to_owned(),
    }
}

/// Checks a description against the facts of its row.
pub fn check_description(row: &Row, bytes: &[u8]) {
    let description = igd::parse(bytes).unwrap_or_else(|_| panic!("{}: malformed", row.file));
    let services = &description.services;
    assert_eq!(*services, expected_services(row), "{}", row.file);
    assert_eq!(description.url_base.as_deref().unwrap_or_default(), row.text("URLBase"), "{}", row.file);
    assert_eq!(description.root_device_type, row.text("rootDeviceType"), "{}", row.file);
    if let Some(name) = row.fact("name") {
        assert_eq!(description.name(), name, "{}", row.file);
    }
    if let Some(kinds) = row.fact("kinds") {
        assert_eq!(services.iter().map(kind).collect::<Vec<_>>().join(", "), kinds, "{}", row.file);
    }
    let location = Url::parse("http://192.0.2.1:5000/desc/root.xml").unwrap();
    let base = description.url_base.as_ref().and_then(|base| location.join(base).ok());
    for (n, service) in services.iter().enumerate().filter(|(_, service)| !service.control_url.is_empty()) {
        let is_upnp = service.service_type.starts_with("urn:schemas-upnp-org:");
        assert_eq!(service.kind().or(service.firewall_kind()).is_some(), is_upnp, "{}", row.file);
        let url = base.as_ref().unwrap_or(&location).join(&service.control_url);
        let url = url.unwrap_or_else(|_| panic!("{}: control URL", row.file));
        assert!(url.path.len() > 1, "{}: {url:?}", row.file);
        if let Some(expected) = row.fact(&format!("url{}", n + 1)) {
            assert_eq!(format!("{}{}", url.address, url.path), expected, "{}", row.file);
        }
    }
}

#[test]
fn descriptions_say_what_the_index_says() {
    for row in messages("igd-desc") {
        check_description(&row, &row.bytes);
        row.assert_all_read();
    }
}

/// Facts that are no argument of an action, though they look like one.
const NO_ARGUMENTS: [&str; 7] =
    ["bodyElement", "xml", "status", "Content-Length", "Transfer-Encoding", "body", "end"];

/// Checks a SOAP reply against the facts of its row.
pub fn check_soap(row: &Row, bytes: &[u8]) {
    let reply = soap::parse(bytes);
    if row.says("refused") {
        assert!(reply.is_err(), "{}: {reply:?}", row.file);
        return;
    }
    let element = row.text("bodyElement");
    let begins = format!("<{element}");
    assert!(element.is_empty() || String::from_utf8_lossy(bytes).contains(&begins), "{}: {begins}", row.file);
    match reply.unwrap_or_else(|_| panic!("{}: malformed", row.file)) {
        soap::Reply::Fault { code, description } => {
            // No fact, or one that is no number, reads as 0.
            assert_eq!(code, row.text("errorCode").parse().unwrap_or(0), "{}", row.file);
            if row.fact("errorDescription").is_some() {
                assert_eq!(description, row.text("errorDescription"), "{}", row.file);
            }
            assert!(element.ends_with("Fault"), "{}", row.file);
        }
        soap::Reply::Response(arguments) => {
            assert!(!element.ends_with("Fault"), "{}", row.file);
            for name in row.names().filter(|name| !NO_ARGUMENTS.contains(name)) {
                // "value [name not spelled so-and-so]"
                let value = row.fact(name).unwrap().split(" [").next().unwrap();
                let value = if value.starts_with('(') { "" } else { value };
                assert_eq!(soap::get(&arguments, name), Some(value), "{}: {name}", row.file);
            }
            if row.fact("NewExternalIPAddress").is_none() && row.fact("newexternalipaddress").is_none() {
                assert_eq!(soap::get(&arguments, "NewExternalIPAddress"), None, "{}", row.file);
            }
        }
    }
}

#[test]
fn soap_replies_say_what_the_index_says() {
    for row in messages("soap") {
        check_soap(&row, &row.bytes);
        row.assert_all_read();
    }
}

#[test]
fn ssdp_messages_say_what_the_index_says() {
    for row in messages("ssdp") {
        let message = ssdp::parse(&row.bytes);
        if row.says("refused") {
            assert!(message.is_err(), "{}: {message:?}", row.file);
            row.assert_all_read();
            continue;
        }
        let start = row.text("start");
        assert!(row.has_line(start), "{}: {start}", row.file);
        let (headers, target) = match message.unwrap_or_else(|_| panic!("{}: malformed", row.file)) {
            ssdp::Message::Reply(headers) => {
                assert!(!start.starts_with("NOTIFY"), "{}", row.file);
                (headers, "ST")
            }
            ssdp::Message::Alive(headers) => {
                assert!(start.starts_with("NOTIFY"), "{}", row.file);
                assert!(["ssdp:alive", ""].contains(&row.text("NTS")), "{}", row.file);
                (headers, "NT")
            }
            ssdp::Message::ByeBye(headers) => {
                assert_eq!(row.text("NTS"), "ssdp:byebye", "{}", row.file);
                (headers, "NT")
            }
        };
        assert_eq!(headers.target, row.text(target), "{}", row.file);
        assert_eq!(headers.usn, row.text("USN"), "{}", row.file);
        assert_eq!(headers.server, row.text("SERVER"), "{}", row.file);
        assert_eq!(headers.location, row.text("LOCATION"), "{}", row.file);
        if row.fact("BOOTID").is_some() {
            assert_eq!(headers.boot_id, row.number("BOOTID"), "{}", row.file);
        }
        let is_unusable = row.says("unusable LOCATION") || headers.location.is_empty();
        assert_eq!(Url::parse(&headers.location).is_err(), is_unusable, "{}", row.file);
        row.assert_all_read();
    }
}

#[test]
fn service_descriptions_are_neither_gateways_nor_soap() {
    for row in messages("scpd") {
        assert!(igd::parse(&row.bytes).is_err(), "{}", row.file);
        assert!(soap::parse(&row.bytes).is_err(), "{}", row.file);
        assert!(row.says("refused") || !row.is_own, "{}", row.file);
        row.assert_all_read();
    }
}
