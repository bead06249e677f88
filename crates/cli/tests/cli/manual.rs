//! The manual pages, and the examples in them, which are run as they stand.

use super::harness::{Running, order, plum, run};
use super::ipv6::network;
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::{add_cable, is_inside};
use rustix::process::Signal;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("plum-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is temporary.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All pages, by the names of their commands: `plum`, `plum-map`.
fn pages(folder: &Path) -> Vec<(String, String)> {
    let (code, output, errors) = run(plum(&format!("man {}", folder.display())));
    assert_eq!((code, output.as_str(), errors.as_str()), (0, "", ""));
    let page = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("a page"))
    };
    let mut pages: Vec<_> = fs::read_dir(folder).expect("the folder").map(page).collect();
    pages.sort();
    pages
}

/// Roff as it is read: without fonts, and with the characters that are written by escapes.
fn plain(text: &str) -> String {
    let fonts = ["\\fB", "\\fI", "\\fR"];
    let text = fonts.iter().fold(text.to_owned(), |text, font| text.replace(font, ""));
    text.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\\\", "\\")
}

/// The lines of a section, plain.
fn section(page: &str, heading: &str) -> Vec<String> {
    let is_heading = |line: &&str| line.trim_start_matches(".SH ").trim_matches('"') == heading;
    let mut lines = page.lines().skip_while(|line| !(line.starts_with(".SH ") && is_heading(line)));
    assert!(lines.next().is_some(), "there is no section {heading}");
    let is_text = |line: &&str| !line.starts_with('.') || line.starts_with(".TP");
    lines.take_while(|line| !line.starts_with(".SH ")).filter(is_text).map(plain).collect()
}

/// The command lines of the examples.
fn examples(page: &str) -> Vec<String> {
    let lines = section(page, "EXAMPLES");
    let examples: Vec<String> =
        lines.windows(2).filter(|pair| pair[0] == ".TP").map(|pair| pair[1].clone()).collect();
    assert!(!examples.is_empty(), "{page}");
    examples
}

#[test]
fn every_command_has_a_page_with_the_usual_sections() {
    let folder = Folder::new("man");
    let pages = pages(&folder.0);
    let (_, help, _) = run(plum("--help"));
    for command in ["map", "unmap", "probe", "list", "address", "status", "demo", "completions", "man"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        assert!(pages.iter().any(|(name, _)| *name == format!("plum-{command}")), "{command}");
    }
    for (name, page) in &pages {
        assert!(page.contains(&format!(
            ".TH {name} 1 \" \" \"plum {}\" \"User Commands\"",
            env!("CARGO_PKG_VERSION")
        )));
        assert!(!page.contains("EXTRA"), "{name}: a section that no manual page has");
        // As the help does.
        let tells_of_exits = !["plum-demo", "plum-completions", "plum-man"].contains(&name.as_str());
        assert_eq!(page.contains(".SH \"EXIT STATUS\"\n"), tells_of_exits, "{name}");
        assert_eq!(page.contains(".SH ENVIRONMENT\n"), tells_of_exits, "{name}");
        let others = section(page, "SEE ALSO").join("");
        assert!(others.ends_with("libplum(3)"), "{name}: {others}");
        for (other, _) in &pages {
            let is_named = others.split(", ").any(|page| page == format!("{other}(1)"));
            assert_eq!(is_named, other != name, "{name} of {other}");
        }
        assert!(!examples(page).is_empty(), "{name}");
        assert!(!page.contains("plum\\-help"), "a page that is not written: {name}");
    }
    let (code, page, _) = run(plum("man"));
    assert_eq!(code, 0);
    assert_eq!(Some(&page), pages.iter().find(|(name, _)| name == "plum").map(|(_, page)| page));
    assert!(page.contains("plum\\-map") && page.contains("\\fB130\\fR\n"), "{page}");
}

#[test]
fn the_synopsis_names_the_values_of_options() {
    let folder = Folder::new("synopsis");
    for (name, page) in pages(&folder.0) {
        let synopsis = section(&page, "SYNOPSIS").join(" ");
        // The page lists each option as in `--for <TIME>` and `--ipv6[=<ADDR>]`.
        for line in page.lines().map(plain).filter(|line| line.starts_with('-')) {
            let Some((option, value)) = line.split_once('<') else { continue };
            let option = option.rsplit(", ").next().expect("a part");
            let value = value.split_once('>').expect("the end of a value").0;
            assert!(synopsis.contains(&format!("{option}{value}")), "{name}: {line}: {synopsis}");
        }
        assert!(synopsis.starts_with(&name.replace('-', " ")), "{synopsis}");
    }
    let pages = pages(&folder.0);
    let synopsis = |name: &str| {
        let page = pages.iter().find(|(page, _)| page == name).expect("a page");
        section(&page.1, "SYNOPSIS").join(" ")
    };
    assert_eq!(synopsis("plum"), "plum COMMAND [ARGUMENT]...");
    assert_eq!(synopsis("plum-man"), "plum man [FOLDER]");
    let status = "plum status [--json] [--gateway ADDR[:PORT]] [--interface NAME] [--timeout TIME]";
    assert_eq!(synopsis("plum-status"), status);
    let map = synopsis("plum-map");
    for part in ["[--ipv6[=ADDR]]", "[--for TIME]", "[-v|--verbose]...", " PORT..."] {
        assert!(map.contains(part), "{part}: {map}");
    }
}

