//! SECURITY.md says what these tests show: the tests it names exist, and its limits are the code's.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md")
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// All Rust sources below a folder, put together.
fn sources(folder: &str) -> String {
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).expect("a source");
            }
        }
    }
    text
}

#[test]
fn every_test_that_the_document_names_exists() {
    let all = sources("src") + &sources("crates") + &sources("tests");
    let document = document();
    // Tests are sentences: no other name in it has so many words.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let mut count = 0;
    for name in quoted(&document).filter(is_test).filter(|&name| name != "undocumented_unsafe_blocks") {
        assert!(all.contains(&format!("fn {name}(")), "there is no test {name}");
        count += 1;
    }
    assert!(count >= 50, "only {count} names were found");
}

#[test]
fn the_limits_of_the_document_are_those_of_the_code() {
    let document = document();
    let table = document.split("## Limits").nth(1).expect("the table");
    let mut count = 0;
    for line in table
        .lines()
        .filter(|line| line.starts_with("| ") && (line.contains("`src/") || line.contains("`crates/")))
    {
        let [value, name, file] = quoted(line).collect::<Vec<_>>()[..] else { panic!("{line}") };
        let source = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let declaration = format!("const {name}: ");
        let after = source.split(&declaration).nth(1).unwrap_or_else(|| panic!("{file} has no {name}"));
        let said = after.split_once(" = ").and_then(|(_, rest)| rest.split(';').next()).unwrap_or_default();
        assert_eq!(said, value, "{name} in {file}");
        count += 1;
    }
    assert!(count >= 25, "only {count} rows were read");
}
