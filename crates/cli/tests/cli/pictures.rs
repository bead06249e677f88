//! The picture in README.md shows what the command draws now.
//!
//! docs/draw writes the picture: it runs the test below with `PLUM_DRAW` in the environment. The commands are the real ones, on a terminal, at a
//! simulated gateway in a network of its own. Only the times of answers and of renewals are replaced, since these differ with each run.

use super::harness::{LONG, order, plum};
use super::routers::gateway_behind;
use anstyle::{AnsiColor, Style};
use anstyle_svg::{Palette, Term, VGA};
use plum_gateway::core::Igd;
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::{ip, is_inside};
use rexpect::session::{PtySession, spawn_command};
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::path::Path;
use vt100::{Color, Parser};

/// The size of the picture in characters; what has no content at its end is cut off.
const ROWS: NonZeroU16 = NonZeroU16::new(40).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(80).unwrap();

/// In place of how long an answer took, and of the time to a renewal.
const MILLIS: &str = "1.9";
const RENEWAL: &str = "1 h 05 min";

/// Colours that can be read on a light ground and on a dark one: what the command uses, the others as they are.
const LIGHT: [(AnsiColor, &str); 3] =
    [(AnsiColor::Red, "#cf222e"), (AnsiColor::Green, "#116329"), (AnsiColor::Yellow, "#7d4e00")];
const DARK: [(AnsiColor, &str); 3] =
    [(AnsiColor::Red, "#ff7b72"), (AnsiColor::Green, "#56d364"), (AnsiColor::Yellow, "#e3b341")];

/// A row of the terminal.
type Row = Vec<(char, Style)>;

#[test]
fn the_picture_in_the_readme_is_what_the_command_draws() {
    if !is_inside("pictures::the_picture_in_the_readme_is_what_the_command_draws") {
        return;
    }
    let server = home();
    let mut screen = Parser::new(ROWS, COLUMNS, 0);
    let mut probe = type_command(&mut screen, "probe");
    let output = probe.exp_eof().expect("the command ends");
    screen.process(output.as_bytes());
    screen.process(b"\r\n");

    let mut map = type_command(&mut screen, "map 8080 6881/udp");
    loop {
        let shown = screen.screen().contents();
        let (_, table) = shown.split_once("plum map").expect("it was typed");
        if table.matches(" mapped ").count() == 2 && table.contains("Ctrl-C") {
            break;
        }
        let (_, output) = map.exp_regex("(?s).+").expect("the command goes on to draw");
        screen.process(output.as_bytes());
    }
    map.send_control('c').expect("the terminal takes it");
    map.exp_eof().expect("the command ends");
    server.stop();

    let svg = draw(&steady(rows(&screen)));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plum.svg");
    if std::env::var_os("PLUM_DRAW").is_some() {
        std::fs::write(&file, &svg).expect("it can be written");
    }
    let committed = std::fs::read_to_string(&file).expect("the picture is there");
    assert_eq!(words(&committed), words(&svg), "docs/draw makes the picture anew");
}

/// A gateway as homes have it, on a cable to this network namespace: it runs in one of its own.
fn home() -> Server {
    let mut config = Config { multicast: true, ..Config::at(Ipv4Addr::new(192, 168, 1, 1)) };
    config.gateway.igd = Some(Igd { friendly_name: "Home router".into(), ..Igd::default() });
    ip("link set lo up");
    let server = gateway_behind("eth0", &["192.168.1.1/24"], config);
    ip("addr add 192.168.1.100/24 dev eth0");
    ip("route add default via 192.168.1.1 dev eth0");
    // 12 days and some, far from the next minute.
    order(&server, "set epoch 1048230");
    server
}

/// The command, on a terminal, after its prompt.
fn type_command(screen: &mut Parser, words: &str) -> PtySession {
    screen.process(format!("$ plum {words}\r\n").as_bytes());
    let millis = u64::try_from(LONG.as_millis()).expect("it fits");
    spawn_command(plum(words), Some(millis)).expect("the program runs on a terminal")
}

