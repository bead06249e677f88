//! docs/json.md: its tables, and whether an object of `--json` is as they say.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// A field, by a row of a table.
pub struct Field {
    pub path: String,
    /// As in `integer or null`, `list of string`.
    kind: String,
    is_always_there: bool,
    /// All values that it may have; empty: any.
    pub values: Vec<String>,
}

/// The fields of one command, or of some of its events.
pub struct Section {
    pub command: String,
    /// The values of `event` or `outcome` whose objects have the fields; empty: all.
    pub events: Vec<String>,
    pub fields: Vec<Field>,
}

/// The words of a text that stand between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn fields(row: &str) -> Vec<Field> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [paths, kind, present, meaning] = cells[..] else { panic!("four columns: {row}") };
    // What follows a semicolon or a colon is about other things than the values.
    let rest = meaning.split_once("one of ").map_or("", |(_, rest)| rest);
    let values = quoted(rest.split("; ").flat_map(|part| part.split(": ")).next().unwrap_or_default());
    let field = |path| Field {
        path,
        kind: kind.to_owned(),
        is_always_there: present == "always",
        values: values.clone(),
    };
    quoted(paths).into_iter().map(field).collect()
}

pub fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md");
    fs::read_to_string(path).expect("docs/json.md")
}

/// The tables of the page.
pub fn sections() -> Vec<Section> {
    let page = text();
    let mut sections: Vec<Section> = Vec::new();
    let mut command = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            command = quoted(heading)[0].replace("plum ", "");
            sections.push(Section { command: command.clone(), events: Vec::new(), fields: Vec::new() });
        } else if let Some(heading) = line.strip_prefix("### ") {
            sections.push(Section { command: command.clone(), events: quoted(heading), fields: Vec::new() });
        } else if line.starts_with("| `") {
            sections.last_mut().expect("a heading above each table").fields.extend(fields(line));
        }
    }
    sections
}

/// The fields of an object of this command.
fn fields_of<'a>(sections: &'a [Section], command: &str, object: &Value) -> Vec<&'a Field> {
    let event = ["event", "outcome"].iter().find_map(|name| object[name].as_str());
    let is_of = |section: &&Section| {
        section.command == command
            && (section.events.is_empty() || section.events.iter().any(|name| Some(name.as_str()) == event))
    };
    let found: Vec<&Section> = sections.iter().filter(is_of).collect();
    assert!(!found.is_empty(), "docs/json.md has no section for {command}");
    let has_events = sections.iter().any(|section| section.command == command && !section.events.is_empty());
    assert!(
        !has_events || found.iter().any(|section| !section.events.is_empty()),
        "docs/json.md has no section for {event:?} of {command}"
    );
    found.into_iter().flat_map(|section| &section.fields).collect()
}

/// The type of a value, in the words of the page.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

impl Field {
    fn check(&self, value: &Value) {
        let path = &self.path;
        let allows = |kind: &str, found: &str| {
            kind.split(" or ").any(|kind| kind == found || (kind, found) == ("number", "integer"))
        };
        match (self.kind.strip_prefix("list of "), value) {
            (Some(kind), Value::Array(elements)) => {
                for element in elements {
                    assert!(allows(kind, kind_of(element)), "{path} is a {}: {element}", self.kind);
                }
            }
            (list, _) => {
                assert!(list.is_none() && allows(&self.kind, kind_of(value)), "{path} is {value}");
            }
        }
        if let (false, Some(text)) = (self.values.is_empty(), value.as_str()) {
            assert!(self.values.iter().any(|known| known == text), "docs/json.md has no {text} of {path}");
        }
    }
}

/// Checks the fields of an object at `path` in the whole.
fn check_object(fields: &[&Field], path: &str, object: &Value) {
    let Value::Object(members) = object else { return };
    let full = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let is_child = |field: &&&Field| {
        field.is_always_there && field.path.rsplit_once('.').map_or("", |(parent, _)| parent) == path
    };
    let expected: BTreeSet<&str> = fields.iter().filter(is_child).map(|field| field.path.as_str()).collect();
    let there: BTreeSet<String> = members.keys().map(|name| full(name)).collect();
    let missing: Vec<_> = expected.iter().filter(|&&path| !there.contains(path)).collect();
    assert!(missing.is_empty(), "docs/json.md says that these are always there: {missing:?}: {object}");
    for (name, value) in members {
        let path = full(name);
        let field = fields.iter().find(|field| field.path == path);
        field.unwrap_or_else(|| panic!("docs/json.md has no field {path}: {object}")).check(value);
        check_object(fields, &path, value);
        for element in value.as_array().into_iter().flatten() {
            check_object(fields, &format!("{path}[]"), element);
        }
    }
}

/// Checks that docs/json.md has all of an object that this command has written, and that it is as the page says.
pub fn check(command: &str, line: &str) {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let sections = sections();
    check_object(&fields_of(&sections, command, &object), "", &object);
}
