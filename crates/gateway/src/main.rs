//! The simulated gateway as a program: for scripts, the demo and tests in other languages.

#![forbid(unsafe_code)]

use plum_gateway::core::{Gateway, Igd, WanKind};
use plum_gateway::server::{Config, Server};
use plum_gateway::{control, odd};
use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::str::FromStr;

const USAGE: &str = "\
Usage: plum-gateway [OPTIONS]

A simulated NAT gateway: PCP, NAT-PMP and UPnP-IGD, with scripted faults. It prints `ready ADDRESS` when its
sockets are open.

  --address ADDR             the gateway's address inside (127.77.0.1)
  --external-address ADDR    the address it reports as its external one (203.0.113.7)
  --forward-on ADDR          open mapped ports on this address and forward them (forwards nothing)
  --pcp-port PORT            UDP port of PCP and NAT-PMP; 0: none (5351)
  --ssdp-port PORT           UDP port of SSDP; 0: none (1900)
  --http-port PORT           TCP port of the device description; 0: any free one (0)
  --igd 1|2|none             the UPnP device it is (1)
  --service ip1|ip2|ppp1     a service of it, may be repeated (ip1, or ip2 of IGD 2)
  --ipv6                     be the firewall of IPv6 clients too; ADDR is an IPv6 address
  --multicast                take part in multicast on the interface of ADDR
  --announcements N          how often a restart is announced (10)
  --max-mappings N           room in its table (65536)
  --epoch SECS               the epoch it starts with (0)
  --seed N                   determines everything random (1)
  --fault COMMAND            carry out a command at the start, may be repeated: --fault 'set delay 20ms'
  --odd NAME                 have the habit of an odd gateway, may be repeated (another name: the list of them)
  --control                  read commands from standard input, answer each with `ok` or `error: ...` after what
                             it prints, and end with the input; `help` lists them
  --help                     this
";

struct Options {
    config: Config,
    odd: Vec<fn(&mut Gateway)>,
    faults: Vec<String>,
    control: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            say(USAGE.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&format!("{error} (see --help)")),
    };
    let server = match Server::start(options.config) {
        Ok(server) => server,
        Err(error) => return fail(&error.to_string()),
    };
    for odd in options.odd {
        server.with_core(odd);
    }
    for command in &options.faults {
        if let Err(error) = server.with_core(|core| control::carry_out(core, command)) {
            return fail(&error);
        }
    }
    if !say(&format!("ready {}", server.address())) {
        return ExitCode::FAILURE;
    }
    if options.control {
        obey(&server);
        server.stop();
    } else {
        server.wait();
    }
    ExitCode::SUCCESS
}

/// Executes the commands on standard input until it ends, or standard output is closed.
fn obey(server: &Server) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if line.trim() == "quit" {
            return;
        }
        let answer = match server.with_core(|core| control::carry_out(core, &line)) {
            Ok(text) if text.is_empty() => "ok".into(),
            Ok(text) => format!("{text}\nok"),
            Err(error) => format!("error: {error}"),
        };
        if !say(&answer) {
            return;
        }
    }
}

/// Prints a line at once; `false`: standard output is closed.
fn say(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

fn fail(error: &str) -> ExitCode {
    // If standard error is closed, too, the exit code must suffice.
    let _ = writeln!(std::io::stderr(), "plum-gateway: {error}");
    ExitCode::FAILURE
}

/// `None`: help was requested.
fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut config = Config::at(Ipv4Addr::new(127, 77, 0, 1));
    let (mut faults, mut odd, mut control) = (Vec::new(), Vec::new(), false);
    let (mut kinds, mut ipv6) = (Vec::new(), false);
    let mut version = Some(1);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let (name, mut inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (argument, None),
        };
        let mut value =
            || inline.take().or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"));
        let gateway = &mut config.gateway;
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--control" => control = true,
            "--ipv6" => ipv6 = true,
            "--multicast" => config.multicast = true,
            "--address" => gateway.address = of(&name, &value()?)?,
            "--external-address" => gateway.external_address = of(&name, &value()?)?,
            "--forward-on" => config.forward_on = Some(of::<IpAddr>(&name, &value()?)?),
            "--pcp-port" => gateway.pcp_port = of(&name, &value()?)?,
            "--ssdp-port" => gateway.ssdp_port = of(&name, &value()?)?,
            "--http-port" => gateway.http_port = of(&name, &value()?)?,
            "--announcements" => gateway.announcements = of(&name, &value()?)?,
            "--max-mappings" => gateway.max_mappings = of(&name, &value()?)?,
            "--epoch" => gateway.first_epoch = of(&name, &value()?)?,
            "--seed" => gateway.seed = of(&name, &value()?)?,
            "--fault" => faults.push(value()?),
            "--odd" => odd.push(find_odd(&value()?)?),
            "--igd" => version = version_of(&value()?)?,
            "--service" => kinds.push(match value()?.as_str() {
                "ip1" => WanKind::Ip1,
                "ip2" => WanKind::Ip2,
                "ppp1" => WanKind::Ppp1,
                other => return Err(format!("--service: {other:?} is none of ip1, ip2, ppp1")),
            }),
            _ => return Err(format!("unknown option {name}")),
        }
        if let Some(value) = inline {
            return Err(format!("{name} takes no value, not {value:?}"));
        }
    }
    if kinds.is_empty() {
        kinds.push(if version == Some(2) { WanKind::Ip2 } else { WanKind::Ip1 });
    }
    config.gateway.igd = version.map(|version| Igd::with(version, &kinds));
    if ipv6 {
        config.gateway = with_ipv6(config.gateway)?;
    }
    Ok(Some(Options { config, odd, faults, control }))
}

fn version_of(value: &str) -> Result<Option<u8>, String> {
    match value {
        "none" => Ok(None),
        "1" => Ok(Some(1)),
        "2" => Ok(Some(2)),
        other => Err(format!("--igd: {other:?} is none of 1, 2, none")),
    }
}

fn with_ipv6(gateway: plum_gateway::core::Config) -> Result<plum_gateway::core::Config, String> {
    match gateway.address {
        IpAddr::V6(address) => Ok(gateway.with_ipv6(address)),
        IpAddr::V4(_) => Err("--ipv6 needs an IPv6 address as --address".into()),
    }
}

fn find_odd(name: &str) -> Result<fn(&mut Gateway), String> {
    odd::find(name).ok_or_else(|| {
        let names: Vec<&str> = odd::LIST.iter().map(|(name, _)| *name).collect();
        format!("--odd: {name:?} is none of {}", names.join(", "))
    })
}

fn of<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is not valid"))
}
