//! Writes the inputs that fuzzing begins with: `cargo run --bin seeds -- FOLDER` makes `FOLDER/TARGET/NAME`.
//!
//! The inputs are what the simulated gateway answers to requests of the library's own encoders, with and without faults, the
//! messages of tests/corpus, and lists of operations and calls.

#[path = "../../../tests/corpus/index.rs"]
#[allow(dead_code)] // the facts are for the tests
mod index;

use plum_fuzz::api::op as call;
use plum_fuzz::engine::{faults, operations::op};
use plum_fuzz::engines::op as both;
use plum_fuzz::upnp::{framing, record};
use plum_gateway::control::carry_out;
use plum_gateway::core::{Config, ConnectionId, Gateway, Igd, Output, SSDP_GROUP, UdpPort, WanKind};
use plum_wire::Transport;
use plum_wire::http::{Url, emit_get, emit_post};
use plum_wire::pcp::{MapRequest, Nonce};
use plum_wire::{natpmp, pcp, soap, ssdp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100)), 40_000);
const PORT: NonZeroU16 = NonZeroU16::new(8000).expect("not 0");

/// Writes numbered files.
struct Seeds(PathBuf);

impl Seeds {
    fn write(&self, target: &str, name: &str, octets: &[u8]) {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder).expect("the folder");
        std::fs::write(folder.join(name), octets).expect("the file");
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).expect("a folder to write to");
    let seeds = Seeds(Path::new(&folder).into());
    udp(&seeds);
    upnp(&seeds);
    quirks(&seeds);
    scenarios(&seeds);
    addresses(&seeds);
    zones(&seeds);
    calls(&seeds);
    conversations(&seeds);
}

/// A gateway after some commands.
fn gateway(igd: Igd, commands: &[&str]) -> Gateway {
    let mut gateway =
        Gateway::new(Config { igd: Some(igd), ..Config::at(GATEWAY) }, Duration::from_secs(1000));
    for command in commands {
        carry_out(&mut gateway, command).expect("a command");
    }
    gateway
}

/// What the gateway sends within a second, datagrams and streams.
fn sent(gateway: &mut Gateway) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut stream = Vec::new();
    while let Some(output) = gateway.poll_output(Duration::from_secs(1001)) {
        match output {
            Output::Send { bytes, .. } => all.push(bytes),
            Output::Write { bytes, .. } => stream.extend(bytes),
            Output::Close { .. } | Output::Reset { .. } => {}
        }
    }
    all.extend(Some(stream).filter(|stream| !stream.is_empty()));
    all
}

fn udp(seeds: &Seeds) {
    let map = |transport, lifetime_secs, suggested_port| MapRequest {
        client: CLIENT.ip(),
        nonce: Nonce(*b"twelve bytes"),
        transport,
        internal_port: PORT,
        suggested_port,
        suggested_address: None,
        lifetime_secs,
    };
    let natpmp = |transport, lifetime_secs| natpmp::MapRequest {
        transport,
        internal_port: PORT,
        suggested_port: Some(PORT),
        lifetime_secs,
    };
    let pcp_requests = [
        map(Transport::Tcp, 7200, Some(PORT)).emit().to_vec(),
        map(Transport::Udp, 7200, None).emit().to_vec(),
        map(Transport::Udp, 0, None).emit().to_vec(),
        pcp::emit_announce_request(CLIENT.ip()).to_vec(),
    ];
    let natpmp_requests = [
        natpmp::emit_address_request().to_vec(),
        natpmp(Transport::Tcp, 7200).emit().to_vec(),
        natpmp(Transport::Udp, 0).emit().to_vec(),
    ];
    let faults: [&[&str]; 8] = [
        &[],
        &["natpmp-only 0"],
        &["natpmp-only 1"],
        &["natpmp-only 2"],
        &["pcp-only"],
        &["refuse pcp-map 8 lifetime 30", "refuse natpmp-map 4", "refuse natpmp-address 3"],
        &["refuse pcp-map 12", "refuse natpmp-map 2", "set epoch 4294967295"],
        &["refuse pcp-map 200", "set lifetime 4294967295", "set assigned-port 0"],
    ];
    for (f, commands) in faults.into_iter().enumerate() {
        for (target, requests) in [("pcp", &pcp_requests[..]), ("natpmp", &natpmp_requests)] {
            for (r, request) in requests.iter().enumerate() {
                let mut gateway = gateway(Igd::default(), commands);
                gateway.handle_datagram(Duration::from_secs(1000), UdpPort::Pcp, CLIENT, request);
                for answer in sent(&mut gateway) {
                    seeds.write(target, &format!("answer-{f}-{r}"), &answer);
                }
                seeds.write(target, &format!("request-{r}"), request);
            }
        }
    }
    let mut gateway = gateway(Igd::default(), &["announce"]);
    for (n, announcement) in sent(&mut gateway).into_iter().enumerate() {
        seeds.write(["pcp", "natpmp"][n % 2], "announcement", &announcement);
    }
}

