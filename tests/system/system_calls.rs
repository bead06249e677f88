//! The system calls that SECURITY.md lists are all that the library needs.

use crate::filter::{allow_only, program_of};
use crate::harness::{Program, Router, settings};
use plum_engine::io::Protocol;
use plum_runtime::client::{Settings, local_address};
use plum_runtime::log::Level;
use plum_testkit::namespace::{ip, is_inside};

/// The names in the table of SECURITY.md, as far as they are for this processor.
fn listed(document: &str, processor: &str) -> Vec<String> {
    let section =
        document.split("\n## ").find(|section| section.starts_with("System calls\n")).expect("a section");
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let mut names: Vec<String> = rows
        .filter(|(purpose, _)| purpose.split_once(", on ").is_none_or(|(_, only)| only == processor))
        .flat_map(|(_, calls)| calls.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 30, "{names:?}");
    names
}

fn document() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md")).expect("SECURITY.md")
}

#[test]
fn the_system_calls_of_the_document_have_numbers() {
    for processor in ["x86_64", "aarch64"] {
        let names = listed(&document(), processor);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Err(error) = program_of(&names, processor) {
            panic!("{processor}: {error}");
        }
    }
    assert!(program_of(&["epoll_wait"], "aarch64").is_err(), "this test can fail");
}

#[test]
fn the_system_calls_of_the_document_are_enough() {
    if !is_inside("system_calls::the_system_calls_of_the_document_are_enough") {
        return;
    }
    let router = Router::start(1);
    ip("route add default via 10.1.0.1");
    for best in Protocol::ASKING {
        router.with_gateway(|core| {
            core.faults.closed.pcp = best > Protocol::Pcp;
            core.faults.closed.natpmp = best > Protocol::NatPmp;
        });
        for on_output in [false, true] {
            let names = listed(&document(), std::env::consts::ARCH);
            let live = move || {
                allow_only(&names.iter().map(String::as_str).collect::<Vec<_>>());
                assert!(local_address().is_some());
                let settings =
                    Settings { log_level: Some(Level::Verbose), recheck_interval_millis: 100, ..settings() };
                let start = if on_output { Program::start_on_output } else { Program::start };
                let program = start(settings);
                for port in 4000..4004 {
                    let id = program.create(port);
                    assert_eq!(program.expect_success(id, 1).protocol, best);
                }
                for _ in 0..if on_output { 0 } else { 3 } {
                    // It looks again.
                    program.expect_log(Level::Debug, &["route by 10.1.0.1"]);
                }
                program.cleanup();
            };
            std::thread::spawn(live).join().expect("no panic");
            assert_eq!(router.with_gateway(|core| core.table().len()), 0);
        }
    }
}
