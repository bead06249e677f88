//! include/plum.h is what cbindgen makes of src/ffi, and of this version.

use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The header, freshly made.
fn generate() -> String {
    let root = Path::new(ROOT);
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is valid");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/ffi/types.rs"))
        .with_src(root.join("src/ffi/mod.rs"))
        .generate()
        .expect("src/ffi can be read");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).expect("the sources are UTF-8");
    // What a caller has to see to is a heading of its own in Rust's documentation, with this name.
    let header = header.replace(" * # Safety\n *\n", " * Requires:\n");
    // cbindgen leaves a space behind on some lines.
    header.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `PLUM_BLESS=1 cargo test --test header` writes the header instead.
#[test]
fn the_committed_header_is_the_generated_one() {
    let generated = generate();
    if std::env::var_os("PLUM_BLESS").is_some() {
        std::fs::write(Path::new(ROOT).join("include/plum.h"), &generated)
            .expect("the header can be written");
    }
    let committed = read("include/plum.h");
    for (number, (committed, generated)) in committed.lines().zip(generated.lines()).enumerate() {
        assert_eq!(committed, generated, "include/plum.h:{}: write it anew with PLUM_BLESS=1", number + 1);
    }
    assert_eq!(
        committed.len(),
        generated.len(),
        "include/plum.h has drifted: write it anew with PLUM_BLESS=1"
    );
}

#[test]
fn the_header_is_for_c_programmers() {
    let header = read("include/plum.h");
    for word in
        ["# Safety", "# Errors", "# Panics", "MaybeUninit", "usize", "Option<", "::", "c_int", "`None`"]
    {
        assert!(!header.contains(word), "include/plum.h says {word:?}");
    }
}

#[test]
fn the_header_names_the_version_of_the_package() {
    let define = format!("#define PLUM_VERSION \"{}\"\n", env!("CARGO_PKG_VERSION"));
    assert!(read("include/plum.h").contains(&define), "cbindgen.toml has another version than Cargo.toml");
}

#[test]
fn the_nested_header_only_includes_the_real_one() {
    let nested = read("include/plum/plum.h");
    let code: Vec<&str> = nested.lines().filter(|line| !line.starts_with("/*") && !line.is_empty()).collect();
    assert_eq!(code, ["#include \"../plum.h\""]);
}