fn igds() -> [Igd; 4] {
    [
        Igd::default(),
        Igd::v2(),
        Igd::with(1, &[WanKind::Ppp1]),
        Igd::with(2, &[WanKind::Ppp1, WanKind::Ip1, WanKind::Ip2]),
    ]
}

fn upnp(seeds: &Seeds) {
    for (n, igd) in igds().into_iter().enumerate() {
        let mut targets = igd.targets();
        targets.push("upnp:rootdevice".into());
        for (t, target) in targets.iter().enumerate() {
            let mut gateway = gateway(igd.clone(), &[]);
            let search = ssdp::emit_search(SSDP_GROUP, target, 1);
            gateway.handle_datagram(Duration::from_secs(1000), UdpPort::Ssdp, CLIENT, &search);
            for answer in sent(&mut gateway) {
                seeds.write("ssdp", &format!("answer-{n}-{t}"), &answer);
            }
        }
        for command in ["notify alive", "notify byebye"] {
            let mut gateway = gateway(igd.clone(), &[command]);
            for (m, notification) in sent(&mut gateway).into_iter().enumerate() {
                seeds.write("ssdp", &format!("{}-{n}-{m}", command.replace(' ', "-")), &notification);
            }
        }
        let framings = ["content-length", "chunked", "until-close", "too-long 5", "too-short 5"];
        for (f, framing) in framings.into_iter().enumerate() {
            let mut gateway = gateway(igd.clone(), &[&format!("set framing {framing}")]);
            let stream = ask(&mut gateway, &emit_get(&url("/rootDesc.xml")));
            seeds.write("http", &format!("description-{n}-{f}"), &[&[0, 9, 60][..], &stream].concat());
            if f == 0 {
                seeds.write("igd", &format!("description-{n}"), body(&stream));
            }
        }
    }
    for (n, commands) in
        [&["set redirect /moved.xml"][..], &["set http-junk always"], &["set soap-status 503"]]
            .into_iter()
            .enumerate()
    {
        let stream = ask(&mut gateway(Igd::default(), commands), &emit_get(&url("/rootDesc.xml")));
        seeds.write("http", &format!("odd-{n}"), &[&[0, 1, 2][..], &stream].concat());
    }
    for (n, text) in ["http://[fd00::1]:8080/a%20b/../c?d=e#f", "//192.0.2.7/x", "../up/./here", "?q"]
        .into_iter()
        .enumerate()
    {
        seeds.write("http", &format!("url-{n}"), &[&[8, 1, 2][..], text.as_bytes()].concat());
    }
    let service = "urn:schemas-upnp-org:service:WANIPConnection:1";
    let entry = [("NewRemoteHost", ""), ("NewExternalPort", "8000"), ("NewProtocol", "TCP")];
    let add = [
        &entry[..],
        &[
            ("NewInternalPort", "8000"),
            ("NewInternalClient", "192.168.1.100"),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "libplum"),
            ("NewLeaseDuration", "7200"),
        ],
    ]
    .concat();
    let actions: [(&str, &[(&str, &str)]); 5] = [
        ("GetExternalIPAddress", &[]),
        ("GetStatusInfo", &[]),
        ("AddPortMapping", &add),
        ("GetSpecificPortMappingEntry", &entry),
        ("DeletePortMapping", &entry),
    ];
    for (action, arguments) in actions {
        for (f, command) in ["", &format!("refuse {action} 718")].into_iter().enumerate() {
            let mut gateway = gateway(Igd::default(), &[command, "occupy tcp 8000 192.168.1.100:8000"]);
            let call = soap::emit(service, action, arguments);
            let request = emit_post(&url("/ctl/0"), &soap::soap_action(service, action), &call);
            let stream = ask(&mut gateway, &request);
            seeds.write("soap", &format!("{action}-{f}"), body(&stream));
            seeds.write("http", &format!("{action}-{f}"), &[&[0, 1, 2][..], &stream].concat());
        }
    }
}

