//! Which external ports `plum map` accepts, and what it does until it has them.

use super::harness::{Running, gateway, lose_mappings, order, plum_at, run, run_for_lines, table};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Another host of the network has this external port.
fn occupy(server: &plum_gateway::server::Server, transport: &str, port: u16) {
    order(server, &format!("occupy {transport} {port} 192.0.2.9:9"));
}

#[test]
fn an_exact_port_is_had_or_the_command_fails() {
    for protocol in ["pcp-only", "nat-pmp", "upnp"] {
        let server = gateway();
        let words = format!("map 8080:9000 --exact --json --protocol {protocol}");
        let (code, output, _) = run_for_lines(1, plum_at(&server, &words));
        assert!(code == 0 && output.contains("\"external_port\":9000"), "{output}");

        occupy(&server, "tcp", 9000);
        let (code, output, errors) = run(plum_at(&server, &words));
        let object: Value = serde_json::from_str(&output).expect("one object");
        assert_eq!((code, &object["reason"]), (12, &json!("port-taken")), "{protocol}: {output}");
        let says = format!("plum: the gateway {} does not assign the external port", server.address());
        assert!(errors.starts_with(&says), "{errors}");
        assert_eq!(table(&server), ["Tcp 9000 -> 9"], "what was assigned instead is removed");
    }
}

#[test]
fn without_a_wish_the_exact_port_is_the_same() {
    let server = gateway();
    order(&server, "set assigned-port +10");
    let (code, output, _) = run(plum_at(&server, "map 8080/udp --exact --protocol pcp"));
    assert!(code == 12 && output.starts_with("8080/udp failed: "), "{output}");
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn each_port_of_a_range_is_exact() {
    let server = gateway();
    occupy(&server, "tcp", 9002);
    let running = Running::start(plum_at(&server, "map 7000-7002:9000 --exact"));
    let mut lines = [running.line(), running.line(), running.line()];
    lines.sort();
    assert_eq!(lines[0], "7000/tcp mapped 203.0.113.7:9000 by PCP");
    assert_eq!(lines[1], "7001/tcp mapped 203.0.113.7:9001 by PCP");
    assert!(lines[2].starts_with("7002/tcp failed: the gateway "), "{lines:?}");
    running.signal(Signal::INT);
    let (status, rest, _) = running.end();
    assert_eq!(status.code(), Some(1), "one of them failed");
    assert_eq!(rest, ["7000/tcp removed", "7001/tcp removed"]);
    assert_eq!(table(&server), ["Tcp 9002 -> 9"]);
}

/// The next lines, in alphabetical order.
fn lines<const N: usize>(running: &Running) -> [String; N] {
    let mut lines = std::array::from_fn(|_| running.line());
    lines.sort();
    lines
}

/// The external port at the end of `PORT mapped ADDR:EXTERNAL by PROTOCOL`.
fn external(line: &str) -> u16 {
    let (_, rest) = line.split_once("mapped 203.0.113.7:").expect("it is mapped");
    rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn both_transports_get_one_external_port() {
    for taken in ["tcp", "udp"] {
        let server = gateway();
        occupy(&server, taken, 9000);
        let running = Running::start(plum_at(&server, "map 8080/both:9000 81/udp"));
        let shown: [String; 5] = lines(&running);
        let note = "note: the external port is 9001, because 9000 was not to be had";
        assert_eq!(
            shown,
            [
                "8080/tcp mapped 203.0.113.7:9001 by PCP",
                &format!("8080/tcp {note}"),
                "8080/udp mapped 203.0.113.7:9001 by PCP",
                &format!("8080/udp {note}"),
                "81/udp mapped 203.0.113.7:81 by PCP",
            ]
        );
        assert_eq!(table(&server).len(), 4, "what was given up is removed");
        running.signal(Signal::INT);
        let (status, rest, errors) = running.end();
        assert_eq!((status.code(), rest.len(), errors.as_str()), (Some(0), 3, ""));
        assert_eq!(table(&server).len(), 1);
    }
}

#[test]
fn both_transports_get_one_external_port_by_upnp() {
    let server = gateway();
    occupy(&server, "udp", 8080);
    let running = Running::start(plum_at(&server, "map 8080/both --protocol upnp"));
    let [tcp, _, udp, _] = lines(&running);
    assert_eq!(external(&tcp), external(&udp), "{tcp}, {udp}");
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), ["Udp 8080 -> 9"]);
}

/// miniupnpd with nftables: the deletion of one transport stops the bytes of the other, if that is newer.
#[test]
fn a_newer_mapping_of_the_same_port_is_made_again_with_an_older_one() {
    let server = gateway();
    order(&server, "set assigned-port +10");
    occupy(&server, "udp", 8090);
    let running = Running::start(plum_at(&server, "map 8080/both"));
    let [tcp, _, udp, _] = lines(&running);
    // TCP moved to the port of UDP, and UDP was asked for again, so it moved too.
    assert_eq!([external(&tcp), external(&udp)], [8110, 8110]);
    assert_eq!(table(&server).len(), 3);
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), ["Udp 8090 -> 9"]);
}

