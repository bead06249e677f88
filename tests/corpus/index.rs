//! Reads a corpus: its INDEX.tsv, and the files that it names.

use std::cell::Cell;
use std::path::Path;

/// What a reader must find in a file: `name=value`, `name value`, or a phrase.
struct Fact {
    text: String,
    is_read: Cell<bool>,
}

impl Fact {
    fn new(text: &str) -> Fact {
        Fact { text: text.replace("\\n", "\n").trim().to_owned(), is_read: Cell::new(false) }
    }
}

/// A row of an index, and its file.
pub struct Row {
    /// `FOLDER/NAME`.
    pub file: String,
    /// What stands in the file; of a file in hexadecimal the octets.
    pub bytes: Vec<u8>,
    /// The remark that the shared corpus has.
    pub note: String,
    /// Whether it is the project's own, whose index names quirks.
    pub is_own: bool,
    facts: Vec<Fact>,
}

impl Row {
    /// The value of the fact `name=value` or `name value`, if the row has it.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find_map(|fact| {
            let value = fact.text.strip_prefix(name)?.strip_prefix(['=', ' '])?;
            fact.is_read.set(true);
            Some(value)
        })
    }

    /// As [`Row::fact`], empty when the fact is missing or says that the field is.
    pub fn text(&self, name: &str) -> &str {
        match self.fact(name) {
            None | Some("(none)" | "(empty)" | "(self-closed)") => "",
            Some(text) => text,
        }
    }

    /// As [`Row::fact`], its first word as a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.fact(name)?.split(' ').next()?.parse().ok()
    }

    /// Whether a fact holds this phrase.
    pub fn says(&self, phrase: &str) -> bool {
        let fact = self.facts.iter().find(|fact| fact.text.contains(phrase));
        fact.inspect(|fact| fact.is_read.set(true)).is_some()
    }

    /// The names of all facts `name=value`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().filter_map(|fact| Some(fact.text.split_once('=')?.0))
    }

    /// Whether the file has this line, whatever the case.
    pub fn has_line(&self, line: &str) -> bool {
        let mut lines = self.bytes.split(|&byte| byte == b'\n');
        lines.any(|other| other.trim_ascii().eq_ignore_ascii_case(line.as_bytes()))
    }

    /// Adds a fact that stands before the others of its name.
    pub fn amend(&mut self, fact: &str) {
        self.facts.insert(0, Fact::new(fact));
    }

    /// To be called at the end: a fact of our own that nothing was compared with is a slip of the pen. (Among those of the
    /// shared corpus are remarks.)
    #[track_caller]
    pub fn assert_all_read(&self) {
        let unread = self.facts.iter().filter(|fact| self.is_own && !fact.is_read.get());
        let unread: Vec<&str> = unread.map(|fact| fact.text.as_str()).collect();
        assert!(unread.is_empty(), "{}: nothing is compared with {unread:?}", self.file);
    }
}

/// The rows of a corpus, in the order of its index.
pub fn read(corpus: &Path) -> Vec<Row> {
    let index = std::fs::read_to_string(corpus.join("INDEX.tsv")).expect("INDEX.tsv");
    let mut lines = index.lines().map(|line| line.split('\t').collect::<Vec<&str>>());
    let header = lines.next().expect("the names of the columns");
    let rows = lines.map(|cells| {
        let cell = |name: &str| {
            let column = header.iter().position(|&other| other == name);
            column.and_then(|column| cells.get(column)).copied().unwrap_or_default()
        };
        let file = cell("file");
        let mut bytes = std::fs::read(corpus.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        if file.ends_with(".hex") {
            bytes = unhex(std::str::from_utf8(&bytes).expect("hexadecimal"));
        }
        let facts = cell("facts").split("; ").map(Fact::new).collect();
        Row {
            file: file.to_owned(),
            bytes,
            note: cell("note").to_owned(),
            is_own: !cell("quirk").is_empty(),
            facts,
        }
    });
    rows.collect()
}

/// The octets of a file in hexadecimal; lines that begin with `#` are comments.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::chars)
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).expect("a hexadecimal digit"))
        .collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")).collect()
}
