//! The sources keep to the layers of ARCHITECTURE.md. This reads them; it does not know Rust, only its tokens.

use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may use beside itself, as prefixes of paths from the crate's root.
const LAYERS: [(&str, &[&str]); 12] = [
    ("time", &[]),
    // Locks and threads.
    ("sync", &[]),
    ("ordered", &[]),
    ("wire", &[]),
    ("net", &["sync", "time"]),
    // The time of day in its lines, their way out, whose log it is, and what no line may have in it.
    (
        "log",
        &[
            "net::PerProcess",
            "net::end_thread_in_child",
            "net::output_is_terminal",
            "net::thread_mark",
            "net::wall_clock",
            "net::write_output",
            "sync",
            "wire::is_disruptive",
        ],
    ),
    ("engine", &["wire", "log", "ordered", "time"]),
    ("worker", &["engine", "net", "log", "ordered", "sync", "time"]),
    ("dummytls", &["wire::http", "net", "log", "sync", "time"]),
    (
        "client",
        &[
            "worker",
            "engine::io",
            "dummytls",
            "log",
            "ordered",
            "sync",
            "time",
            "net::Inheritable",
            "net::end_thread_in_child",
            "net::environment",
            "net::generation",
            "net::local_address",
            "net::start_thread",
            "net::thread_mark",
        ],
    ),
    // The values that the client's functions take and give.
    (
        "api",
        &[
            "client",
            "engine::Engine",
            "engine::Reason",
            "engine::io",
            "wire::Transport",
            "log",
            "ordered",
            "sync",
            "time::Time",
            "net::PerProcess",
            "net::generation",
            "net::start_thread",
        ],
    ),
    (
        "ffi",
        &[
            "client",
            "dummytls::File",
            "engine::io",
            "wire::Transport",
            "net::PerProcess",
            "net::Uncancelled",
            "log",
        ],
    ),
];

/// The layers that may hold `unsafe`: pointers are ffi's, system calls net's.
const UNSAFE_LAYERS: [&str; 2] = ["ffi", "net"];

/// Their files that do hold it, and how often, so that none slips in: it is to be read again where one of these changes.
const UNSAFE_FILES: [(&str, usize); 22] = [
    ("ffi/listener.rs", 3),
    ("ffi/memory.rs", 9),
    ("ffi/mod.rs", 20),
    ("ffi/read.rs", 14),
    ("ffi/types.rs", 2),
    ("net/arrival.rs", 14),
    ("net/bsd/dump.rs", 1),
    ("net/bsd/mod.rs", 2),
    ("net/cancellation.rs", 2),
    ("net/descriptors.rs", 1),
    ("net/generation.rs", 5),
    ("net/linux/mod.rs", 6),
    ("net/linux/watch.rs", 3),
    ("net/output.rs", 2),
    ("net/per_process.rs", 4),
    ("net/signals.rs", 13),
    ("net/unix_clock.rs", 2),
    ("net/wall_clock.rs", 2),
    ("net/windows/clock.rs", 11),
    ("net/windows/mod.rs", 3),
    ("net/windows/route.rs", 10),
    ("net/windows/watch.rs", 10),
];

/// Words that stand nowhere, or in some layers only, and why.
const BANNED: [(&str, &[&str], &str); 9] = [
    ("Instant", &["net"], "it stands still while the machine sleeps: use time::Time"),
    ("SystemTime", &["net"], "it jumps: use time::Time"),
    ("println!", &[], "standard output is the program's: use log!"),
    ("print!", &[], "standard output is the program's: use log!"),
    ("eprintln!", &[], "standard error is the program's: use log!"),
    ("eprint!", &[], "standard error is the program's: use log!"),
    ("dbg!", &[], "standard error is the program's: use log!"),
    ("todo!", &[], "the library does not panic"),
    ("unimplemented!", &[], "the library does not panic"),
];

