//! What the readers make of messages of gateways, against the facts of an index.
//!
//! There are two corpora. The project's own lies in this folder: a small file for each quirk (README.md). Messages of real
//! devices lie beside the project, in `../shared/corpus`, for their licences; they are read where they are there.

mod documents;
mod index;
mod packets;
mod replies;

use index::Row;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the shared corpus says otherwise, or leaves to the reader, by the ends of its files' names.
const AMENDMENTS: [(&str, &str); 9] = [
    // Its beginning is cut off, and with it the root device: the first device that is left is taken for it.
    ("/malformed-offbynull-truncated-head.xml", "rootDeviceType=urn:schemas-upnp-org:device:WANDevice:1"),
    ("/fritzbox-html-401-unauthorized.xml", "refused"),
    // A search is nobody's answer.
    ("/ktorrent-msearch-and-reply-concatenated.txt", "refused"),
    // Only the first of two messages counts.
    ("/recon-two-messages-in-one-buffer.txt", "LOCATION=http://192.0.2.1:1900/gatedesc.xml"),
    ("/mmupnp-location-five-octets.txt", "unusable LOCATION"),
    ("/mmupnp-location-https.txt", "unusable LOCATION"),
    ("/speedtouch-510-bad-location.txt", "unusable LOCATION"),
    ("/recon-pcp-version-12-bytes.hex", "refused"),
    ("/recon-pcp-version-2-bytes.hex", "refused"),
];

/// How many messages of real devices there are.
const SHARED: usize = 307;

fn own() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Where the messages of real devices are, if they are there.
fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    if folder.join("INDEX.tsv").is_file() {
        return Some(folder);
    }
    let is_required = std::env::var_os("PLUM_CORPUS").is_some_and(|value| value == "required");
    assert!(!is_required, "PLUM_CORPUS=required, but there is no corpus at {}", folder.display());
    None
}

/// All messages of real devices; none where they are not there.
fn read_shared() -> Vec<Row> {
    let Some(folder) = shared() else { return Vec::new() };
    let mut rows = index::read(&folder);
    assert!(rows.len() >= SHARED, "only {} files", rows.len());
    for (end, fact) in AMENDMENTS {
        let row = rows.iter_mut().find(|row| row.file.ends_with(end));
        row.unwrap_or_else(|| panic!("no file {end}")).amend(fact);
    }
    rows
}

/// The messages of one folder, of both corpora.
fn messages(folder: &str) -> Vec<Row> {
    let mut rows = index::read(&own());
    rows.extend(read_shared());
    rows.retain(|row| row.file.split('/').next() == Some(folder));
    assert!(rows.iter().any(|row| row.is_own), "nothing of our own in {folder}");
    rows
}

#[test]
fn each_of_our_own_files_has_one_row_with_its_device_and_its_quirk() {
    let index = std::fs::read_to_string(own().join("INDEX.tsv")).expect("INDEX.tsv");
    let mut lines = index.lines();
    assert_eq!(lines.next(), Some("file\tfacts\tdevice\tquirk"));
    let mut named = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "four cells: {line}");
        assert!(cells[3].ends_with('.'), "a sentence: {line}");
        named.push(cells[0].to_owned());
    }
    assert!(named.is_sorted(), "the rows are sorted");

    let entries =
        |folder: &Path| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().expect("our names are ASCII");
    let mut found = Vec::new();
    for folder in entries(&own()).filter(|entry| entry.path().is_dir()) {
        for file in entries(&folder.path()) {
            let length = file.metadata().expect("its length").len();
            assert!(length <= 2048, "{length} octets are more than a quirk takes: {:?}", file.path());
            found.push(format!("{}/{}", name(&folder), name(&file)));
        }
    }
    found.sort();
    assert_eq!(named, found, "the rows, and the files");
    let folders: BTreeSet<&str> = named.iter().filter_map(|file| file.split('/').next()).collect();
    assert_eq!(
        folders.into_iter().collect::<Vec<_>>(),
        ["http", "igd-desc", "natpmp", "pcp", "scpd", "soap", "ssdp"]
    );
}
