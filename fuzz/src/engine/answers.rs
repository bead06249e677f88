//! Answers that the simulated gateway would not give: right in form, with any values.

use super::machine::{GATEWAY, Input, Machine};
use super::operations::{SOCKETS, address, raw, source};
use arbitrary::{Result, Unstructured};
use plum_engine::io::Socket;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Lifetimes that matter, in seconds.
const LIFETIMES: [u32; 12] = [7200, 0, 1, 2, 4, 10, 30, 120, 3600, 86_400, 86_401, u32::MAX];

fn lifetime(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(LIFETIMES[usize::from(u.arbitrary::<u8>()?) % LIFETIMES.len()])
}

/// A datagram in the form of an answer to one of the last requests, or of an announcement.
pub fn send(machine: &mut Machine, u: &mut Unstructured<'_>) -> Result<()> {
    let socket = SOCKETS[usize::from(u.arbitrary::<u8>()?) % SOCKETS.len()];
    let which: u8 = u.arbitrary()?;
    let result: u8 = u.arbitrary()?;
    let epoch = machine.gateway().epoch().wrapping_add_signed(u.arbitrary::<i8>()?.into());
    match socket {
        Socket::Pcp => {
            let Some(mut bytes) = machine.request(socket, which.into()) else { return Ok(()) };
            bytes[1] |= 0x80;
            bytes[2..8].copy_from_slice(&[&[0, result][..], &lifetime(u)?.to_be_bytes()].concat());
            bytes[8..12].copy_from_slice(&epoch.to_be_bytes());
            bytes[12..24].fill(0);
            if bytes.len() >= 60 {
                bytes[42..44].copy_from_slice(&u.arbitrary::<[u8; 2]>()?);
                let address = match address(u)? {
                    Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
                    Some(IpAddr::V6(address)) => address.octets(),
                    None => [0; 16],
                };
                bytes[44..60].copy_from_slice(&address);
            }
            machine.datagram(socket, SocketAddr::new(GATEWAY, 5351), bytes);
        }
        Socket::NatPmp => {
            let Some(request) = machine.request(socket, which.into()) else { return Ok(()) };
            let mut bytes = vec![0, request[1] | 0x80, 0, result];
            bytes.extend(epoch.to_be_bytes());
            if request.len() >= 12 {
                bytes.extend(&request[4..6]);
                bytes.extend(u.arbitrary::<[u8; 2]>()?);
                bytes.extend(lifetime(u)?.to_be_bytes());
            } else {
                bytes.extend(ipv4(u)?.octets());
            }
            machine.datagram(socket, SocketAddr::new(GATEWAY, 5351), bytes);
        }
        Socket::Announcements => {
            let mut bytes = match result & 1 {
                0 => vec![2, 0x80, 0, 0, 0, 0, 0, 0],
                _ => vec![0, 128, 0, 0],
            };
            bytes.extend(epoch.to_be_bytes());
            match result & 1 {
                0 => bytes.extend([0; 12]),
                _ => bytes.extend(ipv4(u)?.octets()),
            }
            let from = source(u)?;
            machine.datagram(socket, from, bytes);
        }
        Socket::Ssdp | Socket::Notifications => {
            let from = source(u)?;
            let location = location(u, from)?;
            let bytes = ssdp(socket, result, which, &location);
            machine.datagram(socket, from, bytes);
        }
        Socket::LinkSsdp | Socket::Ipv4Ssdp => {}
    }
    Ok(())
}

fn ipv4(u: &mut Unstructured<'_>) -> Result<Ipv4Addr> {
    Ok(match address(u)? {
        Some(IpAddr::V4(address)) => address,
        _ => Ipv4Addr::UNSPECIFIED,
    })
}

/// A URL that leads to a description, or should not be followed.
fn location(u: &mut Unstructured<'_>, from: SocketAddr) -> Result<String> {
    let host = from.ip();
    Ok(match u.arbitrary::<u8>()? % 12 {
        0 | 1 => format!("http://{GATEWAY}:5000/rootDesc.xml"),
        2 | 3 => format!("http://{host}:5000/rootDesc.xml"),
        4 => format!("http://{host}/"),
        5 => format!("http://{GATEWAY}:{}/x", u.arbitrary::<u16>()?),
        6 => "http://127.0.0.1:80/".into(),
        7 => "file:///etc/passwd".into(),
        8 => format!("https://{host}/"),
        9 => format!("http://user@{host}/"),
        10 => "http://192.168.1.9:5000/rootDesc.xml".into(),
        _ => String::from_utf8_lossy(&raw(u)?).into_owned(),
    })
}

fn ssdp(socket: Socket, kind: u8, usn: u8, location: &str) -> Vec<u8> {
    let target = match kind & 3 {
        0 => "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
        1 => "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
        2 => "urn:schemas-upnp-org:service:WANIPConnection:1",
        _ => "upnp:rootdevice",
    };
    let (start, name) = match socket {
        Socket::Ssdp => ("HTTP/1.1 200 OK", "ST"),
        _ if kind & 4 == 0 => ("NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive", "NT"),
        _ => ("NOTIFY * HTTP/1.1\r\nNTS: ssdp:byebye", "NT"),
    };
    format!(
        "{start}\r\n{name}: {target}\r\nUSN: uuid:{usn}::{target}\r\nLOCATION: {location}\r\nBOOTID.UPNP.ORG: {}\r\n\r\n",
        kind >> 3
    )
    .into_bytes()
}

