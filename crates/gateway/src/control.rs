//! The command language of the gateway, for scripts and command lines: one command in each line.

use crate::core::{
    AssignedPort, Chance, Faults, Framing, Gateway, Junk, Kind, Refusal, Spoken, Times, Transport,
    WrongSource,
};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// All commands.
pub const HELP: &str = "\
restart                           restart, keeping the mappings
restart-without-memory            restart with an empty table
announce                          announce epoch and address by multicast
notify alive|byebye               SSDP NOTIFY
table                             print the mappings
counts                            print what was received
reset-counts                      start counting anew
complaints                        print what was wrong with requests
occupy tcp|udp PORT ADDR:PORT     take an external port for somebody else
arrive tcp|udp ADDR:PORT ADDR:PORT            a packet from outside to an IPv6 client: print passed or stopped
silence pcp|natpmp|ssdp|http [TIMES]          do not answer
close pcp|natpmp|ssdp|http|all    close a port (UDP 5351 only with both pcp and natpmp)
open pcp|natpmp|ssdp|http|all     open it again
natpmp-only [0|1|2]               PCP gets UNSUPP_VERSION in an answer of this version (default 0)
pcp-only                          NAT-PMP gets UNSUPP_VERSION
refuse KIND CODE [port PORT] [lifetime SECS] [TIMES]
                                  an error; KIND: pcp-map, pcp-delete, pcp-announce, natpmp-address, natpmp-map,
                                  natpmp-delete, http-description, or a UPnP action such as AddPortMapping
set delay SPAN                    what every answer takes: 20ms, 1.5s
set loss|loss-requests|loss-replies PROBABILITY
set duplicate|duplicate-requests|duplicate-replies PROBABILITY
set reorder PROBABILITY SPAN      hold answers back
set lifetime|max-lifetime SECS|off
set assigned-port as-suggested|+N|PORT
set external-address ADDR         and announce it
set external-address-text TEXT|off            what GetExternalIPAddress says
set epoch SECS
set wrong-nonce|wrong-internal-port TIMES
set wrong-source port|ADDR|off
set junk before|after|instead|none
set location|redirect URL|off
set framing content-length|chunked|until-close|too-long N|too-short N
set dribble OCTETS SPAN|off       HTTP answers piece by piece
set stall-after OCTETS|off
set http-junk|hang-up TIMES
set soap-status CODE|off          answer actions with this HTTP status
set max-connections N|off
set keep-open|epoch-survives-restart|permanent-leases-only|same-ports-only|no-add-any on|off
set tables-apart|deletes-as-miniupnpd on|off    what deletions by PCP and NAT-PMP reach
set firewall-enabled|inbound-pinhole-allowed on|off    of IPv6; off: error 702, error 703
set nonce-guards-deletion-only on|off         PCP MAP with another nonce renews a pinhole
no-faults                         as at the start
help                              this
quit                              end (with --control)
TIMES: always, never, or a number";

/// Executes one command; returns its output, without the last line break.
///
/// # Errors
/// The command is invalid: a sentence that says why. Nothing has changed.
pub fn carry_out(gateway: &mut Gateway, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [] => {}
        ["restart"] => gateway.restart(true),
        ["restart-without-memory"] => gateway.restart(false),
        ["announce"] => gateway.announce(),
        ["notify", "alive"] => gateway.notify(true),
        ["notify", "byebye"] => gateway.notify(false),
        ["table"] => return Ok(table(gateway)),
        ["counts"] => return Ok(gateway.counts.to_string()),
        ["reset-counts"] => gateway.counts.reset(),
        ["complaints"] => return Ok(gateway.complaints().collect::<Vec<_>>().join("\n")),
        ["help"] => return Ok(HELP.into()),
        ["no-faults"] => gateway.faults = Faults::default(),
        ["occupy", transport, port, internal] => {
            let transport = Transport::parse(transport).ok_or("the transport is tcp or udp")?;
            gateway.occupy(transport, parse(port)?, parse::<SocketAddr>(internal)?);
        }
        ["arrive", transport, from, to] => {
            let transport = Transport::parse(transport).ok_or("the transport is tcp or udp")?;
            let passed = gateway.pinholes_mut().let_in(transport, parse(from)?, parse(to)?);
            return Ok(if passed { "passed" } else { "stopped" }.into());
        }
        ["set", "external-address", address] => {
            gateway.set_external_address(parse::<Ipv4Addr>(address)?, true);
        }
        ["set", "epoch", secs] => gateway.set_epoch(parse(secs)?),
        ["set", name, ref values @ ..] => set(&mut gateway.faults, name, values)?,
        _ => fault(&mut gateway.faults, line, &words)?,
    }
    Ok(String::new())
}

