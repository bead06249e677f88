//! The ports on the command line.

use plum::{Request, Transport};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What `--help` says of it.
pub const HELP: &str = "\
PORT is INTERNAL[/PROTOCOL][:EXTERNAL]: a port of this machine, or a range of them as in 8000-8010; tcp (the default), udp or both; \
and the external port that is wished for (of a range: the first), else the same as the internal one. \
Examples: 8080, 6881/udp, 22/tcp:2222, 27015-27020/both";

/// What `--help` of `unmap` says of it.
pub const HELP_OF_REMOVAL: &str = "\
PORT is INTERNAL[/PROTOCOL][:EXTERNAL]: a port of this machine, or a range of them as in 8000-8010; tcp (the default), udp or both; \
and the external port that is mapped to it (of a range: the first), if it is another. Examples: 8080, 6881/udp:16881, 27015-27020/both";

/// One or more ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    transports: &'static [Transport],
    internal: RangeInclusive<u16>,
    external: Option<u16>,
}

/// One port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub transport: Transport,
    pub internal: u16,
    /// `None`: none is suggested.
    pub external: Option<u16>,
}

impl Spec {
    /// Every port that is meant.
    pub fn ports(&self) -> impl Iterator<Item = Port> {
        let first = *self.internal.start();
        self.internal.clone().flat_map(move |internal| {
            let external = self.external.map(|external| external + (internal - first));
            self.transports.iter().map(move |&transport| Port { transport, internal, external })
        })
    }
}

impl Port {
    /// What the library is asked for.
    pub fn request(self) -> Request {
        Request::new(self.transport, self.internal).external_port(self.external.unwrap_or(0))
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
            Some((ports, protocol)) => match protocol.to_ascii_lowercase().as_str() {
                "tcp" => (ports, &[Transport::Tcp]),
                "udp" => (ports, &[Transport::Udp]),
                "both" => (ports, &[Transport::Tcp, Transport::Udp]),
                _ => return Err(format!("{protocol:?} is none of tcp, udp, both")),
            },
        };
        let internal = match ports.split_once('-') {
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
        Ok(Spec { transports, internal, external })
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => {
            Err(format!("{text:?} is no port: a number from 1 to 65535, as in 8080/tcp or 6881/udp:16881"))
        }
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<(String, Option<u16>)> {
        let spec: Spec = text.parse().expect("a spec");
        spec.ports().map(|port| (port.to_string(), port.external)).collect()
    }

    #[test]
    fn reads_ports_protocols_and_wishes() {
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
    fn refuses_what_is_no_spec() {
        for text in [
            "",
            "0",
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
