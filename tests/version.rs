//! The versions stand in Cargo.toml alone; what has to repeat one is named here and says the same.

#![allow(clippy::print_stdout, reason = "the report of a test")]

#[path = "../build.rs"]
#[allow(clippy::print_stdout, dead_code, reason = "it is a program")]
mod build;

use build::{abis, choose_abi};
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The version of the product: of the crates, the command, the packages.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_build_takes_the_abis_of_the_manifest_and_no_others() {
    let abis = abis();
    for abi in &abis {
        assert_eq!(choose_abi(&abis, Some(&abi.name)), Ok(abi));
    }
    assert_eq!(choose_abi(&abis, None).ok(), abis.last());
    for wrong in ["", "0", "0.6", "0.7"] {
        let error = choose_abi(&abis, Some(wrong)).expect_err("it names none");
        assert!(abis.iter().all(|abi| error.contains(&format!("{:?}", abi.name))), "{error}");
    }
}

/// What spells the product's version with reason, by the beginnings of paths.
const SPELL_THE_PRODUCT: [&str; 7] = [
    // Where it stands, and what cargo makes of it.
    "Cargo.toml",
    "Cargo.lock",
    "fuzz/Cargo.lock",
    // Compared below.
    "CHANGELOG.md",
    "debian/changelog",
    "debian/libplum",
    // What was measured.
    "benches/results/",
];

/// What spells an ABI's with reason.
const SPELL_AN_ABI: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "fuzz/Cargo.lock",
    // Generated; tests/header.rs compares them.
    "include/",
    // Compared below.
    "debian/control",
    "debian/libplum",
    // The C library's, and a stand-in for it.
    "benches/",
];

#[test]
fn nothing_else_spells_a_version() {
    let listed = match Command::new("git").args(["-C", ROOT, "ls-files", "-z"]).output() {
        Ok(output) if output.status.success() => output.stdout,
        _ => {
            println!("nothing_else_spells_a_version was NOT run: there is no git, or this is no clone");
            return;
        }
    };
    let abi_versions: Vec<String> = abis().into_iter().map(|abi| abi.version).collect();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for path in listed.split(|&byte| byte == 0).filter(|path| !path.is_empty()) {
        let path = std::str::from_utf8(path).expect("our names are ASCII");
        let Ok(text) = std::fs::read_to_string(Path::new(ROOT).join(path)) else { continue };
        seen += 1;
        for (number, line) in text.lines().enumerate() {
            if spells_wrongly(path, line, &abi_versions) {
                wrong.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    assert!(seen > 100, "the files are found");
    assert_eq!(wrong, [""; 0]);
}

/// Whether a line of a file spells a version that it should not.
fn spells_wrongly(path: &str, line: &str, abi_versions: &[String]) -> bool {
    let may = |list: &[&str]| list.iter().any(|start| path.starts_with(start));
    if !may(&SPELL_THE_PRODUCT) && spells(line, VERSION) {
        return true;
    }
    if may(&SPELL_AN_ABI) {
        return false;
    }
    // Documents and comments may speak of any C library, and name files that there are.
    if path.ends_with(".md") || path.starts_with("docs/") || is_comment(line) {
        return sonames(line).any(|version| !abi_versions.iter().any(|one| one == version));
    }
    // An ABI may be named by its version.
    abi_versions.iter().any(|version| spells(line, version)) && !names_abi(line)
}

/// The versions in the names of shared libraries that a line has.
fn sonames(line: &str) -> impl Iterator<Item = &str> {
    line.split("libplum.so.").skip(1).filter_map(|rest| {
        let version = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())];
        let version = version.trim_end_matches('.');
        (!version.is_empty()).then_some(version)
    })
}

/// Whether `version` stands in `line`, not as a part of a longer one.
fn spells(line: &str, version: &str) -> bool {
    line.match_indices(version).any(|(at, _)| {
        let mut before = line[..at].chars().rev();
        let mut after = line[at + version.len()..].chars();
        let goes_on = |near: Option<char>, beyond: Option<char>| {
            let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            is_digit(near) || near == Some('.') && is_digit(beyond)
        };
        !goes_on(before.next(), before.next()) && !goes_on(after.next(), after.next())
    })
}

/// A line of comment alone, in any of our languages.
fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    ["# ", "//", "/*", "* "].iter().any(|start| line.starts_with(start))
}

