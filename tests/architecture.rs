//! What cargo and clippy cannot say of the sources: where `unsafe` stands, and where code depends on the system. Line by line.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of the library that hold `unsafe`, and how often: a file is read again where its number changes.
const UNSAFE: [(&str, usize); 25] = [
    ("crates/runtime/src/net/arrival.rs", 5),
    ("crates/runtime/src/net/bsd/dump.rs", 1),
    ("crates/runtime/src/net/bsd/ipv6.rs", 1),
    ("crates/runtime/src/net/bsd/mod.rs", 2),
    ("crates/runtime/src/net/cancellation.rs", 2),
    ("crates/runtime/src/net/descriptors.rs", 1),
    ("crates/runtime/src/net/generation.rs", 5),
    ("crates/runtime/src/net/interfaces.rs", 10),
    ("crates/runtime/src/net/linux/mod.rs", 5),
    ("crates/runtime/src/net/linux/watch.rs", 3),
    ("crates/runtime/src/net/output.rs", 2),
    ("crates/runtime/src/net/per_process.rs", 4),
    ("crates/runtime/src/net/signals.rs", 15),
    ("crates/runtime/src/net/unix_clock.rs", 2),
    ("crates/runtime/src/net/wall_clock.rs", 2),
    ("crates/runtime/src/net/windows/clock.rs", 11),
    ("crates/runtime/src/net/windows/ipv6.rs", 9),
    ("crates/runtime/src/net/windows/mod.rs", 3),
    ("crates/runtime/src/net/windows/route.rs", 10),
    ("crates/runtime/src/net/windows/watch.rs", 16),
    ("src/lib.rs", 20),
    ("src/listener.rs", 3),
    ("src/memory.rs", 12),
    ("src/read.rs", 14),
    ("src/types.rs", 2),
];

/// Where code is compiled under a condition, outside the runtime's `net` and the build files: file or folder, conditions, why.
const CONDITIONS: [(&str, &[&str], &str); 10] = [
    ("", &["test"], "tests"),
    (
        "src",
        &[
            r#"plum_abi = "0.5""#,
            r#"not(plum_abi = "0.5")"#,
            r#"plum_abi = "0.6.2""#,
            r#"not(plum_abi = "0.6.2")"#,
        ],
        "fewer fields and functions: ABIs 0.5 and 0.6.0",
    ),
    (
        "src/boundary.rs",
        &[r#"feature = "own-std""#, r#"any(feature = "own-std", test)"#],
        "whose the panic hook is",
    ),
    (
        "crates/gateway/src/server/alarm.rs",
        &[r#"target_os = "linux""#, r#"not(target_os = "linux")"#],
        "the simulated gateway's timer is exact where the system has an exact one",
    ),
    (
        "tests",
        &["unix", "not(unix)", r#"target_os = "linux""#],
        "tests of signals, forks, descriptors and namespaces, and what stands for them elsewhere: each says so",
    ),
    ("tests", &[r#"plum_abi = "0.6.2""#], "functions that the other ABIs have not"),
    (
        "crates/cli/src",
        &["unix", "not(unix)"],
        "signals, groups of processes and the shell are of Unix; Windows has others",
    ),
    ("crates/plum", &["doctest"], "the examples of the README"),
    (
        "crates/plum",
        &[r#"feature = "log""#, r#"feature = "serde""#, r#"any(feature = "log", feature = "serde")"#],
        "optional features",
    ),
    ("tests/interleavings", &["shuttle"], "built by tests/interleavings/run alone"),
];

/// All Rust files of a folder and those in it, sorted.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path from the project's root, with slashes.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).expect("it is below").to_string_lossy().replace('\\', "/")
}

/// The lines of a file that are code.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("the file can be read");
    text.lines().map(str::trim).filter(|line| !line.starts_with("//")).map(str::to_owned).collect()
}

/// How often a line has `unsafe` as a word. `unsafe(no_mangle)` is the name of a function, which the linker checks.
fn count_unsafe(line: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices("unsafe")
        .filter(|(at, word)| {
            let (before, after) = (&line[..*at], &line[at + word.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word) && !after.starts_with("(no_mangle)")
        })
        .count()
}

/// The condition of a `#[cfg(...)]`, `#![cfg(...)]` or `cfg!(...)` of a line.
fn condition(line: &str) -> Option<&str> {
    let rest = ["#[cfg(", "#![cfg(", "cfg!("].iter().find_map(|start| line.split_once(start))?.1;
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    end.map(|end| &rest[..end])
}

#[test]
fn unsafe_stands_where_it_was_read() {
    let mut found = Vec::new();
    for folder in ["crates/engine/src", "crates/plum/src", "crates/runtime/src", "crates/wire/src", "src"] {
        for path in rust_files(&root().join(folder)) {
            let is_test =
                path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
            let count: usize = code(&path).iter().map(|line| count_unsafe(line)).sum();
            if count > 0 && !is_test {
                found.push((name(&path), count));
            }
        }
    }
    assert_eq!(found, UNSAFE.map(|(path, count)| (path.to_owned(), count)));
}

#[test]
fn code_depends_on_the_system_in_net_alone() {
    let mut wrong = Vec::new();
    let mut used = [false; CONDITIONS.len()];
    for folder in ["src", "crates", "tests", "benches", "examples"] {
        for path in rust_files(&root().join(folder)) {
            let name = name(&path);
            if name.starts_with("crates/runtime/src/net/") || path.ends_with(file!()) {
                continue;
            }
            for line in code(&path) {
                let Some(condition) = condition(&line) else { continue };
                let allowed = CONDITIONS.iter().position(|(place, conditions, _)| {
                    let is_there = name.starts_with(place) || place == &"tests" && name.contains("/tests/");
                    is_there && conditions.contains(&condition)
                });
                match allowed {
                    Some(row) => used[row] = true,
                    None => wrong.push(format!("{name}: {condition}")),
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(used, [true; CONDITIONS.len()], "every exception is one");
}

/// The calls of the log that print a type of ours as Rust does (`{:?}`), or an address and a port without the brackets of IPv6
/// (`{}:{}` in place of a `SocketAddr`).
fn badly_formatted(code: &str) -> Vec<&str> {
    let calls = ["log!(", "format_args!("].into_iter().flat_map(|start| code.split(start).skip(1));
    calls
        .filter_map(|rest| rest.split(");").next())
        .filter(|call| call.contains(":?}") || call.contains("}:{"))
        .collect()
}

#[test]
fn log_lines_are_for_people() {
    for folder in ["crates/engine/src", "crates/plum/src", "crates/runtime/src", "src"] {
        for path in rust_files(&root().join(folder)) {
            assert_eq!(badly_formatted(&code(&path).join("\n")), [""; 0], "{}", name(&path));
        }
    }
}

#[test]
fn this_test_finds_what_it_looks_for() {
    let bad = r#"log!(Debug, "{state:?}"); log!(Info, "{}", a); format_args!("at {address}:{port}");"#;
    assert_eq!(badly_formatted(bad).len(), 2);
    assert_eq!(count_unsafe("unsafe { f() }; #[unsafe(no_mangle)] is_unsafe(unsafe_code) unsafe fn"), 2);
    assert_eq!(condition("#[cfg(any(a, not(b)))] mod c;"), Some("any(a, not(b))"));
    assert_eq!(condition("if cfg!(windows) {"), Some("windows"));
    assert_eq!(condition("let cfg = 1;"), None);
}
