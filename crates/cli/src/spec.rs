//! The ports on the command line.

use crate::free_port;
use plum::{Request, Transport};
use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What `--help` says of it.
pub const HELP: &str = "\
PORT is INTERNAL[/TRANSPORT][:EXTERNAL]: a port of this machine, or a range of them as in 8000-8010; tcp (the default), udp or both; \
and the external port that is wished for (of a range: the first), else the same as the internal one. TCP and UDP of /both get one \
external port, unless the gateway never gives one for the two, which is said then. INTERNAL may be 0: a port of this machine that is free \
is chosen, and another if the gateway gives another external port, so that both are the same. \
Examples: 8080, 6881/udp, 22/tcp:2222, 27015-27020/both, 0/both";

/// What `--help` of `unmap` says of it.
pub const HELP_OF_REMOVAL: &str = "\
PORT is INTERNAL[/TRANSPORT][:EXTERNAL]: a port of this machine, or a range of them as in 8000-8010; tcp (the default), udp or both; \
and the external port that is mapped to it (of a range: the first), if it is another. Examples: 8080, 6881/udp:16881, 27015-27020/both";

/// One or more ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    transports: &'static [Transport],
    /// From 0 to 0: one that is to be chosen.
    internal: RangeInclusive<u16>,
    external: Option<u16>,
    is_chosen: bool,
}

/// The IP version of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    /// A pinhole to an address of this machine; unspecified: to one that the library chooses.
    Ipv6(Ipv6Addr),
}

/// One port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub transport: Transport,
    pub internal: u16,
    /// `None`: none is suggested.
    pub external: Option<u16>,
    pub family: Family,
    /// The other transport is to have the same external port.
    pub is_paired: bool,
    /// The internal port was not named: it is to be the same as the external one.
    pub is_chosen: bool,
}

impl Spec {
    /// Every port that is meant.
    pub fn ports(&self) -> impl Iterator<Item = Port> {
        let first = *self.internal.start();
        self.internal.clone().flat_map(move |internal| {
            let external = self.external.map(|external| external + (internal - first));
            self.transports.iter().map(move |&transport| Port {
                transport,
                internal,
                external,
                is_paired: self.transports.len() > 1,
                is_chosen: self.is_chosen,
                ..Port::new(transport, internal)
            })
        })
    }
}

impl Spec {
    fn names_no_port(&self) -> bool {
        self.internal == (0..=0)
    }

    /// With a port that is free on this machine, and none of `named`, where none is named: the wished external one, if it can be.
    pub fn with_chosen_port(&self, named: &[u16]) -> io::Result<Spec> {
        if !self.names_no_port() {
            return Ok(self.clone());
        }
        let can_be = |port: u16| !named.contains(&port);
        let is_free =
            |&port: &u16| can_be(port) && self.transports.iter().all(|&t| free_port::is_free(t, port));
        let port = match self.external.filter(is_free) {
            Some(port) => port,
            None => free_port::find(self.transports, can_be)?,
        };
        Ok(Spec { internal: port..=port, is_chosen: true, ..self.clone() })
    }
}

/// What `unmap` removes has a port.
pub fn parse_removal(text: &str) -> Result<Spec, String> {
    let spec: Spec = text.parse()?;
    if spec.names_no_port() { Err(no_port("0")) } else { Ok(spec) }
}

impl Port {
    /// This port, of IPv4, with no wish.
    pub fn new(transport: Transport, internal: u16) -> Port {
        Port { transport, internal, external: None, family: Family::Ipv4, is_paired: false, is_chosen: false }
    }

    /// What the library is asked for.
    pub fn request(self) -> Request {
        let request = Request::new(self.transport, self.internal).external_port(self.external.unwrap_or(0));
        match self.family {
            Family::Ipv4 => request,
            Family::Ipv6(address) => request.ipv6_address(address),
        }
    }

    pub fn is_ipv6(self) -> bool {
        matches!(self.family, Family::Ipv6(_))
    }

    /// The external port that is meant.
    pub fn external_or_same(self) -> u16 {
        self.external.unwrap_or(self.internal)
    }
}

/// As in `8080/tcp`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.internal, transport_name(self.transport)))
    }
}