/// Many SSDP answers, each of another device at its own address; or a body that does not end.
pub fn flood(machine: &mut Machine, which: u8, count: u32) {
    for n in 0..count {
        if machine.has_finished() || !machine.may_step() {
            return;
        }
        if which & 1 == 0 {
            let [.., high, low] = n.to_be_bytes();
            let from = SocketAddr::new(Ipv4Addr::new(192, 168, high.wrapping_add(1), low).into(), 1900);
            let location = format!("http://{}:5000/rootDesc.xml", from.ip());
            machine.datagram(Socket::Ssdp, from, ssdp(Socket::Ssdp, which >> 1, low, &location));
        } else if let Some((exchange, true)) = machine.exchange(usize::from(which >> 1)) {
            machine.hand_over(Input::TcpData { exchange, bytes: vec![b'x'; 4096] });
        }
    }
}

/// An HTTP reply on an established connection, at once or in two pieces.
pub fn send_http(machine: &mut Machine, u: &mut Unstructured<'_>) -> Result<()> {
    let which: u8 = u.arbitrary()?;
    let status = [200, 500, 200, 404, 301, 302, 100, 401][usize::from(u.arbitrary::<u8>()?) % 8];
    let framing: u8 = u.arbitrary()?;
    let body = body(u)?;
    let Some((exchange, true)) = machine.exchange(which.into()) else { return Ok(()) };
    let mut bytes = format!("HTTP/1.1 {status} Whatever\r\n").into_bytes();
    match framing & 7 {
        0..=2 => bytes.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()),
        3 => bytes.extend(format!("\r\n{body}").as_bytes()),
        4 => {
            let head = "Transfer-Encoding: chunked\r\n\r\n";
            bytes.extend(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
        }
        5 => bytes.extend(format!("Location: {body}\r\nContent-Length: 0\r\n\r\n").as_bytes()),
        6 => bytes.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len() / 2).as_bytes()),
        _ => bytes.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len() + 9).as_bytes()),
    }
    let cut = if framing & 8 == 0 { bytes.len() } else { bytes.len() / 2 };
    let second = bytes.split_off(cut);
    machine.hand_over(Input::TcpData { exchange, bytes });
    // The first piece may have been all that was waited for.
    if !second.is_empty() && machine.exchange_is_open(exchange) {
        machine.hand_over(Input::TcpData { exchange, bytes: second });
    }
    Ok(())
}

fn body(u: &mut Unstructured<'_>) -> Result<String> {
    let response = |action: &str, arguments: &[(&str, String)]| {
        let mut text = format!("<s:Envelope><s:Body><u:{action}Response>");
        for (name, value) in arguments {
            // Writing to a String cannot fail.
            let _ = write!(text, "<{name}>{value}</{name}>");
        }
        text + &format!("</u:{action}Response></s:Body></s:Envelope>")
    };
    Ok(match u.arbitrary::<u8>()? % 10 {
        0 => String::new(),
        1 => {
            let code = [501, 402, 606, 714, 718, 724, 725, 727, 728, 729, 732, 401, 402, 0, 10, 65_535];
            let code = code[usize::from(u.arbitrary::<u8>()?) % code.len()];
            format!(
                "<s:Envelope><s:Fault><UPnPError><errorCode>{code}</errorCode></UPnPError></s:Fault></s:Envelope>"
            )
        }
        2 => {
            let address = address(u)?.map_or(String::new(), |address| address.to_string());
            response("GetExternalIPAddress", &[("NewExternalIPAddress", address)])
        }
        3 => {
            let client = address(u)?.map_or(String::new(), |address| address.to_string());
            let port = u16::from(u.arbitrary::<u8>()? % 4) + 8000;
            let lease = lifetime(u)?.to_string();
            let arguments = [
                ("NewInternalPort", port.to_string()),
                ("NewInternalClient", client),
                ("NewEnabled", "1".into()),
                ("NewPortMappingDescription", "libplum".into()),
                ("NewLeaseDuration", lease),
            ];
            response("GetSpecificPortMappingEntry", &arguments)
        }
        4 => response("AddAnyPortMapping", &[("NewReservedPort", u.arbitrary::<u16>()?.to_string())]),
        5 => response("AddPortMapping", &[]),
        6 => {
            let status = ["Connected", "Up", "Disconnected", ""][usize::from(u.arbitrary::<u8>()?) % 4];
            response("GetStatusInfo", &[("NewConnectionStatus", status.into())])
        }
        7 => {
            let kinds: [u8; 2] = u.arbitrary()?;
            let base = if kinds[0] & 0x40 == 0 { "" } else { "<URLBase>http://192.168.1.1:5000/</URLBase>" };
            let service = |kind: u8| {
                let name = ["WANIPConnection:1", "WANIPConnection:2", "WANPPPConnection:1"]
                    [usize::from(kind & 3) % 3];
                let url =
                    ["/ctl", "ctl/1", "http://192.168.1.1:5000/ctl/0", "http://192.168.1.9/", "//evil/x", ""];
                let url = url[usize::from(kind >> 2) % url.len()];
                format!(
                    "<service><serviceType>urn:schemas-upnp-org:service:{name}</serviceType>\
                     <controlURL>{url}</controlURL></service>"
                )
            };
            let services: String = kinds.into_iter().map(service).collect();
            format!("<root>{base}<device><deviceType>urn:x</deviceType>{services}</device></root>")
        }
        _ => String::from_utf8_lossy(&raw(u)?).into_owned(),
    })
}