#[test]
fn the_long_help_ends_with_the_examples() {
    let folder = Folder::new("help");
    for (name, page) in pages(&folder.0) {
        let words = name.replacen("plum", "", 1).replace('-', "");
        let (code, help, _) = run(plum(&format!("{words} --help")));
        assert_eq!(code, 0);
        for example in examples(&page) {
            assert!(help.contains(&format!("\n  {example}\n")), "{name}: {example}: {help}");
        }
    }
}

/// A folder that is no home of anybody's, with those in which completions are installed.
fn home() -> Folder {
    let home = Folder::new("home");
    for folder in [".local/share/bash-completion/completions", ".config/fish/completions"] {
        fs::create_dir_all(home.0.join(folder)).expect("a folder");
    }
    home
}

/// How many ports an example of `plum map` maps.
fn ports(example: &str) -> usize {
    let words: Vec<&str> = example.split_whitespace().collect();
    let is_port =
        |pair: &&[&str]| pair[1].starts_with(|c: char| c.is_ascii_digit()) && !pair[0].starts_with("--");
    let count = |pair: &[&str]| {
        let (range, transport) = pair[1].split_once('/').unwrap_or((pair[1], ""));
        let range = range.split(':').next().unwrap_or_default();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().expect("a port");
        (number(last) - number(first) + 1) * if transport.starts_with("both") { 2 } else { 1 }
    };
    words.windows(2).filter(is_port).map(count).sum()
}

/// Runs an example by the shell, in this home; a command that stays is ended by Ctrl-C once it is up. Returns the exit code.
fn run_example(example: &str, home: &Path) -> i32 {
    let stays = example.starts_with("plum map") && !example.contains("--leave") || example.contains("--keep");
    let program = Path::new(env!("CARGO_BIN_EXE_plum"));
    let folder = program.parent().expect("a folder").display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    // A pinhole is for a gateway of IPv6.
    let gateway = if example.contains("--ipv6") { "::1" } else { "192.168.1.1" };
    let mut command = Command::new("sh");
    // The signal is for the command, not for the shell.
    let line = if stays { format!("exec {example}") } else { example.to_owned() };
    command.args(["-c", &line]).env("PATH", path).env("PLUM_GATEWAY", gateway).env("HOME", home);
    command.current_dir(home).stdin(Stdio::null());
    let running = Running::start(command);
    if stays {
        // The demonstration can be ended when it has said how to use its gateway; plum map when all ports are mapped.
        let (word, times) = match example.contains("demo") {
            true => ("PLUM_GATEWAY=", 1),
            false => ("mapped", ports(example)),
        };
        let mut seen = 0;
        while seen < times {
            seen += usize::from(running.line().contains(word));
        }
        running.signal(Signal::INT);
    }
    let (status, ..) = running.end();
    status.code().expect("it is not killed")
}

#[test]
fn every_example_works_as_it_stands() {
    if !is_inside("manual::every_example_works_as_it_stands") {
        return;
    }
    let _ipv6 = network();
    // The gateway is on this machine, at an interface that is named.
    add_cable("eth1", "192.168.1.1/32");
    let server =
        Server::start(Config::at(Ipv4Addr::new(192, 168, 1, 1))).expect("a gateway at its usual ports");
    let home = home();
    let mut ran = 0;
    for (name, page) in pages(&home.0.join("pages")) {
        for example in examples(&page) {
            // What `plum unmap` is to remove.
            order(&server, "occupy tcp 8080 192.168.1.1:8080");
            order(&server, "occupy udp 16881 192.168.1.1:6881");
            assert_eq!(run_example(&example, &home.0), 0, "{name}: {example}");
            server.with_core(|core| core.table_mut().clear());
            ran += 1;
        }
    }
    assert!(ran >= 20, "{ran}");
    for file in ["plum.1", ".local/share/man/man1/plum-map.1", ".config/fish/completions/plum.fish"] {
        assert!(fs::metadata(home.0.join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
}