fn fault(faults: &mut Faults, line: &str, words: &[&str]) -> Result<(), String> {
    match *words {
        ["silence", protocol, ref times @ ..] => {
            let times = parse_times(times)?;
            match protocol {
                "pcp" => faults.silence.pcp = times,
                "natpmp" => faults.silence.natpmp = times,
                "ssdp" => faults.silence.ssdp = times,
                "http" => faults.silence.http = times,
                _ => return Err(format!("{protocol} is none of pcp, natpmp, ssdp, http")),
            }
        }
        [verb @ ("close" | "open"), port] => {
            let closed = verb == "close";
            let known = ["pcp", "natpmp", "ssdp", "http", "all"];
            if !known.contains(&port) {
                return Err(format!("{port} is none of {}", known.join(", ")));
            }
            let ports = &mut faults.closed;
            for (name, field) in [
                ("pcp", &mut ports.pcp),
                ("natpmp", &mut ports.natpmp),
                ("ssdp", &mut ports.ssdp),
                ("http", &mut ports.http),
            ] {
                if port == name || port == "all" {
                    *field = closed;
                }
            }
        }
        ["natpmp-only"] => faults.pcp = Spoken::UnsuppVersion(0),
        ["natpmp-only", version @ ("0" | "1" | "2")] => faults.pcp = Spoken::UnsuppVersion(parse(version)?),
        ["pcp-only"] => faults.natpmp = Spoken::UnsuppVersion(2),
        ["refuse", kind, code, ref rest @ ..] => {
            let kind = Kind::parse(kind).ok_or_else(|| format!("there is no request called {kind}"))?;
            let mut refusal =
                Refusal { kind, port: None, code: parse(code)?, lifetime: 30, times: Times::Always };
            let mut rest = rest;
            loop {
                rest = match *rest {
                    [] => break,
                    ["port", port, ref after @ ..] => {
                        refusal.port = Some(parse(port)?);
                        after
                    }
                    ["lifetime", secs, ref after @ ..] => {
                        refusal.lifetime = parse(secs)?;
                        after
                    }
                    [_, ref after @ ..] => {
                        refusal.times = parse_times(&rest[..1])?;
                        after
                    }
                };
            }
            faults.refuse_some(refusal);
        }
        _ => return Err(format!("not a command: {line:?} (try help)")),
    }
    Ok(())
}

