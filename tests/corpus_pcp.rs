//! PCP and NAT-PMP messages of real gateways: every file of the corpus parses to the facts of its INDEX.tsv.
//!
//! The corpus lies beside the project (`../shared/corpus`) and is not part of it.

use plum::wire::pcp::{MapRequest, Nonce};
use plum::wire::{Malformed, Transport, natpmp, pcp};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

/// The corpus, or `None` (said on stderr) where it is absent; in CI that is a failure.
fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if path.join("INDEX.tsv").is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "the corpus is missing: {}", path.display());
    // Not by eprintln!, which the output of a test that passes would swallow; and in one piece.
    let text = format!("tests of the corpus were NOT run: it is not at {}\n", path.display());
    let _ = std::io::stderr().write_all(text.as_bytes());
    None
}

/// The files of one folder: name, bytes, facts.
fn files(corpus: &Path, folder: &str) -> Vec<(String, Vec<u8>, Facts)> {
    let index = std::fs::read_to_string(corpus.join("INDEX.tsv")).expect("INDEX.tsv");
    let mut files = Vec::new();
    for row in index.lines() {
        let columns: Vec<&str> = row.split('\t').collect();
        if let [name, .., facts, _note] = columns[..]
            && name.starts_with(&format!("{folder}/"))
        {
            let text = std::fs::read_to_string(corpus.join(name)).expect(name);
            files.push((name.to_owned(), unhex(&text), Facts::read(facts)));
        }
    }
    files
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::chars)
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).expect("a hex digit"))
        .collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// `60 bytes; version 2; opcode 129; result 8 NO_RESOURCES; ...`: the first word names a fact, the rest is it.
struct Facts {
    all: String,
    by_word: BTreeMap<String, String>,
}

impl Facts {
    fn read(text: &str) -> Facts {
        let mut by_word = BTreeMap::new();
        for fact in text.split("; ") {
            let (word, rest) = fact.split_once(' ').unwrap_or((fact, ""));
            by_word.insert(word.to_owned(), rest.to_owned());
        }
        Facts { all: text.to_owned(), by_word }
    }

    /// The first word of a fact.
    fn get(&self, word: &str) -> Option<&str> {
        self.by_word.get(word)?.split(' ').next()
    }

    fn number(&self, word: &str) -> Option<u32> {
        self.get(word)?.parse().ok()
    }

    fn says(&self, text: &str) -> bool {
        self.all.contains(text)
    }

    fn is_request(&self) -> bool {
        self.by_word.contains_key("request")
    }

    fn error_lifetime(&self) -> Option<u32> {
        self.by_word.get("error")?.strip_prefix("lifetime ")?.parse().ok()
    }
}

