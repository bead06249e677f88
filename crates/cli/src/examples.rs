//! Examples of each command, for its manual page and its help. A test runs them as they stand.

use clap::Command;
use std::fmt::Write;

/// A command line, and what it does.
pub struct Example {
    pub line: &'static str,
    pub effect: &'static str,
}

const fn example(line: &'static str, effect: &'static str) -> Example {
    Example { line, effect }
}

/// Of `plum` itself.
const PLUM: &[Example] = &[
    example("plum probe", "Find out what the gateway offers, and what to do when nothing works."),
    example("plum map 8080", "Map TCP port 8080 until Ctrl-C, then remove the mapping."),
    example("plum list", "Show what the gateway has mapped."),
];

const MAP: &[Example] = &[
    example("plum map 8080", "Map TCP port 8080 until Ctrl-C, then remove the mapping."),
    example(
        "plum map 6881/both:16881",
        "Map port 6881 of TCP and of UDP at one external port, 16881 if it is free for both.",
    ),
    example("plum map 22:2222 27015-27020/udp --for 2h", "Map several ports for two hours."),
    example("plum map 8443:443 --exact", "Map port 8443 at external port 443, or fail."),
    example(
        "plum map 0/udp --exec 'echo listen at $PLUM_INTERNAL_PORT'",
        "Map a port that is free here, or that the gateway chooses, and say which.",
    ),
    example("plum map 8080 --leave --lifetime 1d", "Map the port for a day, and end at once."),
    example(
        "plum map 6881 --exec 'echo $PLUM_STATE $PLUM_EXTERNAL_PORT'",
        "Run a command whenever the mapping changes.",
    ),
    example("plum map 8080 --ipv6", "Open a pinhole for IPv6 in the gateway's firewall."),
    example(
        "plum map 8080 --keep-trying --json",
        "Print each event as a line of JSON, and go on where nothing can be mapped.",
    ),
    example(
        "plum map 8080 --gateway 192.168.1.1 -v",
        "Ask this gateway, and log what happens to standard error.",
    ),
    example("plum map 8080 --interface eth1", "Ask the gateway of this interface."),
];

const UNMAP: &[Example] = &[
    example("plum unmap 8080", "Remove the mapping of TCP port 8080."),
    example("plum unmap 6881/udp:16881", "Remove the mapping of external UDP port 16881 to port 6881."),
    example("plum unmap --row 16881/udp", "Remove the row of plum list that begins with 16881/udp."),
    example("plum unmap --all --dry-run", "Show what plum unmap --all would remove."),
];

const PROBE: &[Example] = &[
    example("plum probe", "Ask by all protocols; nothing is changed."),
    example(
        "plum probe --try-map -v",
        "Make a mapping too, as a program would, remove it, and show all that is known.",
    ),
    example("plum probe --gateway 192.168.1.1 --json", "Ask this gateway, for a program."),
];

const LIST: &[Example] = &[
    example("plum list", "Show the gateway's mappings."),
    example("plum list --json", "The same for a program."),
];

const ADDRESS: &[Example] = &[
    example("plum address", "Print the external IPv4 address."),
    example("plum address --ipv6", "Print the IPv6 address of this machine to which a pinhole would lead."),
    example(
        "address=$(plum address --timeout 3s) && echo \"https://$address:8443/\"",
        "Use the address in a script, and end where there is none.",
    ),
];

const STATUS: &[Example] = &[
    example(
        "plum status",
        "Show state, address, rates and traffic of the gateway's connection to the internet.",
    ),
    example(
        "plum status >/dev/null || echo \"no connection to the internet\"",
        "Tell in a script whether the gateway says that it is connected.",
    ),
    example("plum status --json", "All of it for a program."),
];

const DEMO: &[Example] = &[
    example("plum demo", "Map a port through a simulated gateway, and reach it."),
    example("plum demo --speaks upnp -v", "The same by UPnP-IGD alone, with what the library logs."),
    example("plum demo --keep", "Keep the simulated gateway running, for other programs to try."),
];

const COMPLETIONS: &[Example] = &[
    example(
        "plum completions bash >~/.local/share/bash-completion/completions/plum",
        "Install the completions for bash.",
    ),
    example("plum completions fish >~/.config/fish/completions/plum.fish", "Install those for fish."),
];

const MAN: &[Example] = &[
    example("plum man >plum.1", "Write the manual page plum(1) into a file."),
    example(
        "plum man ~/.local/share/man/man1",
        "Write all manual pages into a folder where man(1) finds them.",
    ),
];

/// The examples of a command by its name; of one without any none.
pub fn of(command: &str) -> &'static [Example] {
    match command {
        "plum" => PLUM,
        "map" => MAP,
        "unmap" => UNMAP,
        "probe" => PROBE,
        "list" => LIST,
        "address" => ADDRESS,
        "status" => STATUS,
        "demo" => DEMO,
        "completions" => COMPLETIONS,
        "man" => MAN,
        _ => &[],
    }
}

/// The same command; its long help ends with the examples, and so do those of its subcommands.
pub fn add_to(command: Command) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| command.mut_subcommand(name, add_to));
    let mut help = String::from("Examples:\n");
    for Example { line, effect } in of(command.get_name()) {
        // Writing into a String cannot fail.
        let _ = write!(help, "\n  {line}\n      {effect}\n");
    }
    if let Some(end) = command.get_after_help() {
        let _ = write!(help, "\n{end}");
    }
    if of(command.get_name()).is_empty() { command } else { command.after_long_help(help) }
}