fn set(faults: &mut Faults, name: &str, values: &[&str]) -> Result<(), String> {
    let http = &mut faults.http;
    match (name, values) {
        ("delay", [span]) => faults.delay = parse_span(span)?,
        ("loss", [p]) => faults.loss = Chance::both(parse_probability(p)?),
        ("loss-requests", [p]) => faults.loss.requests = parse_probability(p)?,
        ("loss-replies", [p]) => faults.loss.replies = parse_probability(p)?,
        ("duplicate", [p]) => faults.duplicate = Chance::both(parse_probability(p)?),
        ("duplicate-requests", [p]) => faults.duplicate.requests = parse_probability(p)?,
        ("duplicate-replies", [p]) => faults.duplicate.replies = parse_probability(p)?,
        ("reorder", [p, span]) => {
            (faults.reorder, faults.reorder_by) = (parse_probability(p)?, parse_span(span)?);
        }
        ("lifetime", [secs]) => faults.lifetime = parse_or_off(secs)?,
        ("max-lifetime", [secs]) => faults.max_lifetime = parse_or_off(secs)?,
        ("assigned-port", ["as-suggested"]) => faults.assigned_port = AssignedPort::AsSuggested,
        ("assigned-port", [port]) => {
            faults.assigned_port = match port.strip_prefix('+') {
                Some(offset) => AssignedPort::Offset(parse(offset)?),
                None => AssignedPort::Exactly(parse(port)?),
            }
        }
        ("external-address-text", [text]) => faults.external_address_text = parse_or_off(text)?,
        ("wrong-nonce", times) => faults.wrong_nonce = parse_times(times)?,
        ("wrong-internal-port", times) => faults.wrong_internal_port = parse_times(times)?,
        ("wrong-source", ["off"]) => faults.wrong_source = None,
        ("wrong-source", ["port"]) => faults.wrong_source = Some(WrongSource::Port),
        ("wrong-source", [address]) => {
            faults.wrong_source = Some(WrongSource::Address(parse::<IpAddr>(address)?));
        }
        ("junk", ["none"]) => faults.junk = Junk::None,
        ("junk", ["before"]) => faults.junk = Junk::Before,
        ("junk", ["after"]) => faults.junk = Junk::After,
        ("junk", ["instead"]) => faults.junk = Junk::Instead,
        ("location", [url]) => faults.location = parse_or_off(url)?,
        ("redirect", [url]) => http.redirect = parse_or_off(url)?,
        ("framing", ["content-length"]) => http.framing = Framing::ContentLength,
        ("framing", ["chunked"]) => http.framing = Framing::Chunked,
        ("framing", ["until-close"]) => http.framing = Framing::UntilClose,
        ("framing", ["too-long", n]) => http.framing = Framing::TooLong(parse(n)?),
        ("framing", ["too-short", n]) => http.framing = Framing::TooShort(parse(n)?),
        ("dribble", ["off"]) => http.dribble = None,
        ("dribble", [octets, span]) => http.dribble = Some((parse(octets)?, parse_span(span)?)),
        ("stall-after", [octets]) => http.stall_after = parse_or_off(octets)?,
        ("http-junk", times) => http.junk = parse_times(times)?,
        ("hang-up", times) => http.hang_up = parse_times(times)?,
        ("soap-status", [code]) => http.soap_status = parse_or_off(code)?,
        ("max-connections", [n]) => http.max_connections = parse_or_off(n)?,
        (_, [value]) => set_switch(faults, name, value)?,
        _ => return Err(cannot_set(name, values)),
    }
    Ok(())
}

fn set_switch(faults: &mut Faults, name: &str, value: &str) -> Result<(), String> {
    let switch = match name {
        "keep-open" => &mut faults.http.keep_open,
        "epoch-survives-restart" => &mut faults.epoch_survives_restart,
        "permanent-leases-only" => &mut faults.permanent_leases_only,
        "same-ports-only" => &mut faults.same_ports_only,
        "tables-apart" => &mut faults.tables_apart,
        "deletes-as-miniupnpd" => &mut faults.deletes_as_miniupnpd,
        "no-add-any" => &mut faults.no_add_any,
        "nonce-guards-deletion-only" => &mut faults.nonce_guards_deletion_only,
        "firewall-enabled" => {
            faults.firewall_disabled = !parse_switch(value)?;
            return Ok(());
        }
        "inbound-pinhole-allowed" => {
            faults.inbound_pinholes_forbidden = !parse_switch(value)?;
            return Ok(());
        }
        _ => return Err(cannot_set(name, &[value])),
    };
    *switch = parse_switch(value)?;
    Ok(())
}

fn cannot_set(name: &str, values: &[&str]) -> String {
    format!("cannot set {name} to {:?} (try help)", values.join(" "))
}