/// Checks a number against a fact, if there is one.
#[track_caller]
fn agrees(name: &str, facts: &Facts, word: &str, value: impl Into<u32>) {
    if let Some(expected) = facts.number(word) {
        assert_eq!(value.into(), expected, "{name}: {word}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `1.2.3.4:1234` or `[2001:db8::1]:1234`, maybe without the port.
fn endpoint(text: &str) -> (IpAddr, Option<u16>) {
    if let Ok(address) = text.parse() {
        return (address, None);
    }
    let (address, port) = text.rsplit_once(':').expect("address and port");
    let address = address.trim_start_matches('[').trim_end_matches(']');
    (address.parse().expect("an address"), port.parse().ok())
}

/// The names of PCP's result codes, by number, as RFC 6887 §7.4 lists them.
fn pcp_result(code: u32) -> pcp::ResultCode {
    use pcp::ResultCode as R;
    let named = [
        R::Success,
        R::UnsuppVersion,
        R::NotAuthorized,
        R::MalformedRequest,
        R::UnsuppOpcode,
        R::UnsuppOption,
        R::MalformedOption,
        R::NetworkFailure,
        R::NoResources,
        R::UnsuppProtocol,
        R::UserExQuota,
        R::CannotProvideExternal,
        R::AddressMismatch,
        R::ExcessiveRemotePeers,
    ];
    named.get(code as usize).copied().unwrap_or(R::Other(code.try_into().unwrap()))
}

#[test]
fn pcp_messages_parse_to_their_facts() {
    let Some(corpus) = corpus() else { return };
    let files = files(&corpus, "pcp");
    assert!(files.len() >= 14, "only {} files", files.len());
    for (name, bytes, facts) in files {
        if let Some((count, "bytes")) = facts.all.split("; ").next().and_then(|fact| fact.split_once(' ')) {
            assert_eq!(bytes.len().to_string(), count, "{name}: length");
        }
        let parsed = pcp::parse(&bytes);
        if facts.is_request() {
            assert_eq!(parsed, Err(Malformed), "{name} is a request");
            check_pcp_request(&name, &bytes, &facts);
        } else if facts.says("option ignored") {
            // Refused or without the option: what is before it must not be misread.
            assert!(matches!(parsed, Err(Malformed) | Ok(pcp::Reply::Map(..))), "{name}: {parsed:?}");
        } else {
            check_pcp_reply(&name, parsed.unwrap_or_else(|_| panic!("{name} is refused")), &facts);
        }
    }
}

fn check_pcp_reply(name: &str, reply: pcp::Reply, facts: &Facts) {
    let header = match reply {
        pcp::Reply::UnsuppVersion { version } => {
            assert_eq!(facts.number("result"), Some(1), "{name}");
            let expected = if facts.says("fall back to NAT-PMP") { 0 } else { 2 };
            assert_eq!(version, expected, "{name}");
            return;
        }
        pcp::Reply::Announce(header) => {
            assert_eq!(facts.number("opcode"), Some(128), "{name}");
            header
        }
        pcp::Reply::Map(header, map) => {
            agrees(name, facts, "opcode", 129u32);
            agrees(name, facts, "internal", map.internal_port);
            agrees(name, facts, "protocol", if map.transport == Transport::Tcp { 6u32 } else { 17 });
            if let Some(nonce) = facts.get("nonce") {
                assert_eq!(hex(&map.nonce.0), nonce, "{name}: nonce");
            }
            if let Some(external) = facts.get("external") {
                let (address, port) = endpoint(external);
                assert_eq!((map.external_address, Some(map.external_port)), (address, port), "{name}");
            }
            header
        }
    };
    let code = facts.number("result").expect("a result");
    assert_eq!(header.result, pcp_result(code), "{name}: result");
    agrees(name, facts, "lifetime", header.lifetime_secs);
    agrees(name, facts, "epoch", header.epoch_secs);
    if let Some(lifetime) = facts.error_lifetime() {
        assert_eq!(header.lifetime_secs, lifetime, "{name}: lifetime of the error");
    }
}

/// A request of another program, written by us from its facts.
fn check_pcp_request(name: &str, bytes: &[u8], facts: &Facts) {
    let nonce = facts.get("nonce").expect("a nonce");
    let nonce: Vec<u8> =
        (0..12).map(|at| u8::from_str_radix(&nonce[2 * at..2 * at + 2], 16).unwrap()).collect();
    let client: IpAddr = facts.get("client").expect("a client").parse().unwrap();
    let internal_port = facts.number("internal").and_then(|port| NonZeroU16::new(port.try_into().ok()?));
    // Where the index does not say what is suggested, the bytes do.
    let suggested = facts.get("suggested").map(endpoint);
    let suggested_address = suggested.map(|(address, _)| address).or_else(|| match client {
        IpAddr::V4(_) => None,
        IpAddr::V6(_) => Some(IpAddr::from(<[u8; 16]>::try_from(&bytes[44..60]).unwrap())),
    });
    let port = suggested.and_then(|(_, port)| port).unwrap_or(u16::from_be_bytes([bytes[42], bytes[43]]));
    let emitted = MapRequest {
        client,
        nonce: Nonce(nonce.try_into().unwrap()),
        transport: if facts.number("protocol") == Some(6) { Transport::Tcp } else { Transport::Udp },
        internal_port: internal_port.expect("an internal port"),
        suggested_port: NonZeroU16::new(port),
        suggested_address,
        lifetime_secs: facts.number("lifetime").expect("a lifetime"),
    }
    .emit();
    assert_eq!(hex(&emitted), hex(bytes), "{name}");
}

#[test]
fn natpmp_messages_parse_to_their_facts() {
    let Some(corpus) = corpus() else { return };
    let files = files(&corpus, "natpmp");
    assert!(files.len() >= 32, "only {} files", files.len());
    for (name, bytes, facts) in files {
        if let Some((count, "bytes")) = facts.all.split("; ").next().and_then(|fact| fact.split_once(' ')) {
            assert_eq!(bytes.len().to_string(), count, "{name}: length");
        }
        let parsed = natpmp::parse(&bytes);
        if facts.is_request() {
            assert_eq!(parsed, Err(Malformed), "{name} is a request");
            check_natpmp_request(&name, &bytes, &facts);
        } else if facts.says("must be refused") || facts.says("version 2") {
            assert_eq!(parsed, Err(Malformed), "{name}");
        } else {
            check_natpmp_reply(&name, parsed.unwrap_or_else(|_| panic!("{name} is refused")), &facts);
        }
    }
}

fn check_natpmp_reply(name: &str, reply: natpmp::Reply, facts: &Facts) {
    let result = match reply {
        natpmp::Reply::SpeaksPcp => panic!("{name} is not of PCP"),
        natpmp::Reply::CutMapError { result, epoch_secs, transport } => {
            agrees(name, facts, "epoch", epoch_secs);
            agrees(name, facts, "opcode", if transport == Transport::Tcp { 130u32 } else { 129 });
            result
        }
        natpmp::Reply::Address { result, epoch_secs, address } => {
            agrees(name, facts, "epoch", epoch_secs);
            if let Some(expected) = facts.get("external").or(facts.get("address")) {
                assert_eq!(address.to_string(), expected, "{name}: address");
            }
            result
        }
        natpmp::Reply::Map { result, epoch_secs, transport, internal_port, external_port, lifetime_secs } => {
            agrees(name, facts, "epoch", epoch_secs);
            agrees(name, facts, "opcode", if transport == Transport::Tcp { 130u32 } else { 129 });
            agrees(name, facts, "internal", internal_port);
            agrees(name, facts, "external", external_port);
            agrees(name, facts, "lifetime", lifetime_secs);
            result
        }
    };
    let code = u16::try_from(facts.number("result").expect("a result")).unwrap();
    assert_eq!(result, natpmp::ResultCode::from(code), "{name}: result");
    assert_eq!(result == natpmp::ResultCode::Success, code == 0, "{name}: an error is an error");
    assert_eq!(result == natpmp::ResultCode::Other(code), code > 5, "{name}: an unassigned code survives");
}

fn check_natpmp_request(name: &str, bytes: &[u8], facts: &Facts) {
    let emitted = match facts.number("opcode").expect("an opcode") {
        0 => natpmp::emit_address_request().to_vec(),
        opcode => natpmp::MapRequest {
            transport: if opcode == 2 { Transport::Tcp } else { Transport::Udp },
            internal_port: NonZeroU16::new(facts.number("internal").unwrap().try_into().unwrap()).unwrap(),
            suggested_port: NonZeroU16::new(facts.number("external").unwrap().try_into().unwrap()),
            lifetime_secs: facts.number("lifetime").unwrap(),
        }
        .emit()
        .to_vec(),
    };
    assert_eq!(hex(&emitted), hex(bytes), "{name}");
}