/// `tcp` or `udp`.
pub fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        let (internal, external) = match text.split_once(':') {
            Some((internal, external)) => (internal, Some(parse_port(external)?)),
            None => (text, None),
        };
        let (ports, transports): (&str, &[Transport]) = match internal.split_once('/') {
            None => (internal, &[Transport::Tcp]),
            Some((ports, transport)) => match transport.to_ascii_lowercase().as_str() {
                "tcp" => (ports, &[Transport::Tcp]),
                "udp" => (ports, &[Transport::Udp]),
                "both" => (ports, &[Transport::Tcp, Transport::Udp]),
                _ => return Err(format!("{transport:?} is none of tcp, udp, both")),
            },
        };
        let internal = match ports.split_once('-') {
            None if ports == "0" => 0..=0,
            None => {
                let port = parse_port(ports)?;
                port..=port
            }
            Some((first, last)) => parse_port(first)?..=parse_port(last)?,
        };
        if internal.is_empty() {
            return Err(format!(
                "{ports:?} ends before it begins: write the lower port first, as in 8000-8010"
            ));
        }
        if let Some(external) = external
            && external.checked_add(internal.end() - internal.start()).is_none()
        {
            return Err(format!("there are too few external ports from {external} on"));
        }
        Ok(Spec { transports, internal, external, is_chosen: false })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(no_port(text)),
        Ok(port) => Ok(port),
    }
}

fn no_port(text: &str) -> String {
    format!("{text:?} is no port: a number from 1 to 65535, as in 8080/tcp or 6881/udp:16881")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<(String, Option<u16>)> {
        let spec: Spec = text.parse().expect("a spec");
        spec.ports().map(|port| (port.to_string(), port.external)).collect()
    }

    #[test]
    fn reads_ports_transports_and_wishes() {
        assert_eq!(ports("8080"), [("8080/tcp".into(), None)]);
        assert_eq!(ports("8080/udp"), [("8080/udp".into(), None)]);
        assert_eq!(ports("22:2222"), [("22/tcp".into(), Some(2222))]);
        assert_eq!(ports("53/BOTH:5353"), [("53/tcp".into(), Some(5353)), ("53/udp".into(), Some(5353))]);
    }

    #[test]
    fn reads_ranges() {
        assert_eq!(
            ports("8000-8002/udp:9000"),
            [
                ("8000/udp".into(), Some(9000)),
                ("8001/udp".into(), Some(9001)),
                ("8002/udp".into(), Some(9002))
            ]
        );
        assert_eq!(ports("65535-65535:65535"), [("65535/tcp".into(), Some(65535))]);
        assert_eq!(ports("1-65535/both").len(), 131_070);
    }

    #[test]
    fn a_port_that_is_not_named_is_chosen() {
        let spec: Spec = "0/both".parse().expect("a spec");
        let chosen = spec.with_chosen_port(&[]).expect("one is free");
        let ports: Vec<Port> = chosen.ports().collect();
        assert!(ports.len() == 2 && ports[0].internal == ports[1].internal && ports[0].internal != 0);
        assert!(ports.iter().all(|port| port.is_chosen && port.is_paired && port.external.is_none()));

        let wished = format!("0/udp:{}", ports[0].internal).parse::<Spec>().expect("a spec");
        let port_of = |spec: Spec| spec.ports().next().expect("a port").internal;
        assert_eq!(port_of(wished.with_chosen_port(&[]).expect("it is free")), ports[0].internal);
        let named = [ports[0].internal];
        assert_ne!(port_of(wished.with_chosen_port(&named).expect("another is free")), ports[0].internal);
        let named: Spec = "80".parse().expect("a spec");
        assert_eq!(named.with_chosen_port(&[]).expect("it is named"), named);
        assert!(parse_removal("0/udp").is_err() && parse_removal("80").is_ok());
    }

    #[test]
    fn refuses_what_is_no_spec() {
        for text in [
            "",
            "00",
            "0-5",
            "5-0",
            "65536",
            "-1",
            "http",
            "80/",
            "80/sctp",
            "80:",
            "80:0",
            "80-",
            "-80",
            "90-80",
            "80-81:65535",
            "80/tcp/udp",
            "80:81:82",
            " 80",
        ] {
            assert!(text.parse::<Spec>().is_err(), "{text:?}");
        }
    }
}
