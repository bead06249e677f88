//! `simulation --seeds 1..=10000 --jobs 2`, or one story again: `simulation --seed N --trace`.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a program")]

use plum_simulation::run::{Failure, shorten, tell};
use plum_simulation::story::{Outcome, StoryOptions};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const USAGE: &str = "\
usage: simulation [--seeds FIRST..=LAST] [--jobs N] [--most-failures N] [--unexplained FILE] [--brief]
       simulation --seed N [--trace [LINES]] [--without STEP,STEP...] [--shorten] [--brief]

Tells the stories of many seeds, on N threads (default: 1..=1000, one thread), and stops after so many failures
(default 10; 0: never). Or tells one story; --trace shows its last lines (default: all), --without leaves out steps,
--shorten looks for the steps that a failure needs. --brief: the short stories of the fast suite.
--unexplained: the seeds at the beginnings of this file's lines are told, and fail without breaking a promise.
Ends with 1 if a promise was broken, with 2 if it was called wrongly.";

struct Arguments {
    seeds: RangeInclusive<u64>,
    one: bool,
    jobs: usize,
    most_failures: usize,
    unexplained: BTreeSet<u64>,
    trace: Option<usize>,
    without: BTreeSet<usize>,
    shorten: bool,
    brief: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("simulation: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let is_good = if arguments.one { tell_one(&arguments) } else { tell_many(&arguments) };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: 1..=1000,
        one: false,
        jobs: 1,
        most_failures: 10,
        unexplained: BTreeSet::new(),
        trace: None,
        without: BTreeSet::new(),
        shorten: false,
        brief: false,
    };
    let mut next = words.next();
    while let Some(word) = next {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let (first, last) = text.split_once("..=").ok_or(format!("{text} is no FIRST..=LAST"))?;
                arguments.seeds = number(first)?..=number(last)?;
            }
            "--seed" => {
                let seed = number(&value()?)?;
                (arguments.seeds, arguments.one) = (seed..=seed, true);
            }
            "--jobs" => arguments.jobs = number(&value()?)?,
            "--most-failures" => arguments.most_failures = number(&value()?)?,
            "--unexplained" => arguments.unexplained = read_seeds(&value()?)?,
            "--without" => arguments.without = value()?.split(',').map(number).collect::<Result<_, _>>()?,
            "--shorten" => arguments.shorten = true,
            "--brief" => arguments.brief = true,
            "--trace" => {
                next = words.next();
                match next.as_deref().map(str::parse) {
                    Some(Ok(lines)) => arguments.trace = Some(lines),
                    _ => {
                        arguments.trace = Some(usize::MAX);
                        continue;
                    }
                }
            }
            _ => return Err(format!("what is {word}?")),
        }
        next = words.next();
    }
    Ok(arguments)
}

/// The numbers at the beginnings of the lines of a file; other lines are remarks.
fn read_seeds(file: &str) -> Result<BTreeSet<u64>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// How much of what happened a failure shows.
const LINES: usize = 60;

fn tell_one(arguments: &Arguments) -> bool {
    let seed = *arguments.seeds.start();
    let trace = arguments.trace.unwrap_or(LINES);
    let mut options = StoryOptions { trace, without: arguments.without.clone(), brief: arguments.brief };
    let failure = match tell(seed, &options) {
        Ok(outcome) => {
            println!("seed {seed}: {outcome:#?}");
            return true;
        }
        Err(failure) => failure,
    };
    if arguments.shorten {
        options.without = shorten(&failure, arguments.brief).without;
    }
    match tell(seed, &options) {
        Err(failure) => show(&failure, &options),
        Ok(_) => {
            println!("seed {seed} fails, but not a second time: it depends on something else than its seed")
        }
    }
    false
}

fn show(failure: &Failure, options: &StoryOptions) {
    for line in &failure.trace {
        println!("{line}");
    }
    for (n, gateway) in failure.gateways.iter().enumerate() {
        println!("gateway {n}: {gateway}");
    }
    println!("seed {}: {}\n  ({})", failure.seed, failure.message, failure.location);
    let without: Vec<String> = options.without.iter().map(ToString::to_string).collect();
    let without =
        if without.is_empty() { String::new() } else { format!(" --without {}", without.join(",")) };
    println!(
        "again: cargo run --profile simulation -p plum-simulation -- --seed {}{without} --trace",
        failure.seed
    );
}

