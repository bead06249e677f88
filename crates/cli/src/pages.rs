//! The command lines in README.md and docs/ are ones that `plum` understands.

use std::fs;
use std::path::{Path, PathBuf};

/// The command lines of a page that begin with `plum`: those between backticks, and those that are lines of their own.
fn lines(page: &str) -> Vec<String> {
    let is_ours = |text: &&str| text.starts_with("plum ") && !text.contains(['\'', '"', '.']);
    let quoted = page.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let own = page.lines().filter(|line| !line.contains('`'));
    let found = quoted.chain(own).filter(is_ours);
    found.map(|text| text.split(['>', '|', '#', ';']).next().unwrap_or_default().trim().to_owned()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether the pages of the repository are here. A packaged crate has none: then `test` has nothing to compare with, and says so.
#[expect(clippy::print_stderr, reason = "the output of a test")]
pub fn are_here(test: &str) -> bool {
    let are_here = root().join("docs").exists();
    if !are_here {
        eprintln!("{test} was NOT run: a packaged crate has no docs");
    }
    are_here
}

#[test]
fn the_command_lines_of_the_pages_are_understood() {
    if !are_here("the_command_lines_of_the_pages_are_understood") {
        return;
    }
    let root = root();
    let docs = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut count = 0;
    for page in pages.chain([root.join("README.md"), root.join("crates/cli/README.md")]) {
        for line in lines(&fs::read_to_string(&page).expect("a page")) {
            let words = line.replace("ADDR", "2600::17").replace("PORT", "8080");
            // A heading may name a command alone, without what it needs.
            if words.split_whitespace().count() == 2 {
                continue;
            }
            if let Err(error) = crate::command().try_get_matches_from(words.split_whitespace()) {
                assert_eq!(error.exit_code(), 0, "{}: {line}: {error}", page.display());
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