/// What stands on the terminal.
fn rows(screen: &Parser) -> Vec<Row> {
    let screen = screen.screen();
    let cell = |row, column| {
        let cell = screen.cell(row, column).expect("inside the screen");
        let colour = match cell.fgcolor() {
            Color::Default => None,
            Color::Idx(number) => Some(anstyle::Ansi256Color(number).into()),
            Color::Rgb(red, green, blue) => Some(anstyle::RgbColor(red, green, blue).into()),
        };
        let mut style = Style::new().fg_color(colour);
        if cell.bold() {
            style = style.bold();
        }
        if cell.dim() {
            style = style.dimmed();
        }
        (cell.contents().chars().next().unwrap_or(' '), style)
    };
    let mut rows: Vec<Row> = (0..ROWS.get())
        .map(|row| {
            let mut cells: Row = (0..COLUMNS.get()).map(|column| cell(row, column)).collect();
            let end = cells.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1);
            cells.truncate(end);
            cells
        })
        .collect();
    let end = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
    rows.truncate(end);
    rows
}

fn text(row: &Row) -> String {
    row.iter().map(|(c, _)| c).collect()
}

/// With steady times.
fn steady(mut rows: Vec<Row>) -> Vec<Row> {
    // The column of the times to the renewals, below its head.
    let mut renewals = None;
    for row in &mut rows {
        let text = text(row);
        // All of it is ASCII, so that bytes are columns.
        assert!(text.is_ascii(), "{text}");
        if let Some(numbers) = text.strip_suffix(" ms") {
            let last = numbers.rfind(' ').map_or(0, |space| space + 1);
            // Aligned to the right.
            let start = (numbers.len() - MILLIS.len()).min(last);
            replace(row, start, numbers.len(), &format!("{MILLIS:>width$}", width = numbers.len() - start));
        } else if let Some(start) = renewals.filter(|start| text.len() > *start) {
            replace(row, start, text.len(), RENEWAL);
        }
        renewals = text.find("RENEWS IN").or(renewals.filter(|_| !text.is_empty()));
    }
    rows
}

/// Puts a text into the place of columns, in the style of the last of them.
fn replace(row: &mut Row, start: usize, end: usize, text: &str) {
    let style = row[end - 1].1;
    row.splice(start..end, text.chars().map(|c| (c, style)));
}

/// The picture, light, or dark where the reader's system is.
fn draw(rows: &[Row]) -> String {
    let mut ansi = String::new();
    for row in rows {
        for run in row.chunk_by(|one, next| one.1 == next.1) {
            let style = run[0].1;
            let text: String = run.iter().map(|(c, _)| c).collect();
            ansi.push_str(&format!("{style}{text}{style:#}"));
        }
        ansi.push('\n');
    }
    let render = |colours, fore, back| {
        let term = Term::new().palette(palette(colours)).min_width_px(0);
        let svg =
            term.fg_color(colour(fore).into()).bg_color(colour(back).into()).render_svg(ansi.trim_end());
        // Enough contrast.
        svg.replace("opacity: 0.4", "opacity: 0.7")
    };
    let light = render(LIGHT, "#1f2328", "#f6f8fa");
    let dark = render(DARK, "#e6edf3", "#161b22");
    let differing = light.lines().zip(dark.lines()).filter(|(light, dark)| light != dark);
    let rules: String = differing.map(|(_, dark)| format!("  {dark}\n")).collect();
    let end = "  </style>\n";
    light.replacen(end, &format!("    @media (prefers-color-scheme: dark) {{\n{rules}    }}\n{end}"), 1)
}

fn palette(colours: [(AnsiColor, &str); 3]) -> Palette {
    let mut palette = VGA;
    for (name, hex) in colours {
        let index = usize::from(anstyle::Ansi256Color::from_ansi(name).index());
        palette.0[index] = colour(hex);
    }
    palette
}

fn colour(hex: &str) -> anstyle::RgbColor {
    let part = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    anstyle::RgbColor(part(1), part(3), part(5))
}

/// What can be read in a picture.
fn words(svg: &str) -> String {
    let (_, body) = svg.split_once("</style>").expect("a picture of this kind");
    body.split('<').filter_map(|part| Some(part.split_once('>')?.1)).collect()
}