#[test]
fn a_gateway_that_gives_no_common_port_is_left_alone_and_that_is_said() {
    let server = gateway();
    order(&server, "set assigned-port 8090");
    occupy(&server, "udp", 8090);
    let running = Running::start(plum_at(&server, "map 8080/both"));
    let [tcp, _, tcp_note, udp, _, udp_note] = lines(&running);
    let ports = [&tcp, &udp].map(|line| external(line));
    assert_ne!(ports[0], ports[1]);
    let note = |transport: &str, other: u16| {
        format!(
            "8080/{transport} note: the other transport has external port {other}: no port was to be had for both"
        )
    };
    let notes = [tcp_note, udp_note];
    assert_eq!(notes, [note("tcp", ports[1]), note("udp", ports[0])]);
    assert_eq!(table(&server).len(), 3);
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), ["Udp 8090 -> 9"]);
}

#[test]
fn after_a_loss_both_agree_once_more() {
    let server = gateway();
    order(&server, "set epoch 1000");
    let running = Running::start(plum_at(&server, "map 8080/both --recheck 100ms"));
    assert_eq!(lines::<2>(&running).map(|line| external(&line)), [8080, 8080]);
    lose_mappings(&server);
    assert_eq!(lines(&running), ["tcp", "udp"].map(|name| format!("8080/{name} lost, is being made again")));
    occupy(&server, "tcp", 8080);
    order(&server, "no-faults");
    let [tcp, _, udp, _] = lines(&running);
    assert_eq!([external(&tcp), external(&udp)], [8081, 8081]);
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), ["Tcp 8080 -> 9"]);
}

#[test]
fn one_transport_is_mapped_where_the_other_cannot_be() {
    let server = gateway();
    occupy(&server, "udp", 8080);
    let running = Running::start(plum_at(&server, "map 8080/both --exact"));
    let [tcp, udp] = lines(&running);
    assert_eq!(tcp, "8080/tcp mapped 203.0.113.7:8080 by PCP");
    assert!(udp.starts_with("8080/udp failed: "), "{udp}");
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(1));
}

/// The number before `/tcp` or `/udp`.
fn internal(line: &str) -> u16 {
    line.split('/').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn a_port_that_is_not_named_is_one_of_this_machine_that_is_free() {
    let server = gateway();
    let running = Running::start(plum_at(&server, "map 0"));
    let line = running.line();
    assert_eq!(internal(&line), external(&line), "{line}");
    std::net::TcpListener::bind(("127.0.0.1", internal(&line))).expect("a program can listen there");
    running.signal(Signal::INT);
    let (status, rest, errors) = running.end();
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
    assert_eq!(rest, [format!("{}/tcp removed", internal(&line))]);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn a_port_that_is_not_named_follows_the_one_that_the_gateway_assigns() {
    for protocol in ["pcp-only", "nat-pmp"] {
        let server = gateway();
        // A VPN server chooses by itself. The number is free here: the test has just had it.
        let assigned =
            std::net::UdpSocket::bind(("0.0.0.0", 0)).expect("a port").local_addr().expect("bound").port();
        order(&server, &format!("set assigned-port {assigned}"));
        let exec = r#"echo $PLUM_STATE $PLUM_INTERNAL_PORT $PLUM_EXTERNAL_PORT"#;
        let mut command = plum_at(&server, &format!("map 0/udp --json --protocol {protocol}"));
        command.args(["--exec", exec]);
        let running = Running::start(command);
        let object: Value = serde_json::from_str(&running.line()).expect("an object");
        let ports = ["internal_port", "external_port", "suggested_external_port"].map(|name| &object[name]);
        assert_eq!(ports, [&json!(assigned); 3], "{protocol}: {object}");
        assert_eq!(table(&server), [format!("Udp {assigned} -> {assigned}")], "what was given up is removed");
        running.signal(Signal::INT);
        let (status, _, errors) = running.end();
        assert_eq!(status.code(), Some(0));
        // The command of the state before may be left out.
        let told = errors.lines().next_back();
        assert_eq!(told, Some(format!("removed {assigned} {assigned}").as_str()), "{errors}");
        assert_eq!(table(&server), [""; 0]);
    }
}

#[test]
fn both_transports_of_a_port_that_is_not_named_are_one_port() {
    let server = gateway();
    let running = Running::start(plum_at(&server, "map 0/both"));
    let [tcp, udp] = lines(&running);
    assert_eq!([internal(&tcp), external(&tcp), internal(&udp)], [external(&udp); 3], "{tcp}, {udp}");
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn where_the_ports_never_agree_it_is_said_at_which_to_listen() {
    let server = gateway();
    order(&server, "set assigned-port +10");
    let running = Running::start(plum_at(&server, "map 0 --protocol pcp-only"));
    let line = running.line();
    let (inside, outside) = (internal(&line), external(&line));
    assert_ne!(inside, outside);
    let note = running.line();
    assert!(note.starts_with(&format!("{inside}/tcp note: listen at port {inside}: ")), "{note}");
    assert_eq!(table(&server), [format!("Tcp {outside} -> {inside}")]);
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn a_wished_external_port_is_the_one_inside_too() {
    let server = gateway();
    let wished =
        std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a port").local_addr().expect("bound").port();
    let running = Running::start(plum_at(&server, &format!("map 0:{wished}")));
    assert_eq!(running.line(), format!("{wished}/tcp mapped 203.0.113.7:{wished} by PCP"));
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));

    // Another host of the network has it.
    occupy(&server, "tcp", wished);
    let running = Running::start(plum_at(&server, &format!("map 0:{wished}")));
    let line = running.line();
    assert_eq!(internal(&line), external(&line), "{line}");
    assert!(running.line().ends_with(&format!("because {wished} was not to be had")));
    running.signal(Signal::INT);
    assert_eq!(running.end().0.code(), Some(0));
}
