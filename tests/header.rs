//! The header of each ABI is what cbindgen makes of src, and of the versions in Cargo.toml.

#[path = "../build.rs"]
#[allow(clippy::print_stdout, dead_code, reason = "it is a program")]
mod build;

use build::{Abi, abis, choose_abi};
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of an ABI's header.
fn folder(abi: &Abi) -> PathBuf {
    let include = Path::new("include");
    if choose_abi(&abis(), None) == Ok(abi) {
        include.to_owned()
    } else {
        include.join(format!("abi-{}", abi.name))
    }
}

/// Its two files, each the whole header: for `#include "plum.h"` and for `#include <plum/plum.h>`, and for those who keep one of them.
fn paths(abi: &Abi) -> [PathBuf; 2] {
    ["plum.h", "plum/plum.h"].map(|file| folder(abi).join(file))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What all headers are cut from, freshly made.
fn generate() -> String {
    let root = Path::new(ROOT);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/lib.rs"))
        .generate()
        .expect("src can be read");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).expect("the sources are UTF-8");
    // What a caller has to see to is a heading of its own in Rust's documentation, with this name.
    header.replace(" * # Safety\n *\n", " * Requires:\n")
}

/// The header of one ABI.
fn header(generated: &str, abi: &Abi) -> String {
    let lines: Vec<&str> = generated.lines().map(str::trim_end).collect(); // cbindgen leaves spaces behind
    let lines = own_paragraphs(&own_lines(&lines, &abi.name), &abi.name);
    let mut header = String::new();
    for line in lines {
        header.push_str(&line.replace("@PLUM_VERSION@", &abi.version));
        header.push('\n');
    }
    header
}

/// For an `#if` that cbindgen made of a condition on `plum_abi`: whether this ABI is meant. `None`: for any other line.
fn is_meant(line: &str, name: &str) -> Option<bool> {
    let condition = line.strip_prefix("#if ")?;
    let (condition, is_negated) = condition.strip_prefix('!').map_or((condition, false), |rest| (rest, true));
    let other = condition.strip_prefix("defined(PLUM_ABI_")?.strip_suffix(')')?;
    Some((other.replace('_', ".") == name) != is_negated)
}

/// The lines without those that cbindgen marked as another ABI's, and without its marks.
fn own_lines(lines: &[&str], name: &str) -> Vec<String> {
    let mut own: Vec<String> = Vec::new();
    // Of each open #if: None where it is none of cbindgen's marks, else whether this ABI is meant.
    let mut open: Vec<Option<bool>> = Vec::new();
    let mut left_out = false;
    for &line in lines {
        let text = line.trim_start();
        let is_mark = if text.starts_with("#if") {
            open.push(is_meant(text, name));
            open.last() != Some(&None)
        } else if text.starts_with("#endif") {
            open.pop().expect("#if and #endif match").is_some()
        } else {
            false
        };
        let is_other = open.contains(&Some(false));
        let last = own.last_mut();
        if is_mark || is_other {
            left_out = true;
        } else if line.is_empty() && left_out && last.as_ref().is_some_and(|last| last.is_empty()) {
            // Around what was left out one empty line is enough.
        } else if let (";", Some(last)) = (line.trim_start(), last) {
            // Of a marked field, whose mark ends before it; perhaps of one that was left out.
            if !last.ends_with(';') {
                last.push(';');
            }
        } else {
            own.push(line.to_owned());
            left_out = false;
        }
    }
    assert!(open.is_empty(), "#if and #endif match");
    own
}

/// The lines without those paragraphs of comments that begin with the name of another ABI, and without the name of this one. A shorter
/// name is that of several: 0.6.
fn own_paragraphs(lines: &[String], name: &str) -> Vec<String> {
    let mut own: Vec<String> = Vec::new();
    let mut is_other = false;
    for line in lines {
        let text = line.trim_start();
        let last = own.last().map_or("", |last| last.trim_start());
        if let Some((named, rest)) = text.strip_prefix("* ABI ").and_then(|rest| rest.split_once(": ")) {
            is_other = name != named && !name.starts_with(&format!("{named}."));
            if !is_other {
                own.push(line.replace(text, &format!("* {rest}")));
            }
            continue;
        } else if text == "*" {
            is_other = false;
            if last == "*" || last == "/**" {
                // One is enough, and none at the beginning.
                continue;
            }
        } else if text == "*/" {
            is_other = false;
            if last == "*" {
                own.pop();
            }
        }
        if !is_other {
            own.push(line.clone());
        }
    }
    own
}

