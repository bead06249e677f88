//! Runs kept inputs through a target.

use plum_fuzz::TARGETS;
use std::path::{Path, PathBuf};

/// The files of a folder; none where it is not there.
fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Runs all inputs of a target; says which one it was that broke something.
pub fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|&(other, _)| other == name).expect("a target of this name");
    let corpus = inputs("corpus", name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    for path in corpus.into_iter().chain(inputs("regressions", name)) {
        let input = std::fs::read(&path).expect("the input");
        // A callback of the library's may end the process: say before what it is that runs.
        let note = Note(&path);
        target(&input);
        std::mem::forget(note);
    }
    // Nothing is special about it, but nothing else has it.
    target(&[]);
}

/// Says which input broke something.
struct Note<'a>(&'a Path);

impl Drop for Note<'_> {
    fn drop(&mut self) {
        eprintln!("this is what {} does", self.0.display());
    }
}
