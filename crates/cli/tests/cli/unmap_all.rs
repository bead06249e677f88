//! `plum unmap --all` and `--row`.

use super::harness::{Running, dead_gateway, gateway, order, plum, plum_at, run, table};
use super::unmap::left_behind;
use super::unmap_truth::insert;
use plum_gateway::core::{Kind, Reply};
use plum_gateway::server::Server;
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn all_of_this_machine_is_removed_and_nothing_of_others() {
    let server = left_behind("6881/udp:16881");
    insert(&server, 18080, 8080);
    insert(&server, 18081, 8080);
    order(&server, "occupy tcp 8080 192.0.2.77:8080");
    let (code, output, errors) = run(plum_at(&server, "unmap --all"));
    let says = "\
8080/tcp is mapped to external port 18080 (left)
8080/tcp is mapped to external port 18081 (left)
6881/udp is mapped to external port 16881 (PCP)
What NAT-PMP has mapped to this machine is removed too, listed or not.
8080/tcp removed by UPnP: the external ports 18080 and 18081 are free
6881/udp removed by UPnP: the external port 16881 is free
no other tcp port is mapped by NAT-PMP
no other udp port is mapped by NAT-PMP
";
    assert_eq!((code, errors.as_str()), (0, ""));
    let mut lines: Vec<&str> = output.lines().collect();
    let mut expected: Vec<&str> = says.lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected, "{output}");
    assert_eq!(table(&server), ["Tcp 8080 -> 8080"]);
}

#[test]
fn a_dry_run_removes_nothing() {
    let server = left_behind("8080:18080");
    let (code, output, errors) = run(plum_at(&server, "unmap --all --dry-run"));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(output.starts_with("8080/tcp is mapped to external port 18080 ("), "{output}");
    let (code, output, _) = run(plum_at(&server, "unmap --all --dry-run --json"));
    let planned: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!((code, &planned["outcome"]), (0, &"would-remove".into()));
    assert_eq!((&planned["internal_port"], &planned["transport"]), (&8080.into(), &"tcp".into()));
    assert_eq!(planned["external_ports"], serde_json::json!([18080]));
    assert_eq!(table(&server), ["Tcp 18080 -> 8080"]);
    server.with_core(|core| assert_eq!(core.counts.of(Kind::NatPmpDelete), 0));
}

#[test]
fn an_empty_list_is_told() {
    let server = gateway();
    let (code, output, errors) = run(plum_at(&server, "unmap --all --dry-run"));
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(output.starts_with("The UPnP list has no mapping to this machine.\n"), "{output}");
    let (code, output, errors) = run(plum_at(&server, "unmap --all"));
    assert_eq!((code, errors.as_str()), (0, ""));
    let says = "\
The UPnP list has no mapping to this machine.
What NAT-PMP has mapped to this machine is removed.
no tcp port is mapped by NAT-PMP
no udp port is mapped by NAT-PMP
";
    assert_eq!(output, says, "of others nothing is said, because there are none");
    let server = dead_gateway();
    let (_, output, _) = run(plum_at(&server, "unmap --all --dry-run"));
    assert!(!output.contains("The UPnP list"), "there is none: {output}");
}

#[test]
fn without_a_list_natpmp_removes_what_it_has_made() {
    let server = gateway();
    order(&server, "natpmp-only");
    order(&server, "close ssdp");
    let running = Running::start(plum_at(&server, "map 8080 6881/udp"));
    running.line();
    running.line();
    running.signal(Signal::KILL);
    running.end();
    assert_eq!(table(&server).len(), 2);
    let (code, output, errors) = run(plum_at(&server, "unmap --all --json"));
    assert_eq!((code, errors.as_str()), (0, ""));
    let told: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<_> =
        told.iter().map(|told| (&told["outcome"], &told["transport"], &told["internal_port"])).collect();
    let (outcome, all) = (&"not-mapped".into(), &Value::Null);
    assert_eq!(names, [(outcome, &"tcp".into(), all), (outcome, &"udp".into(), all)]);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn what_nobody_lists_is_told_as_hidden() {
    let server = left_behind("8080");
    order(&server, "close ssdp");
    server.with_core(|core| {
        core.add_script(|request| match request.kind {
            Kind::NatPmpDelete => Reply::code(2),
            _ => Reply::usual(),
        });
    });
    let (code, output, errors) = run(plum_at(&server, "unmap --all"));
    assert_eq!(code, 1);
    assert!(
        output.ends_with(
            "every udp port may still be mapped by NAT-PMP: the gateway refuses by NAT-PMP: NotAuthorized\n"
        ),
        "{output}"
    );
    assert_eq!(
        errors,
        "plum: there may be more: no gateway lists what PCP has mapped: it ends with its lifetime\n"
    );
    assert_eq!(table(&server).len(), 1);

    let server = gateway();
    order(&server, "refuse GetGenericPortMappingEntry 606");
    let (code, _, errors) = run(plum_at(&server, "unmap --all --protocol upnp"));
    assert_eq!(code, 1);
    assert!(
        errors.starts_with("plum: there may be more: the gateway does not show its mappings: error 606"),
        "{errors}"
    );

    let (code, output, errors) = run(plum_at(&dead_gateway(), "unmap --all --dry-run --timeout 300ms"));
    assert_eq!((code, output.lines().count()), (3, 1), "{output}");
    assert!(errors.starts_with("plum: no gateway answers"), "{errors}");
}

#[test]
fn a_row_of_the_list_is_removed_by_its_first_column() {
    let server = gateway();
    insert(&server, 18080, 8080);
    insert(&server, 18081, 8080);
    order(&server, "occupy tcp 9000 192.0.2.77:80");
    let (code, output, _) = run(plum_at(&server, "unmap --row 18080/tcp --protocol upnp"));
    assert_eq!((code, output.as_str()), (0, "8080/tcp removed by UPnP: the external port 18080 is free\n"));
    assert_eq!(table(&server).len(), 2);
    let (code, output, _) = run(plum_at(&server, "unmap --row 9000"));
    assert!(
        code == 1 && output.starts_with("80/tcp not removed: external port 9000 is mapped to 192.0.2.77:80"),
        "{output}"
    );
    let (code, output, _) = run(plum_at(&server, "unmap --row 9001"));
    assert_eq!((code, output.as_str()), (0, "the UPnP list has no row 9001/tcp\n"));
    let (_, output, _) = run(plum_at(&server, "unmap --row 9001 --json"));
    let told: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(
        (&told["outcome"], &told["internal_port"], &told["upnp"]),
        (&"not-mapped".into(), &Value::Null, &"absent".into())
    );
    // By PCP and NAT-PMP only this machine's own could go.
    let asked = |server: &Server| {
        server.with_core(|core| (core.counts.of(Kind::PcpDelete), core.counts.of(Kind::NatPmpDelete)))
    };
    let before = asked(&server);
    let (code, output, _) = run(plum_at(&server, "unmap --row 9000 --others"));
    // The simulated gateway lets nobody remove what is of others.
    let says = "80/tcp is still mapped by UPnP: external port 9000: error 606: Error 606\n";
    assert_eq!((code, output.as_str()), (1, says));
    assert_eq!((table(&server).len(), asked(&server)), (2, before));
}

#[test]
fn what_contradicts_itself_is_refused() {
    for words in
        ["unmap", "unmap --all 8080", "unmap --all --others", "unmap --dry-run 8080", "unmap --all --row 80"]
    {
        assert_eq!(run(plum(words)).0, 2, "{words}");
    }
}