/// The project's own messages of gateways, a quirk each.
fn quirks(seeds: &Seeds) {
    for row in index::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus")) {
        let (folder, name) = row.file.split_once('/').expect("a folder");
        match folder {
            "http" => seeds.write(folder, name, &[&[0, 1, 2][..], &row.bytes].concat()),
            "igd-desc" | "scpd" => seeds.write("igd", name, &row.bytes),
            _ => seeds.write(folder, name, &row.bytes),
        }
    }
}

fn url(path: &str) -> Url {
    Url::parse(&format!("http://{GATEWAY}:5000{path}")).expect("a URL")
}

/// The gateway's answer to a request.
fn ask(gateway: &mut Gateway, request: &[u8]) -> Vec<u8> {
    let now = Duration::from_secs(1000);
    gateway.handle_tcp_open(now, ConnectionId(1), CLIENT);
    gateway.handle_tcp_data(now, ConnectionId(1), request);
    sent(gateway).pop().unwrap_or_default()
}

/// What follows the head of a reply.
fn body(stream: &[u8]) -> &[u8] {
    let head = stream.windows(4).position(|window| window == b"\r\n\r\n").map_or(stream.len(), |at| at + 4);
    &stream[head..]
}

/// Lists of operations on the engine, see `plum_fuzz::engine::operations`.
fn scenarios(seeds: &Seeds) {
    const SECOND: u8 = 8;
    const HOUR: u8 = 14;
    let create: &[u8] = &[op::CREATE, 0, 0, op::CREATE, 1, 1, op::CREATE, 4, 2, 1, 0x50, 0xc3];
    let run = |span| [op::RUN, span].to_vec();
    let fault = |n: u8| [op::FAULT, n, 1, 0].to_vec();
    let life =
        |middle: &[u8]| [create, &run(SECOND), middle, &run(HOUR), &[op::DESTROY, 1], &run(SECOND)].concat();
    let life_after = |before: &[u8]| [before, &life(&[op::RUN, 12, op::CREATE, 5, 3, 1, 3, 0])].concat();
    let mut lists: Vec<(String, Vec<u8>)> = vec![
        ("life".into(), life(&[])),
        ("cleanup".into(), [create, &run(SECOND), &[op::CLEANUP], &run(SECOND)].concat()),
        (
            "network".into(),
            life(&[op::ROUTE, 2, 1, op::RUN, SECOND, op::ROUTE, 1, 1, op::RUN, SECOND, op::ROUTE, 0, 1]),
        ),
        ("direct".into(), life(&[op::ROUTE, 5, 1, op::RUN, SECOND, op::ROUTE, 0, 1])),
        ("sleep".into(), life(&[op::SLEEP, HOUR, 1, op::RUN, SECOND, op::SLEEP, 15, 0])),
        ("power".into(), life(&[op::POWER, 2, op::RUN, HOUR, op::POWER, 1, op::RUN, 12, op::POWER, 0])),
        ("unopenable".into(), life(&[op::UNOPENABLE, 31, op::ROUTE, 2, 1, op::RUN, 12, op::UNOPENABLE, 0])),
        ("flood".into(), [create, &[op::FLOOD, 200, 0], &run(SECOND)].concat()),
        ("tcp".into(), life(&[op::TCP_FAILS, 0x11, op::RUN, SECOND, op::TCP_EVENT, 0, 2, op::TIMEOUT])),
    ];
    // Each may change what follows.
    let commands = u8::try_from(faults::COMMANDS.len()).expect("few commands");
    lists.extend((0..commands).map(|n| (format!("fault-{n}"), [fault(n), life(&fault(n))].concat())));
    // Each error of UPnP's actions (commands 34 to 40), for once and for ever, with a wished port and without.
    for code in 12..24 {
        for command in 34..41 {
            lists.push((format!("refuse-{command}-{code}"), life_after(&[op::FAULT, command, code, 0])));
        }
        for command in 26..34 {
            lists.push((format!("refuse-{command}-{code}"), life_after(&[op::FAULT, command, code - 12, 0])));
        }
    }
    for socket in 0..5 {
        let answers: Vec<u8> = (0..6)
            .flat_map(|n| [op::RUN, 1, op::ANSWER, socket, n, n, 0, 0, 0x50, 0xc3, 1, n, n, n])
            .collect();
        lists.push((format!("answers-{socket}"), life(&answers)));
    }
    // Without the gateway's own answers on its HTTP server, those of the input.
    for reply in 0..8 {
        let replies: Vec<u8> =
            (0..4).flat_map(|n| [op::RUN, 3, op::TCP_REPLY, 0, 0, 0, reply, n, n, 1]).collect();
        lists.push((format!("replies-{reply}"), [&fault(15), create, &replies[..], &run(SECOND)].concat()));
    }
    // Descriptions whose control URLs lead here and there, and what comes of them.
    for kind in 0..24 {
        let description = [op::TCP_REPLY, 0, 0, 0, 7, kind, kind ^ 0x40];
        let status = [op::TCP_REPLY, 0, 0, 0, 6, 0, op::TCP_REPLY, 1, 0, 0, 2, 1];
        let list =
            [&fault(15), create, &run(3), &description, &run(3), &status, &run(3), &status, &run(SECOND)];
        lists.push((format!("description-{kind}"), list.concat()));
    }
    for (name, list) in lists {
        // All protocols, UPnP alone, PCP alone, the gateway named by its address.
        for (w, world) in [[0, 0, 1], [3, 1, 1], [2, 0, 1], [7, 0, 1], [64, 0, 1]].into_iter().enumerate() {
            seeds.write("engine", &format!("{name}-{w}"), &[&world[..], &list].concat());
        }
    }
}

