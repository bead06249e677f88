//! Runs kept inputs through a target.

#![allow(clippy::print_stderr, reason = "the report of a test")]

use plum_fuzz::TARGETS;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Unpacks the corpus of a target into the target folder.
fn unpacked_corpus(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus").join(name);
    let _ = std::fs::remove_dir_all(&folder); // of an earlier run
    std::fs::create_dir_all(&folder).expect("a folder");
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{name}.tar.gz"));
    let status = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&folder).status().expect("tar");
    assert!(status.success(), "cannot unpack {}", archive.display());
    folder
}

/// Runs all inputs of a target and says which one broke something.
pub fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|&(other, _)| other == name).expect("a target of this name");
    let corpus = files(&unpacked_corpus(name));
    assert!(!corpus.is_empty(), "no corpus for {name}");
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(name);
    let regressions = if regressions.is_dir() { files(&regressions) } else { Vec::new() };
    for path in corpus.into_iter().chain(regressions) {
        let input = std::fs::read(&path).expect("the input");
        // A callback of the library's may end the process, so the input is named while it runs.
        let failing = FailingInput(&path);
        target(&input);
        std::mem::forget(failing);
    }
    // No archive holds the empty input.
    target(&[]);
}

/// Says which input broke something.
struct FailingInput<'a>(&'a Path);

impl Drop for FailingInput<'_> {
    fn drop(&mut self) {
        eprintln!("this is what {} does", self.0.display());
    }
}
