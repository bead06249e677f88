use super::*;

/// UDA 2.0 §1.3.3, the reply to a search, with the fields of figure 1-9.
const REPLY: &str = "HTTP/1.1 200 OK\r\n\
    CACHE-CONTROL: max-age = 1800\r\n\
    DATE: Mon, 05 Jan 2026 10:00:00 GMT\r\n\
    EXT:\r\n\
    LOCATION: http://192.0.2.1:5000/rootDesc.xml\r\n\
    SERVER: Linux/6.1 UPnP/2.0 example/1.0\r\n\
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
    USN: uuid:1::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
    BOOTID.UPNP.ORG: 7\r\n\
    CONFIGID.UPNP.ORG: 1\r\n\
    \r\n";

fn headers() -> Headers {
    Headers {
        target: "urn:schemas-upnp-org:device:InternetGatewayDevice:1".into(),
        location: "http://192.0.2.1:5000/rootDesc.xml".into(),
        usn: "uuid:1::urn:schemas-upnp-org:device:InternetGatewayDevice:1".into(),
        server: "Linux/6.1 UPnP/2.0 example/1.0".into(),
        boot_id: Some(7),
    }
}

#[test]
fn search_is_written_as_in_the_standard() {
    let search = emit_search("239.255.255.250:1900".parse().unwrap(), "upnp:rootdevice", 1);
    assert_eq!(
        String::from_utf8(search).unwrap(),
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: upnp:rootdevice\r\n\r\n"
    );
}

#[test]
fn search_names_an_ipv6_host_without_its_zone() {
    let to = std::net::SocketAddrV6::new("ff02::c".parse().unwrap(), PORT, 0, 3);
    let search = String::from_utf8(emit_search(to.into(), "upnp:rootdevice", 1)).unwrap();
    assert!(search.contains("\r\nHOST: [ff02::c]:1900\r\n"), "{search}");
}

#[test]
fn reply_is_read_as_in_the_standard() {
    assert_eq!(parse(REPLY.as_bytes()), Ok(Message::Reply(headers())));
}

#[test]
fn notifications_are_told_apart_by_nts() {
    let notify = |nts: &str| {
        let start = format!("NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nNTS: {nts}");
        REPLY.replace("HTTP/1.1 200 OK", &start).replace("ST:", "NT:")
    };
    assert_eq!(parse(notify("ssdp:alive").as_bytes()), Ok(Message::Alive(headers())));
    assert_eq!(parse(notify("SSDP:Alive ").as_bytes()), Ok(Message::Alive(headers())));
    assert_eq!(parse(notify("ssdp:update").as_bytes()), Ok(Message::Alive(headers())));
    assert_eq!(parse(notify("ssdp:byebye").as_bytes()), Ok(Message::ByeBye(headers())));
    assert_eq!(parse(notify("upnp:propchange").as_bytes()), Err(Malformed));
}

#[test]
fn notification_that_lost_its_names_is_alive_if_it_has_a_location() {
    // In the manner of a MiniUPnPd 1.7 whose string table was shifted.
    let text = "NOTIFY * HTTP/1.1\r\nlOCATION: http://192.0.2.1:5000/rootDesc.xml\r\nupnp:rootdevice\r\n\x01-NLS: 1\r\n\r\n";
    let location = headers().location;
    assert_eq!(parse(text.as_bytes()), Ok(Message::Alive(Headers { location, ..Headers::default() })));
}

#[test]
fn reply_may_be_written_sloppily() {
    let sloppy = [
        REPLY.replace("\r\n", "\n"),
        REPLY.to_lowercase().replace("internetgatewaydevice", "InternetGatewayDevice"),
        REPLY.replace(": ", ":"),
        REPLY.replace(": ", " :  \t"),
        REPLY.replace("\r\n", "  \r\n"),
        REPLY.replace(" OK", ""),
        REPLY.replace("HTTP/1.1 200 OK", "HTTP/1.0  200"),
        REPLY.replace("HTTP/1.1 200 OK\r\n", ""),
        REPLY.replace("HTTP/1.1 200 OK", "\r\nHTTP/1.1 200 OK"),
        REPLY.replace("EXT:\r\n", ""),
        REPLY.replace("EXT:", "EXT"),
        REPLY.replace("EXT:", ": nameless\r\nn\u{e4}me: x\r\nnul: a\0b\r\ncr: a\rb\r\nEXT:"),
        REPLY.replace("LOCATION", "LOCATION:\r\nLOCATION"),
        REPLY.replace("LOCATION", "LOCATION.EXAMPLE.ORG: x\r\nSECURELOCATION.UPNP.ORG: y\r\nLocation"),
        REPLY.trim_end().to_owned(),
        format!("{REPLY}LOCATION: http://198.51.100.1/in/the/body\r\n"),
        format!("{REPLY}{REPLY}"),
    ];
    for text in sloppy {
        let Ok(Message::Reply(found)) = parse(text.as_bytes()) else { panic!("refused: {text}") };
        let found = Headers {
            server: headers().server,
            usn: found
                .usn
                .replace("urn:schemas-upnp-org:device:internet", "urn:schemas-upnp-org:device:Internet"),
            location: found.location.replace("rootdesc", "rootDesc"),
            ..found
        };
        assert_eq!(found, headers(), "{text}");
    }
}

#[test]
fn first_of_two_values_counts() {
    let text = REPLY.replace("USN:", "LOCATION: http://198.51.100.1/\r\nUSN:");
    assert_eq!(parse(text.as_bytes()), Ok(Message::Reply(headers())));
}

#[test]
fn missing_fields_are_empty() {
    assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Ok(Message::Reply(Headers::default())));
    let text = REPLY.replace("BOOTID.UPNP.ORG: 7", "BOOTID.UPNP.ORG: 99999999999");
    assert_eq!(parse(text.as_bytes()), Ok(Message::Reply(Headers { boot_id: None, ..headers() })));
}

#[test]
fn control_characters_reach_no_field() {
    let Ok(Message::Reply(found)) = parse(b"HTTP/1.1 200 OK\nSERVER: a\x1b[2Jb\0\x07c\x7f\xff\nST: x\ry\n\n")
    else {
        panic!("refused");
    };
    assert_eq!(found.server, "a [2Jb  c \u{fffd}");
    assert_eq!(found.target, "x y");
}

#[test]
fn anything_else_is_malformed() {
    let refused = [
        "",
        "\r\n\r\n",
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nLOCATION: http://192.0.2.1/\r\n\r\n",
        "HTTP/1.1 OK\r\nLOCATION: http://192.0.2.1/\r\n\r\n",
        "GET / HTTP/1.1\r\nLOCATION: http://192.0.2.1/\r\n\r\n",
        "ST: upnp:rootdevice\r\n\r\n",
        "LOCATION: http://192.0.2.1/\r\n\r\n",
        "NOTIFY * HTTP/1.1\r\n\r\n",
    ];
    for text in refused {
        assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text}");
    }
}

#[test]
fn fields_beyond_the_limit_are_ignored() {
    let many = "X: y\r\n".repeat(10_000);
    let text = REPLY.replace("\r\n\r\n", &format!("\r\n{many}\r\n"));
    assert_eq!(parse(text.as_bytes()), Ok(Message::Reply(headers())));
}