/// `PLUM_BLESS=1 cargo test --test header` writes the headers instead.
#[test]
fn the_committed_headers_are_the_generated_ones() {
    let generated = generate();
    for abi in &abis() {
        let generated = header(&generated, abi);
        for path in paths(abi) {
            if std::env::var_os("PLUM_BLESS").is_some() {
                std::fs::write(Path::new(ROOT).join(&path), &generated).expect("the header can be written");
            }
            let committed = read(&path);
            let path = path.display();
            for (number, (committed, generated)) in committed.lines().zip(generated.lines()).enumerate() {
                assert_eq!(committed, generated, "{path}:{}: write it anew with PLUM_BLESS=1", number + 1);
            }
            assert_eq!(
                committed.len(),
                generated.len(),
                "{path} has drifted: write it anew with PLUM_BLESS=1"
            );
        }
    }
}

#[test]
fn the_headers_are_for_c_programmers() {
    for abi in &abis() {
        let [path, _] = paths(abi);
        let header = read(&path);
        for word in [
            "# Safety",
            "# Errors",
            "# Panics",
            "MaybeUninit",
            "usize",
            "Option<",
            "c_int",
            "`None`",
            "ABI 0.",
            "PLUM_ABI",
            "@PLUM",
        ] {
            assert!(!header.contains(word), "{} says {word:?}", path.display());
        }
        assert_eq!(rust_path(&header), None, "{}", path.display());
    }
}

/// A Rust path, as in `client::Error`. In an IPv6 address digits stand around the colons, if anything.
fn rust_path(text: &str) -> Option<&str> {
    let is_letter = |c: char| c.is_alphabetic() || c == '_';
    text.match_indices("::").find_map(|(at, colons)| {
        let (before, after) = (&text[..at], &text[at + colons.len()..]);
        (before.ends_with(is_letter) || after.starts_with(is_letter)).then(|| &text[at..])
    })
}

#[test]
fn this_test_tells_a_rust_path_from_an_address() {
    for text in ["2600::1", "`fe80::1%eth0`", "\"::\"", "::1"] {
        assert_eq!(rust_path(text), None, "{text}");
    }
    for text in ["client::Error", "u8::MAX", "Self::new", "Vec::<u8>"] {
        assert!(rust_path(text).is_some(), "{text}");
    }
}

#[test]
fn the_header_of_an_abi_knows_nothing_of_later_ones() {
    let lacks = |path: &str, words: &[&str]| {
        let header = read(path);
        for word in words {
            assert!(!header.contains(word), "{path} says {word:?}");
        }
    };
    let of_0_6_2 = ["plum_protocol_t", "PLUM_PROTOCOL_", "plum_set_log_level"];
    let of_0_6_0 = ["mapping_protocol", "discover_timeout", "mapping_timeout", "recheck_period"];
    lacks("include/abi-0.6.0/plum.h", &of_0_6_2);
    lacks("include/abi-0.5/plum.h", &of_0_6_2);
    lacks("include/abi-0.5/plum.h", &of_0_6_0);
    // The state's name stays; that a callback tells of it is said nowhere.
    lacks("include/abi-0.5/plum.h", &["with DESTROYED", "DESTROYED comes"]);
}

/// The names that the libraries are built with are those that the headers declare.
#[test]
fn the_headers_declare_what_the_libraries_export() {
    for abi in &abis() {
        let [path, _] = paths(abi);
        let header = read(path);
        let mut declared: Vec<&str> = header
            .lines()
            .filter(|line| !line.starts_with([' ', '#', '/', '}']) && !line.starts_with("typedef"))
            .filter_map(|line| line.split_once('('))
            .map(|(before, _)| before.rsplit(' ').next().expect("a name"))
            .collect();
        declared.sort_unstable();
        let exported = read(format!("cmake/exported-{}.txt", abi.name));
        assert_eq!(declared, exported.lines().collect::<Vec<_>>(), "ABI {}", abi.name);
    }
}

#[test]
fn this_test_tells_the_abis_apart() {
    let lines = [
        "#ifdef X",
        "a;",
        "#if !defined(PLUM_ABI_0_5)",
        "b",
        "#endif",
        ";",
        "",
        "#if defined(PLUM_ABI_0_5)",
        "c",
        "#endif",
        "",
        "d",
        "#endif // X",
    ];
    assert_eq!(own_lines(&lines, "0.7.1"), ["#ifdef X", "a;", "b;", "", "d", "#endif // X"]);
    assert_eq!(own_lines(&lines, "0.5"), ["#ifdef X", "a;", "", "c", "", "d", "#endif // X"]);

    let lines =
        ["/**", " * ABI 0.7: a", " * a", " *", " * b", " *", " * ABI 0.5: c", " */", "d"].map(str::to_owned);
    assert_eq!(own_paragraphs(&lines, "0.7.1"), ["/**", " * a", " * a", " *", " * b", " */", "d"]);
    assert_eq!(own_paragraphs(&lines, "0.5"), ["/**", " * b", " *", " * c", " */", "d"]);
}