/// Lists of operations on the engines of both families, see `plum_fuzz::engines`.
fn addresses(seeds: &Seeds) {
    const SECOND: u8 = 8;
    const HOUR: u8 = 14;
    let run = |span| [both::RUN, span].to_vec();
    // To the address that is chosen, to one that is named, and by IPv4 beside them.
    let create: &[u8] = &[both::CREATE, 0, 0, both::CREATE, 70, 1, both::CREATE_IPV4, 0];
    let grants = |flags: u8| -> Vec<u8> {
        (0..8)
            .flat_map(|n| [both::ANSWER, n, 0, 0, flags, 70, 70, both::ANSWER, n, 1, 0, flags, 70, 70])
            .collect()
    };
    let life = |middle: &[u8]| {
        let end = [both::DESTROY, 0, both::RUN, SECOND];
        [create, &grants(0), &run(SECOND), middle, &grants(0), &run(HOUR), &end].concat()
    };
    let add = |number: u8, flags: u8| [both::ADD_ADDRESS, number, flags];
    let notice: &[u8] = &[both::NOTICE, 1];
    // The route becomes one of this kind, and after a second one of that.
    let away_for_a_second = |away: u8, back: u8| {
        let to = |kind: u8| [both::ROUTE, kind, 0, both::NOTICE, 1];
        life(&[&to(away)[..], &run(SECOND), &to(back)].concat())
    };
    let mut lists: Vec<(String, Vec<u8>)> = vec![
        ("life".into(), life(&[])),
        ("renumbering".into(), life(&[&add(80, 0)[..], &[both::CHANGE_ADDRESS, 0, 1], notice].concat())),
        ("at-once".into(), life(&[&[both::CHANGE_ADDRESS, 0, 5][..], &add(80, 0), notice].concat())),
        (
            "tentative".into(),
            life(&[&add(70, 8)[..], notice, &run(SECOND), &[both::CHANGE_ADDRESS, 1, 2], notice].concat()),
        ),
        (
            "nothing-known".into(),
            [&[both::SYSTEM, 3][..], &life(&[both::SYSTEM, 0, both::NOTICE, 0])].concat(),
        ),
        ("nothing-opens".into(), life(&[both::SYSTEM, 12, both::NOTICE, 0, both::RUN, 12, both::SYSTEM, 0])),
        ("no-route".into(), away_for_a_second(0, 4)),
        (
            "routers".into(),
            life(&[both::ROUTE, 4, 4, both::NOTICE, 1, both::RUN, 12, both::RUN, 12, both::RUN, 12]),
        ),
        ("direct".into(), away_for_a_second(1, 2)),
        ("source-route".into(), life(&[both::ROUTE_FROM, 70, 1, 5, 0, both::NOTICE, 1, both::RUN, SECOND])),
        ("no-ipv4".into(), [&[both::ROUTE_IPV4, 1][..], &life(&[both::SLEEP, HOUR])].concat()),
        (
            "refused".into(),
            life(&(0..8).flat_map(|n| [both::REFUSED, n, both::TCP, n, n]).collect::<Vec<u8>>()),
        ),
    ];
    for flags in 0..64 {
        lists.push((format!("answers-{flags}"), life(&grants(flags))));
    }
    // More addresses than there are engines.
    let many = (64..80).flat_map(|n| [&add(n, 0)[..], notice, &[both::CREATE, n, 0], &run(4)].concat());
    lists.push(("many".into(), life(&many.collect::<Vec<u8>>())));
    for (name, list) in lists {
        // All protocols, PCP, UPnP, gateways of each family that are named, and short waits.
        for (w, flags) in [0, 2, 3, 4, 12, 48].into_iter().enumerate() {
            seeds.write("engines", &format!("{name}-{w}"), &[&[flags, 1], &list[..]].concat());
        }
    }
}

