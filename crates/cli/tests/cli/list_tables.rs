//! How `plum list` reads the tables of gateways: by their lists, or entry by entry.

use super::harness::{plum_at, run};
use super::list::{insert, script_entries};
use plum_gateway::core::{Action, Igd, Kind, Reply, Transport};
use plum_gateway::server::Server;
use serde_json::Value;

const LIST: Kind = Kind::Soap(Action::GetListOfPortMappings);
const ENTRY: Kind = Kind::Soap(Action::GetGenericPortMappingEntry);

/// A gateway of version 2.
fn gateway() -> Server {
    Server::start_on_own_address(|config| config.gateway.igd = Some(Igd::v2()))
        .expect("a gateway on loopback")
}

fn listed(server: &Server) -> Value {
    let (code, output, errors) = run(plum_at(server, "list --json"));
    assert_eq!((code, errors.as_str()), (0, ""));
    serde_json::from_str(&output).expect("JSON")
}

fn count(server: &Server, kind: Kind) -> u64 {
    server.with_core(|core| core.counts.of(kind))
}

#[test]
fn a_gateway_of_version_2_is_asked_for_its_list() {
    let server = gateway();
    for port in 1..=150 {
        insert(&server, Transport::Tcp, 1000 + port, "192.0.2.77:80", "web & <co>");
    }
    insert(&server, Transport::Udp, 70, "127.0.0.1:70", "");
    let told = listed(&server);
    let mappings = told["mappings"].as_array().expect("a list");
    assert_eq!(
        (mappings.len(), &told["action"], &told["incomplete"]),
        (151, &"GetListOfPortMappings".into(), &Value::Null)
    );
    let first = serde_json::json!({
        "external_port": 70, "transport": "UDP", "remote_host": null, "internal_client": "127.0.0.1", "internal_port": 70,
        "lease_left_secs": 0, "description": "", "enabled": true, "is_this_machine": true,
    });
    assert_eq!((&mappings[0], &mappings[1]["description"]), (&first, &"web & <co>".into()));
    // The reply with all of them is too long.
    assert_eq!(count(&server, ENTRY), 0);
    let asked = count(&server, LIST);
    assert!((4..40).contains(&asked), "{asked}");
}

/// A reply with a name.
type Named = (&'static str, fn() -> Reply);

#[test]
fn a_list_that_is_not_to_be_had_is_read_entry_by_entry() {
    let server = gateway();
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "web");
    let unreadable = || {
        let answer = "<u:GetListOfPortMappingsResponse><NewPortListing>&nothing;</NewPortListing></u:GetListOfPortMappingsResponse>";
        Reply::bytes(format!("<s:Envelope><s:Body>{answer}</s:Body></s:Envelope>"))
    };
    let replies: [Named; 5] = [
        ("401", || Reply::code(401)),
        ("606", || Reply::code(606)),
        ("404", || Reply::http(404, "")),
        ("none in the range", || Reply::code(730)),
        ("unreadable", unreadable),
    ];
    for (name, reply) in replies {
        server.with_core(|core| {
            core.clear_scripts();
            core.add_script(move |request| if request.kind == LIST { reply() } else { Reply::usual() });
        });
        let told = listed(&server);
        assert_eq!(
            (&told["action"], &told["mappings"][0]["external_port"]),
            (&"GetGenericPortMappingEntry".into(), &9000.into()),
            "{name}"
        );
    }
}

#[test]
fn an_empty_list_is_told_as_one() {
    let (code, output, _) = run(plum_at(&gateway(), "list"));
    assert!(code == 0 && output.ends_with(" has no mappings.\n"), "{output}");
}

#[test]
fn a_list_that_does_not_go_on_is_told_as_incomplete() {
    let server = gateway();
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "web");
    let mut asked = 0;
    server.with_core(|core| {
        core.add_script(move |request| match request.kind {
            LIST => {
                asked += 1;
                if asked == 2 { Reply::nothing() } else { Reply::usual() }
            }
            _ => Reply::usual(),
        });
    });
    let (code, output, _) = run(plum_at(&server, "list --timeout 2s"));
    let last = output.lines().last().expect("lines");
    assert_eq!((code, output.lines().count()), (4, 3), "{output}");
    assert!(last.starts_with("The list is not complete: the list did not go on: "), "{output}");
}

#[test]
fn free_places_of_a_table_are_no_mappings() {
    let server = Server::start_on_own_address(|_| {}).expect("a gateway on loopback");
    insert(&server, Transport::Tcp, 9000, "192.0.2.77:80", "web");
    let free = "<s:Envelope><s:Body><u:GetGenericPortMappingEntryResponse><NewRemoteHost></NewRemoteHost><NewExternalPort>0</NewExternalPort>\
        <NewProtocol></NewProtocol><NewInternalPort>0</NewInternalPort><NewInternalClient></NewInternalClient><NewEnabled>0</NewEnabled>\
        <NewPortMappingDescription></NewPortMappingDescription><NewLeaseDuration>0</NewLeaseDuration>\
        </u:GetGenericPortMappingEntryResponse></s:Body></s:Envelope>";
    // One entry, then free places without an end.
    script_entries(&server, move |index| if index == 0 { Reply::usual() } else { Reply::http(200, free) });
    let (code, output, _) = run(plum_at(&server, "list"));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((code, lines.len()), (0, 3), "{output}");
    assert!(lines[1].starts_with("9000/tcp"), "{output}");
    assert_eq!(lines[2], "There may be more: from index 1 on the gateway shows empty entries only.");
}