#[derive(Default)]
struct Sum {
    outcomes: u64,
    unexplained: u64,
    virtual_time: Duration,
    longest: Duration,
    total: Totals,
    failures: Vec<Failure>,
}

#[derive(Default)]
struct Totals {
    sent: u64,
    received: u64,
    exchanges: u64,
    mappings: u64,
    callbacks: u64,
    inits: u64,
    restarts: u64,
    comparisons: u64,
    most_packets: u32,
    most_held: (isize, usize),
    hash: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.sent += outcome.counts.datagrams_sent;
        self.received += outcome.counts.datagrams_received;
        self.exchanges += outcome.counts.exchanges;
        self.mappings += outcome.counts.mappings;
        self.callbacks += outcome.counts.callbacks;
        self.inits += outcome.counts.inits;
        self.restarts += outcome.restarts;
        self.comparisons += outcome.comparisons;
        self.most_packets = self.most_packets.max(outcome.most_packets);
        self.most_held = self.most_held.max(outcome.most_held);
        // In whatever order the threads finish.
        self.hash = self.hash.wrapping_add(outcome.hash);
    }
}

fn tell_many(arguments: &Arguments) -> bool {
    let next = AtomicU64::new(*arguments.seeds.start());
    let last = *arguments.seeds.end();
    let sum = Mutex::new(Sum::default());
    let options = StoryOptions { brief: arguments.brief, ..StoryOptions::default() };
    let enough = |sum: &Sum| arguments.most_failures > 0 && sum.failures.len() >= arguments.most_failures;
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || enough(&sum.lock().expect("no thread panics with it")) {
                        break;
                    }
                    let result = tell(seed, &options);
                    let mut sum = sum.lock().expect("no thread panics with it");
                    match result {
                        Ok(outcome) => {
                            if arguments.unexplained.contains(&seed) {
                                println!(
                                    "seed {seed} passes, and need not be in the list of those that fail"
                                );
                            }
                            sum.outcomes += 1;
                            sum.virtual_time += outcome.virtual_time;
                            sum.longest = sum.longest.max(outcome.virtual_time);
                            sum.total.add(&outcome);
                        }
                        Err(failure) => {
                            let line = failure.message.lines().next().unwrap_or_default();
                            println!("seed {seed}: {line} ({})", failure.location);
                            match arguments.unexplained.contains(&seed) {
                                true => sum.unexplained += 1,
                                false => sum.failures.push(*failure),
                            }
                        }
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no thread panics with it");
    print_sum(&sum);
    if let Some(failure) = sum.failures.iter().min_by_key(|failure| failure.seed) {
        println!();
        let options = StoryOptions { trace: LINES, ..options };
        match tell(failure.seed, &options) {
            Err(failure) => show(&failure, &options),
            Ok(_) => println!("seed {} does not fail again", failure.seed),
        }
    }
    sum.failures.is_empty()
}

fn print_sum(sum: &Sum) {
    let days = |span: Duration| span.as_secs_f64() / 86_400.0;
    let total = &sum.total;
    println!("stories {}, failed {}, unexplained {}", sum.outcomes, sum.failures.len(), sum.unexplained);
    println!(
        "virtual time {:.1} years, the longest {:.0} days",
        days(sum.virtual_time) / 365.25,
        days(sum.longest)
    );
    println!(
        "datagrams {} sent, {} received; HTTP exchanges {}; mappings {}, callbacks {}",
        total.sent, total.received, total.exchanges, total.mappings, total.callbacks
    );
    println!(
        "cleanups followed by init {}, restarts of gateways {}, states compared {} times",
        total.inits, total.restarts, total.comparisons
    );
    println!(
        "most packets in a quiet second {}; most memory {} bytes, for {} mappings; hash {:016x}",
        total.most_packets, total.most_held.0, total.most_held.1, total.hash
    );
}