fn table(gateway: &Gateway) -> String {
    let mut text = String::new();
    for m in gateway.table().iter() {
        let (transport, port) = (m.transport.name(), m.external_port);
        let until = m.expires_at.map_or_else(|| "never".into(), |at| format!("{:.0}s", at.as_secs_f64()));
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{transport} {port} {} {:?} until {until}", m.internal, m.made_by);
    }
    for pinhole in gateway.pinholes().iter() {
        let key = &pinhole.key;
        let client = SocketAddr::from((key.client, key.port));
        let from = match (key.remote_host.as_str(), key.remote_port) {
            ("", 0) => String::new(),
            (host, port) => format!(" from [{host}]:{port}"),
        };
        let _ = writeln!(
            text,
            "{} pinhole {} {client}{from} {:?} until {:.0}s",
            key.transport.name(),
            pinhole.id,
            pinhole.made_by,
            pinhole.expires_at.as_secs_f64()
        );
    }
    text.truncate(text.trim_end().len());
    text
}

fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no {}", std::any::type_name::<T>()))
}

fn parse_or_off<T: FromStr>(text: &str) -> Result<Option<T>, String> {
    if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{text:?} is neither on nor off")),
    }
}

fn parse_probability(text: &str) -> Result<f64, String> {
    let value: f64 = parse(text)?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(format!("{text} is not between 0 and 1")) }
}

/// `always` (also nothing at all), `never` or a number.
fn parse_times(words: &[&str]) -> Result<Times, String> {
    match words {
        [] | ["always"] => Ok(Times::Always),
        ["never"] => Ok(Times::Never),
        [number] => Ok(Times::Next(parse(number)?)),
        _ => Err(format!("{:?} is none of always, never, a number", words.join(" "))),
    }
}

