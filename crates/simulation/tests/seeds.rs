//! A few hundred stories in the fast suite, and that a story is a function of its seed.

use plum_simulation::run::{shorten, tell};
use plum_simulation::story::StoryOptions;

/// The fast suite is not optimised: its stories are short. `simulation` tells thousands of long ones.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=300;

fn brief() -> StoryOptions {
    StoryOptions { brief: true, ..StoryOptions::default() }
}

#[test]
fn every_story_keeps_the_promises() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..threads)
            .map(|teller| {
                let seeds = SEEDS.skip(teller).step_by(threads);
                scope.spawn(move || seeds.filter_map(|seed| tell(seed, &brief()).err()).collect::<Vec<_>>())
            })
            .collect();
        let failures = tellers.into_iter().flat_map(|teller| teller.join().expect("failures are caught"));
        let failures: Vec<String> =
            failures.map(|failure| format!("seed {}: {}", failure.seed, failure.message)).collect();
        assert!(failures.is_empty(), "{failures:#?}\nsimulation --brief --seed N --trace shows more");
    });
}

#[test]
fn what_long_stories_have_shown_stays_mended() {
    // A protocol goes out and comes back while a mapping waits for its turn.
    let told = tell(4809, &StoryOptions::default());
    assert!(told.is_ok(), "seed 4809: {:?}", told.err().map(|failure| failure.message));
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 1000..1020 {
        let first = tell(seed, &brief()).expect("a story that keeps the promises");
        // Also while it is being traced.
        let again = tell(seed, &StoryOptions { trace: 10, ..brief() });
        assert_eq!(again.expect("the same as before"), first, "seed {seed}");
    }
    let other = tell(1021, &brief()).expect("a story that keeps the promises");
    let first = tell(1020, &brief()).expect("a story that keeps the promises");
    assert_ne!(first.hash, other.hash);
}

#[test]
fn a_story_without_steps_still_ends_well() {
    let options = StoryOptions { without: (0..100).collect(), ..brief() };
    for seed in 1..20 {
        assert!(tell(seed, &options).is_ok(), "seed {seed}");
    }
}

#[test]
fn a_failing_story_is_shortened_to_the_steps_that_it_needs() {
    // The engine keeps its promises: what fails here is a story that cannot be told at all.
    let failure = plum_simulation::run::Failure {
        seed: 1,
        message: String::new(),
        location: "nowhere".into(),
        trace: Vec::new(),
        gateways: Vec::new(),
        steps: 3,
    };
    assert!(shorten(&failure, true).without.is_empty(), "no step can be left out of what does not fail");
}