/// A line that says of a name that it is one of an ABI.
fn names_abi(line: &str) -> bool {
    line.to_ascii_lowercase().contains("abi") || line.contains("exported-")
}

#[test]
fn the_changelog_is_of_this_version() {
    let changelog = read("CHANGELOG.md");
    let newest = changelog.lines().find(|line| line.starts_with("## ")).expect("a release");
    assert!(spells(newest, VERSION), "{newest}");
}

#[test]
fn the_debian_package_is_of_this_version() {
    let changelog = read("debian/changelog");
    let first = changelog.lines().next().expect("an entry");
    assert!(first.starts_with(&format!("libplum ({VERSION}-")), "{first}");
}

/// The package of the library is named after the SONAME. Its symbols file names that, the API's functions and no others; what was added
/// later than the first release may have a later version there than the others, never one later than this.
#[test]
fn the_debian_library_is_that_of_its_abi() {
    let rules = read("debian/rules");
    let name = rules.lines().find_map(|line| line.strip_prefix("ABI = ")).expect("debian/rules names it");
    let abis = abis();
    let version = &choose_abi(&abis, Some(name)).expect("an ABI of ours").version;
    assert_eq!(name, version, "debian/rules and packaging/run take the one for the other");
    let control = read("debian/control");
    assert!(
        control.contains(&format!("\nPackage: libplum{version}\n")),
        "debian/control has no such package"
    );

    let symbols = read(&format!("debian/libplum{version}.symbols"));
    let mut lines = symbols.lines();
    assert_eq!(lines.next(), Some(&*format!("libplum.so.{version} libplum{version} #MINVER#")));
    let names: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix(' '))
        .filter_map(|line| line.split_once('@'))
        .map(|(name, _)| name)
        .collect();
    let exported = read(&format!("cmake/exported-{name}.txt"));
    assert_eq!(names, exported.lines().collect::<Vec<_>>());
}

/// cargo-c would name its files after the product. It builds the default ABI.
#[test]
fn cargo_c_names_its_files_after_the_abi() {
    let manifest = read("Cargo.toml");
    let abis = abis();
    let version = &choose_abi(&abis, None).expect("the default").version;
    for section in ["library", "pkg_config"] {
        let heading = format!("[package.metadata.capi.{section}]\n");
        let (_, rest) = manifest.split_once(&heading).expect("it is there");
        let rest = rest.split("\n[").next().expect("a section");
        assert!(rest.contains(&format!("version = {version:?}\n")), "{heading}{rest}");
    }
}

#[test]
fn this_test_tells_versions_apart() {
    for line in ["3.4.5", "libplum.so.3.4.5)", "(3.4.5-1)", "of 3.4.5."] {
        assert!(spells(line, "3.4.5"), "{line}");
    }
    for line in ["13.4.5", "1.3.4.5", "3.4.50", "3.4.5.1", "3x4x5"] {
        assert!(!spells(line, "3.4.5"), "{line}");
    }
    let abi_versions = ["3.4.5".to_owned()];
    let wrong = |path, line: &str| spells_wrongly(path, line, &abi_versions);
    assert!(wrong("x.sh", VERSION) && wrong("README.md", VERSION) && !wrong("CHANGELOG.md", VERSION));
    assert!(wrong("x.sh", "soname=libplum.so.3.4.5") && !wrong("x.sh", "PLUM_ABI=3.4.5"));
    assert!(wrong("README.md", "libplum.so.3.4.4") && !wrong("README.md", "libplum.so.3.4.5 of 3.4.4"));

    let line = "libplum.so.3.4.5, libplum.so.3.4.6 and libplum.so.* of libplum.so.VERSION; libplum.so.3.4.";
    assert_eq!(sonames(line).collect::<Vec<_>>(), ["3.4.5", "3.4.6", "3.4"]);
    assert!(is_comment("  // 3.4.5") && is_comment("# x") && !is_comment("#define X") && !is_comment("/usr"));
}