/// Where code is compiled under a condition, outside `net` and the build files: file or folder, conditions, why.
const CONDITIONS: [(&str, &[&str], &str); 9] = [
    ("", &["test"], "tests"),
    ("src/worker/mod.rs", &["shuttle"], "a worker without sockets: tests/interleavings"),
    (
        "src/ffi",
        &[
            r#"plum_abi = "0.5""#,
            r#"not(plum_abi = "0.5")"#,
            r#"plum_abi = "0.6.2""#,
            r#"not(plum_abi = "0.6.2")"#,
        ],
        "fewer fields and functions: ABIs 0.5 and 0.6.0",
    ),
    (
        "src/ffi/boundary.rs",
        &[r#"feature = "own-std""#, r#"any(feature = "own-std", test)"#],
        "whose the panic hook is",
    ),
    (
        "gateway/src/server/alarm.rs",
        &[r#"target_os = "linux""#, r#"not(target_os = "linux")"#],
        "the simulated gateway's timer is exact where the system has an exact one",
    ),
    (
        "tests",
        &["unix", "not(unix)", r#"target_os = "linux""#],
        "tests of signals, forks, descriptors and namespaces, and what stands for them elsewhere: each says so",
    ),
    ("tests", &[r#"plum_abi = "0.6.2""#], "functions that the other ABIs have not"),
    ("tests/interleavings", &["shuttle"], "built by tests/interleavings/run alone"),
    (
        "cli/tests",
        &["unix", r#"target_os = "linux""#],
        "signals and a pseudo-terminal for the command, and a file that is always full",
    ),
];

struct Source {
    path: PathBuf,
    /// Of the module: `src/wire/http/reply.rs` is `wire`, `http`, `reply`.
    module: Vec<String>,
    /// Without comments, texts and test modules.
    code: String,
}

impl Source {
    fn layer(&self) -> &str {
        &self.module[0]
    }
}

/// All of src but lib.rs and the files of tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    for path in rust_files(&root) {
        if path == root.join("lib.rs") {
            continue;
        }
        let inner = path.strip_prefix(&root).expect("it is below").with_extension("");
        let mut module: Vec<String> =
            inner.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        if module.iter().any(|part| part == "tests") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file can be read");
        sources.push(Source { path, module, code: without_tests(&without_texts(&text)) });
    }
    assert!(sources.len() >= LAYERS.len(), "the sources are where this test looks for them");
    sources
}

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

/// The conditions of each `cfg(...)`, `cfg!(...)` and `cfg_attr(...)`; of the last, with what it attributes.
fn conditions(text: &str) -> Vec<String> {
    // Character by character as long as the text.
    let code = without_texts(text);
    let text: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    for word in ["cfg", "cfg_attr"] {
        for at in find_words(&code, word) {
            let mut depth = 0;
            let inner: String = code[at + word.len()..]
                .char_indices()
                .skip_while(|&(_, c)| c != '(')
                .take_while(|&(_, c)| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    depth > 0
                })
                .skip(1)
                .map(|(offset, _)| text[code[..at + word.len() + offset].chars().count()])
                .collect();
            found.push(inner);
        }
    }
    found
}

/// The code with comments and the contents of literals replaced by spaces.
fn without_texts(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    let starts =
        |at: usize, what: &str| what.chars().enumerate().all(|(n, c)| characters.get(at + n) == Some(&c));
    while at < characters.len() {
        let from = at;
        let in_word = at > 0 && is_word(characters[at - 1]);
        if starts(at, "//") {
            while at < characters.len() && characters[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if depth == 0 || at >= characters.len() {
                    break;
                }
            }
        } else if let Some(hashes) = (!in_word).then(|| raw_literal(&characters[at..])).flatten() {
            while characters[at] != '"' {
                at += 1;
            }
            let end = format!("\"{}", "#".repeat(hashes));
            at += 1;
            while at < characters.len() && !starts(at, &end) {
                at += 1;
            }
            at += end.len();
        } else if characters[at] == '"' {
            at += 1;
            while at < characters.len() && characters[at] != '"' {
                at += if characters[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if characters[at] == '\'' && (starts(at + 1, "\\") || characters.get(at + 2) == Some(&'\'')) {
            // A character; a lifetime has no second quote there.
            at += if starts(at + 1, "\\") { 3 } else { 2 };
            while at < characters.len() && characters[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else {
            code.push(characters[at]);
            at += 1;
            continue;
        }
        let skipped = &characters[from..at.min(characters.len())];
        code.extend(skipped.iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
    }
    code
}

/// If a raw literal begins here, how many hashes it has.
fn raw_literal(characters: &[char]) -> Option<usize> {
    let mut rest = characters;
    if let Some((&('b' | 'c'), after)) = rest.split_first() {
        rest = after;
    }
    let Some((&'r', after)) = rest.split_first() else { return None };
    let hashes = after.iter().take_while(|&&c| c == '#').count();
    (after.get(hashes) == Some(&'"')).then_some(hashes)
}

/// The code without its `#[cfg(test)] mod ... { ... }`.
fn without_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    while let Some(from) = kept.find("#[cfg(test)]") {
        let rest = &kept[from..];
        let end = match (rest.find('{'), rest.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                let mut depth = 0;
                let closed = rest[open..].char_indices().find(|&(_, c)| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth == 0
                });
                open + closed.expect("braces match").0 + 1
            }
            (_, Some(semicolon)) => semicolon + 1,
            (_, None) => rest.len(),
        };
        kept.replace_range(from..from + end, "");
    }
    kept
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands as a whole word; a `!` at its end belongs to it.
fn find_words(code: &str, word: &str) -> Vec<usize> {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| {
            let before = code[..at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && (word.ends_with('!') || !after.is_some_and(is_word))
        })
        .collect()
}

/// The paths from the crate's root that a module names, by `crate::` or by `super::`.
fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for at in find_words(code, "crate") {
        if let Some(rest) = path_separator(&code[at + "crate".len()..]) {
            expand(rest, Vec::new(), &mut paths);
        }
    }
    for at in find_words(code, "super") {
        // The first of a chain; the chain follows it.
        if code[..at].trim_end().ends_with("::") {
            continue;
        }
        if path_separator(&code[at + "super".len()..]).is_none() {
            // pub(super)
            continue;
        }
        let mut base = module.to_vec();
        let mut rest = &code[at..];
        while let Some(after) = rest.strip_prefix("super").and_then(path_separator) {
            base.pop();
            rest = after;
        }
        expand(rest, base, &mut paths);
    }
    paths
}

/// What follows `::`.
fn path_separator(code: &str) -> Option<&str> {
    code.trim_start().strip_prefix("::").map(str::trim_start)
}

/// Adds the path at the start of `code`, or the paths where it has groups; gives back what follows.
fn expand<'a>(code: &'a str, mut base: Vec<String>, paths: &mut Vec<Vec<String>>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let after = expand(rest, base.clone(), paths);
            // Renamed: `as name`.
            let after = after.find([',', '}', '{']).map_or("", |end| &after[end..]);
            assert!(after.len() < rest.len(), "a group of paths ends");
            rest = after;
        }
    }
    let length = code.find(|c| !is_word(c)).unwrap_or(code.len());
    let (word, rest) = code.split_at(length);
    if word != "self" && !word.is_empty() {
        base.push(word.to_owned());
    }
    match path_separator(rest) {
        Some(after) if after.starts_with(|c| is_word(c) || c == '{') => expand(after, base, paths),
        _ => {
            paths.push(base);
            rest
        }
    }
}

/// Whether a module of `layer` may use `path`.
fn is_allowed(layer: &str, path: &[String]) -> bool {
    // A name of the crate's root: a macro, exported by a layer of its own.
    let Some(used) = path.first().filter(|first| LAYERS.iter().any(|(name, _)| name == first)) else {
        return true;
    };
    let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == layer).expect("every module is of a layer");
    used == layer
        || allowed.iter().any(|prefix| {
            let prefix: Vec<&str> = prefix.split("::").collect();
            path.len() >= prefix.len() && path.iter().zip(&prefix).all(|(a, b)| a == b)
        })
}

#[test]
fn every_module_is_of_a_known_layer() {
    for source in sources() {
        assert!(LAYERS.iter().any(|(name, _)| *name == source.layer()), "{}", source.path.display());
    }
}

#[test]
fn layers_use_only_the_layers_below() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources() {
        for path in paths(&source.code, &source.module) {
            seen += 1;
            if !is_allowed(source.layer(), &path) {
                wrong.push(format!("{}: crate::{}", source.path.display(), path.join("::")));
            }
        }
    }
    assert!(seen > 20, "the paths are found");
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn banned_words_stand_nowhere() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, layers, why) in BANNED {
            if !layers.contains(&source.layer()) && !find_words(&source.code, word).is_empty() {
                wrong.push(format!("{}: {word}: {why}", source.path.display()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn no_lock_of_the_process_outlives_a_fork() {
    // A thread that the child does not have may hold it for ever: see "The child of a fork" in ARCHITECTURE.md. No process is
    // forked on Windows, and `other` is for systems of which nothing is known.
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources() {
        let is_exempt =
            source.path.ends_with("src/net/other.rs") || source.module.iter().any(|part| part == "windows");
        for at in find_words(&source.code, "static").into_iter().filter(|_| !is_exempt) {
            let kind: String = source.code[at..].chars().take_while(|&c| c != '=' && c != ';').collect();
            let is_lock = ["Mutex", "RwLock", "Condvar", "Once", "OnceLock", "LazyLock"]
                .iter()
                .any(|lock| !find_words(&kind, lock).is_empty());
            let is_static = kind.trim_start_matches("static").trim_start().starts_with(char::is_uppercase);
            seen += usize::from(is_static);
            if is_static && is_lock && find_words(&kind, "PerProcess").is_empty() {
                wrong.push(format!("{}: {kind}", source.path.display()));
            }
        }
    }
    assert!(seen > 5, "statics are found");
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn decisions_do_not_hang_on_the_order_of_a_hash_map() {
    for source in sources().iter().filter(|source| source.layer() == "engine") {
        for word in ["HashMap", "HashSet"] {
            assert!(find_words(&source.code, word).is_empty(), "{}: {word}", source.path.display());
        }
    }
}

#[test]
fn every_layer_without_unsafe_forbids_it() {
    let sources = sources();
    for (layer, _) in LAYERS.iter().filter(|(layer, _)| !UNSAFE_LAYERS.contains(layer)) {
        let root = sources.iter().find(|source| source.module == [*layer]).expect("every layer has a root");
        let first = root.code.lines().map(str::trim).find(|line| !line.is_empty());
        assert_eq!(first, Some("#![forbid(unsafe_code)]"), "{}", root.path.display());
    }
}

#[test]
fn unsafe_stands_where_it_was_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found: Vec<(String, usize)> = sources()
        .iter()
        .map(|source| {
            let path = source.path.strip_prefix(&root).expect("it is below").to_string_lossy().into_owned();
            let count = find_words(&source.code, "unsafe").len();
            // `unsafe(no_mangle)` is the name of a function, which the linker checks.
            (path, count - source.code.matches("#[unsafe(no_mangle)]").count())
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(found, UNSAFE_FILES.map(|(path, count)| (path.to_owned(), count)));
    for (path, _) in UNSAFE_FILES {
        assert!(UNSAFE_LAYERS.iter().any(|layer| path.starts_with(&format!("{layer}/"))), "{path}");
    }
}

#[test]
fn code_depends_on_the_system_in_net_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut used = [false; CONDITIONS.len()];
    for folder in ["src", "cli", "crates", "gateway", "simulation", "tests", "benches", "examples"] {
        for path in rust_files(&root.join(folder)) {
            let name = path.strip_prefix(root).expect("it is below");
            if name.starts_with("src/net") {
                continue;
            }
            for condition in conditions(&fs::read_to_string(&path).expect("the file can be read")) {
                let allowed = CONDITIONS.iter().position(|(place, conditions, _)| {
                    name.starts_with(place) && conditions.contains(&condition.as_str())
                });
                match allowed {
                    Some(row) => used[row] = true,
                    None => wrong.push(format!("{}: {condition}", name.display())),
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(used, [true; CONDITIONS.len()], "every exception is one");
}

#[test]
fn this_test_finds_conditions() {
    assert_eq!(
        conditions(
            "// cfg(a)\n#[cfg(test)] é #[cfg(any(b, not(c = \"d)\")))] if cfg!(windows) #[cfg_attr(e, f(g))]"
        ),
        ["test", "any(b, not(c = \"d)\"))", "windows", "e, f(g)"]
    );
}

#[test]
fn this_test_reads_code_and_not_texts() {
    let code = without_texts(concat!(
        "a // crate::x\n/* unsafe /* nested */ still */ b \"println!\\\" \" c r#\"dbg! \" \"# d ",
        "'\"' e '\\'' f<'a> g b\"todo!\" h for_r\"x\" i"
    ));
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "b", "c", "d", "e", "f<'a>", "g", "b", "h", "for_r", "i"]);
    assert_eq!(
        without_tests("a #[cfg(test)] mod tests { { } crate::x } b #[cfg(test)]\nmod c; d"),
        "a  b  d"
    );
}

#[test]
fn this_test_finds_words_and_paths() {
    assert_eq!(find_words("unsafe unsafe_code x.unsafe", "unsafe").len(), 2);
    assert_eq!(find_words("println! eprintln!", "println!").len(), 1);
    let module = ["wire".to_owned(), "http".to_owned()];
    let found = |code| paths(code, &module).iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(
        found("use crate::net::{self, clock as c, udp::{Udp, Kind}};"),
        ["net", "net::clock", "net::udp::Udp", "net::udp::Kind"]
    );
    assert_eq!(found("use crate::{log::log, time}; crate::a::<B>::c()"), ["log::log", "time", "a"]);
    assert_eq!(
        found("use super::head; pub(super) fn f() { super::super::net::x() }"),
        ["wire::head", "net::x"]
    );
    let allowed =
        |layer, path: &str| is_allowed(layer, &path.split("::").map(str::to_owned).collect::<Vec<_>>());
    assert!(
        allowed("wire", "wire::http") && allowed("client", "engine::io::Event") && allowed("log", "plum_log")
    );
    assert!(
        !allowed("wire", "time") && !allowed("client", "engine::Engine") && !allowed("engine", "net::clock")
    );
    assert!(!allowed("client", "engine"), "a prefix is not enough");
}