/// URLs of link-local hosts, with zones.
fn zones(seeds: &Seeds) {
    let urls = [
        "http://[fe80::1%eth0]:5000/x",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%]:80/",
        "//[fe80::2%2]:49152/d",
    ];
    for (n, url) in urls.into_iter().enumerate() {
        seeds.write("http", &format!("zone-{n}"), &[b"\0\x05\x07", url.as_bytes()].concat());
    }
}

/// Lists of calls, see `plum_fuzz::api`.
fn calls(seeds: &Seeds) {
    let init: &[u8] = &[call::INIT, 0, 3, 0];
    let init_nobody: &[u8] = &[call::INIT, 3, 3, 0];
    let create: &[u8] = &[call::CREATE, 0, 0, 1];
    let look: &[u8] = &[call::QUERY, 0, 0, call::QUERY, 0, 1, call::QUERY, 255, 3, call::QUERY, 253, 0];
    let bare: &[u8] = &[call::LOCAL_ADDRESS, 64, 1, call::LOCAL_ADDRESS, 3, 1, call::LOCAL_ADDRESS, 1, 0];
    let dummytls: &[u8] =
        &[call::CERTIFICATE, 0, 64, 1, call::CERTIFICATE, 255, 9, 9, 9, 9, 0, 0, call::HOST, 0, 9, 1];
    let lists: [(&str, Vec<u8>); 9] = [
        ("nothing", [bare, look, create, &[call::CLEANUP], &[call::DESTROY, 0]].concat()),
        ("life", [init, create, look, &[call::WAIT], look, &[call::DESTROY, 0, call::WAIT], look].concat()),
        ("nobody", [init_nobody, create, &[call::WAIT], look, dummytls, &[call::CLEANUP], look].concat()),
        ("twice", [init, init, create, &[call::WAIT, call::CLEANUP, call::CLEANUP], init, create].concat()),
        ("upnp", [&[call::INIT, 0, 3, 2][..], create, &[call::WAIT, call::WAIT], look].concat()),
        (
            "levels",
            [init, &[call::LOG_LEVEL, 0], create, &[call::LOG_LEVEL, 255, 0, 0, 0, 9, call::WAIT]].concat(),
        ),
        (
            "bad",
            [init, &[call::CREATE, 0xc0, 0, 1, call::CREATE, 0, 254, 1, call::CREATE, 0, 0, 255]].concat(),
        ),
        (
            "faults",
            [init, create, &[call::WAIT, call::FAULT, 2, call::WAIT, call::FAULT, 5], create].concat(),
        ),
        ("silent", [init, &[call::CREATE, 32, 0, 1, call::WAIT], look, &[call::DESTROY, 0]].concat()),
    ];
    for (name, list) in lists {
        seeds.write("api", name, &list);
    }
    for behaviour in [1, 2, 4, 8, 16, 31, 12] {
        let list =
            [init, &[call::CREATE, 16, 0, 1, behaviour, call::WAIT, call::CREATE, 16, 1, 2, behaviour]]
                .concat();
        seeds.write("api", &format!("inside-{behaviour}"), &list);
    }
}