/// `20ms`, `1.5s`, `250us`; at most a day.
fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no span of time such as 20ms or 1.5s");
    let units = [("ms", 1e-3), ("us", 1e-6), ("s", 1.0)];
    let (number, unit) =
        units.iter().find_map(|&(name, unit)| Some((text.strip_suffix(name)?, unit))).ok_or_else(wrong)?;
    let secs = number.parse::<f64>().map_err(|_| wrong())? * unit;
    if (0.0..=86_400.0).contains(&secs) { Ok(Duration::from_secs_f64(secs)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Action, Config, PinholeKey, Protocol};

    fn gateway() -> Gateway {
        Gateway::new(Config::at(IpAddr::from([192, 168, 1, 1])), Duration::ZERO)
    }

    #[test]
    fn commands_set_the_faults_they_name() {
        let mut gateway = gateway();
        for line in [
            "set loss 0.3",
            "set delay 20ms",
            "  silence   pcp  ",
            "silence ssdp 3",
            "close natpmp",
            "natpmp-only 1",
            "refuse pcp-map 8 port 8000 lifetime 60 2",
            "refuse AddPortMapping 725",
            "set reorder 0.5 10ms",
            "set assigned-port +10",
            "set lifetime 0",
            "set wrong-source 127.0.0.9",
            "set framing too-long 10",
            "set dribble 1 250us",
            "set location http://evil/",
            "set keep-open on",
            "set tables-apart on",
            "set deletes-as-miniupnpd on",
            "set firewall-enabled off",
            "set inbound-pinhole-allowed off",
            "set nonce-guards-deletion-only on",
            "refuse AddPinhole 403",
        ] {
            assert_eq!(carry_out(&mut gateway, line), Ok(String::new()), "{line}");
        }
        let mut expected = Faults {
            loss: Chance::both(0.3),
            delay: Duration::from_millis(20),
            pcp: Spoken::UnsuppVersion(1),
            reorder: 0.5,
            reorder_by: Duration::from_millis(10),
            assigned_port: AssignedPort::Offset(10),
            lifetime: Some(0),
            wrong_source: Some(WrongSource::Address(IpAddr::from([127, 0, 0, 9]))),
            location: Some("http://evil/".into()),
            tables_apart: true,
            deletes_as_miniupnpd: true,
            firewall_disabled: true,
            inbound_pinholes_forbidden: true,
            nonce_guards_deletion_only: true,
            ..Faults::default()
        };
        expected.silence.pcp = Times::Always;
        expected.silence.ssdp = Times::Next(3);
        expected.closed.natpmp = true;
        expected.http.framing = Framing::TooLong(10);
        expected.http.dribble = Some((1, Duration::from_micros(250)));
        expected.http.keep_open = true;
        let (kind, times) = (Kind::PcpMap, Times::Next(2));
        expected.refuse_some(Refusal { kind, port: Some(8000), code: 8, lifetime: 60, times });
        expected.refuse(Kind::Soap(Action::AddPortMapping), 725);
        expected.refuse(Kind::Soap(Action::AddPinhole), 403);
        assert_eq!(gateway.faults, expected);
        carry_out(&mut gateway, "no-faults").expect("a command");
        assert_eq!(gateway.faults, Faults::default());
    }

    #[test]
    fn commands_of_the_readme_are_understood() {
        let mut gateway = gateway();
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("<!-- commands -->\n```\n").expect("the list");
        let (commands, _) = rest.split_once("```").expect("its end");
        for line in commands.lines() {
            assert!(carry_out(&mut gateway, line).is_ok(), "{line}");
        }
        assert_eq!(commands.lines().count(), 23);
    }

    #[test]
    fn what_is_no_command_changes_nothing_and_says_why() {
        let mut gateway = gateway();
        for line in [
            "fly",
            "set loss 2",
            "set loss",
            "set loss x",
            "set delay 20",
            "set delay -1s",
            "set assigned-port 70000",
            "silence ftp",
            "silence pcp 1 2",
            "close ftp",
            "natpmp-only 3",
            "refuse dance 1",
            "refuse pcp-map",
            "refuse pcp-map 8 port",
            "set keep-open maybe",
            "set firewall-enabled maybe",
            "set roof on",
            "arrive sctp [2001:db8::1]:1 [2001:db8::2]:2",
            "arrive tcp [2001:db8::1]:1 [2001:db8::2]",
            "occupy sctp 1 1.2.3.4:5",
            "restart now",
        ] {
            let error = carry_out(&mut gateway, line).expect_err(line);
            assert!(!error.is_empty() && !error.contains('\n'));
        }
        assert_eq!(gateway.faults, Faults::default());
    }

    #[test]
    fn table_and_counts_are_printed() {
        let mut gateway = gateway();
        carry_out(&mut gateway, "occupy tcp 9000 192.168.1.5:80").expect("a command");
        assert_eq!(carry_out(&mut gateway, "table"), Ok("TCP 9000 192.168.1.5:80 Script until never".into()));
        let counts = carry_out(&mut gateway, "counts").expect("a command");
        assert!(counts.starts_with("pcp-map 0 pcp-delete 0 "), "{counts}");
        assert!(carry_out(&mut gateway, "restart-without-memory").is_ok());
        assert_eq!(carry_out(&mut gateway, "table"), Ok(String::new()));
    }

    #[test]
    fn pinholes_are_printed_and_let_packets_pass() {
        let mut gateway = gateway();
        let client = "2003:1::5".parse().expect("an address");
        let key = PinholeKey::for_all(Transport::Tcp, client, 8000);
        gateway.pinholes_mut().open(key, Protocol::Pcp, None, Duration::ZERO, Duration::from_secs(120));
        let printed = carry_out(&mut gateway, "table");
        assert_eq!(printed, Ok("TCP pinhole 1 [2003:1::5]:8000 Pcp until 120s".into()));
        let mut arrive = |to: &str| carry_out(&mut gateway, &format!("arrive tcp [2003:2::9]:50000 {to}"));
        assert_eq!(arrive("[2003:1::5]:8000"), Ok("passed".into()));
        assert_eq!(arrive("[2003:1::5]:8001"), Ok("stopped".into()));
        assert_eq!(gateway.pinholes().iter().next().expect("the pinhole").packets, 1);
    }

    #[test]
    fn help_names_every_kind_of_command() {
        for word in ["restart", "silence", "close", "refuse", "set delay", "occupy", "counts", "quit"] {
            assert!(HELP.contains(word));
        }
    }
}
