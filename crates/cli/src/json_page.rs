//! docs/json.md has all values of the enumerations that `--json` writes, and no others; its examples are as its tables say.

mod page;

use crate::failures::KINDS;
use crate::pages::are_here;
use crate::probe::ipv6::{NextHop, State, verdict::Kind as Ipv6Kind};
use crate::probe::{Surroundings, verdict::Kind};
use crate::reach::Reach;
use crate::removal::{Outcome, Sight};
use clap::ValueEnum;
use page::Section;
use serde::Serialize;

/// The values of an enumeration, as JSON has them.
fn values<T: ValueEnum + Serialize>() -> Vec<String> {
    let text = |value: &T| serde_json::to_value(value).expect("JSON").as_str().expect("a text").to_owned();
    T::value_variants().iter().map(text).collect()
}

fn assert_same(what: &str, mut documented: Vec<String>, mut real: Vec<String>) {
    documented.sort();
    real.sort();
    assert_eq!(documented, real, "docs/json.md and the code: {what}");
}

/// The values that the page has of a field.
fn documented(sections: &[Section], command: &str, path: &str) -> Vec<String> {
    let of_command = sections.iter().filter(|section| section.command == command);
    let field = of_command.flat_map(|section| &section.fields).find(|field| field.path == path);
    field.unwrap_or_else(|| panic!("docs/json.md has no {path} of {command}")).values.clone()
}

#[test]
fn the_page_has_the_values_of_the_code() {
    if !are_here("the_page_has_the_values_of_the_code") {
        return;
    }
    let sections = page::sections();
    let reasons = KINDS.iter().map(|kind| kind.code.to_owned()).collect();
    for (command, path, real) in [
        ("map", "reason", reasons),
        ("map", "reachable_from", values::<Reach>()),
        ("unmap", "upnp", values::<Sight>()),
        ("probe", "verdict", values::<Kind>()),
        ("probe", "ipv6_verdict.verdict", values::<Ipv6Kind>()),
        ("probe", "surroundings", values::<Surroundings>()),
        ("probe", "ipv6.state", values::<State>()),
        ("probe", "ipv6.next_hop", values::<NextHop>()),
    ] {
        assert_same(path, documented(&sections, command, path), real);
    }
    let outcomes = sections.iter().filter(|section| section.command == "unmap");
    let outcomes = outcomes.flat_map(|section| section.events.clone()).collect();
    let mut real = values::<Outcome>();
    real.push("would-remove".to_owned());
    assert_same("outcome", outcomes, real);
}

#[test]
fn the_examples_of_the_page_are_as_its_tables_say() {
    if !are_here("the_examples_of_the_page_are_as_its_tables_say") {
        return;
    }
    let text = page::text();
    let mut command = String::new();
    let mut examples = 0;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## `plum ") {
            heading.trim_end_matches('`').clone_into(&mut command);
        } else if line.starts_with('{') {
            page::check(&command, line);
            examples += 1;
        }
    }
    assert!(examples >= 11, "an example for each event and command");
}