/// A record of a conversation, see `plum_fuzz::upnp`.
fn record(what: u8, how: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short record");
    [&[what | how << 4][..], &length.to_le_bytes(), payload].concat()
}

/// What fits as the reply to any action.
const ANY_REPLY: &str = "<s:Envelope><s:Body><u:Response><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>\
    <NewConnectionStatus>Connected</NewConnectionStatus><NewReservedPort>8000</NewReservedPort><NewInternalPort>8000\
    </NewInternalPort><NewInternalClient>192.168.1.100</NewInternalClient><NewExternalPort>8000</NewExternalPort><NewProtocol>\
    TCP</NewProtocol><NewEnabled>1</NewEnabled><NewPortMappingDescription>libplum</NewPortMappingDescription>\
    <NewLeaseDuration>7200</NewLeaseDuration></u:Response></s:Body></s:Envelope>";

/// Conversations with devices that are as they should be, and that refuse, redirect, break off, restart.
fn conversations(seeds: &Seeds) {
    const SECOND: u8 = 6;
    let answer = |location: &str| {
        let target = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
        format!("HTTP/1.1 200 OK\r\nST: {target}\r\nUSN: uuid:1::{target}\r\nLOCATION: {location}\r\n\r\n")
            .into_bytes()
    };
    let here = answer("http://192.168.1.1:5000/rootDesc.xml");
    let alive = String::from_utf8_lossy(&here)
        .replace("HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\nBOOTID.UPNP.ORG: 2")
        .replace("ST: ", "NT: ")
        .into_bytes();
    let create = record(record::CREATE, 0, &[0]);
    let time = |span| record(record::TIME, span, &[]);
    let ok = record(record::REPLY, framing::LENGTH, ANY_REPLY.as_bytes());
    let fault = |code: u16| {
        let body = format!("<s:Fault><UPnPError><errorCode>{code}</errorCode></UPnPError></s:Fault>");
        record(record::REPLY, framing::FAULT, body.as_bytes())
    };
    let tail = [ok.repeat(4), record(record::DESTROY, 0, &[0]), ok.repeat(2), time(SECOND)].concat();
    for (n, igd) in igds().into_iter().enumerate() {
        let stream = ask(&mut gateway(igd, &[]), &emit_get(&url("/rootDesc.xml")));
        let found = [create.clone(), record(record::ANSWER, 0, &here)].concat();
        let described = [found.clone(), record(record::REPLY, framing::LENGTH, body(&stream))].concat();
        let middles: [(&str, Vec<u8>); 8] = [
            ("life", ok.repeat(6)),
            ("looks", [ok.repeat(4), time(7), ok.repeat(2), time(10), ok.repeat(2)].concat()),
            ("renewal", [ok.repeat(4), time(11), ok.repeat(3)].concat()),
            (
                "restart",
                [ok.repeat(4), record(record::NOTIFY, 0, &alive), time(SECOND), ok.repeat(3)].concat(),
            ),
            ("breaks", [record(record::END, 0, &[]), record(record::END, 1, &[]), ok.repeat(4)].concat()),
            (
                "trouble",
                [record(record::TROUBLE, 1, &[]), ok.clone(), record(record::TROUBLE, 4, &[])].concat(),
            ),
            ("network", [ok.repeat(4), record(record::NETWORK_CHANGED, 3, &[]), time(SECOND)].concat()),
            ("silence", time(8)),
        ];
        for (name, middle) in middles {
            seeds.write("upnp", &format!("{name}-{n}"), &[&[0][..], &described, &middle, &tail].concat());
        }
        for code in [402, 501, 606, 714, 718, 724, 725, 727, 728] {
            let list = [&[0][..], &described, &ok, &fault(code).repeat(3), &tail].concat();
            seeds.write("upnp", &format!("fault-{code}-{n}"), &list);
        }
        // From others, of other networks, and to other places.
        for how in 8..15 {
            let found = record(record::ANSWER, how, &answer("http://192.168.1.9:80/x"));
            let described = record(record::REPLY, framing::CHUNKED, body(&stream));
            let redirect = record(record::REPLY, framing::REDIRECT, b"http://198.51.100.1/y");
            let list = [&[0][..], &create, &found, &time(SECOND), &redirect, &described, &tail].concat();
            seeds.write("upnp", &format!("origin-{how}-{n}"), &list);
        }
    }
}
