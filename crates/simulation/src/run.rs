//! Runs stories: one, with its failure caught, or many on several threads.

use crate::story::{Outcome, Story, StoryOptions};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// A promise that a story has broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The story's seed.
    pub seed: u64,
    /// What was broken.
    pub message: String,
    /// Where that was noticed.
    pub location: String,
    /// The last that happened, as far as it was kept.
    pub trace: Vec<String>,
    /// What the gateways received.
    pub gateways: Vec<String>,
    /// How many steps the story has.
    pub steps: usize,
}

thread_local! {
    static PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Keeps what a panic says instead of printing it.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let location = info.location().map_or_else(String::new, ToString::to_string);
            let payload = info.payload();
            let literal = payload.downcast_ref::<&str>().copied();
            let message = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let message = message.unwrap_or("no message").to_string();
            PANIC.with(|panic| *panic.borrow_mut() = Some((message, location)));
        }));
    });
}

/// Tells the story of a seed.
pub fn tell(seed: u64, options: &StoryOptions) -> Result<Outcome, Box<Failure>> {
    keep_panics();
    let mut story = Story::new(seed, options);
    catch_unwind(AssertUnwindSafe(|| story.tell(options))).map_err(|_| {
        let kept = PANIC.with(|panic| panic.borrow_mut().take());
        let (message, location) = kept.unwrap_or_default();
        let trace = story.world.trace();
        let trace = trace.map(|(at, text)| format!("{:>16.6} s  {text}", at.as_secs_f64())).collect();
        let nodes = story.world.network.nodes.iter().zip(story.traits.iter());
        let gateways = nodes.map(|(node, traits)| {
            let gateway = &node.gateway;
            format!("{}\n  {:?}\n  {traits:?}", gateway.counts, gateway.faults)
        });
        let gateways = gateways.collect();
        Box::new(Failure { seed, message, location, trace, gateways, steps: story.steps() })
    })
}

/// Leaves out of a failing story as many steps as it fails without, in the same way.
pub fn shorten(failure: &Failure, brief: bool) -> StoryOptions {
    let mut options = StoryOptions { brief, ..StoryOptions::default() };
    let mut left_out_more = true;
    while left_out_more {
        left_out_more = false;
        // From the end: what came after the failure goes first.
        for step in (0..failure.steps).rev() {
            if options.without.contains(&step) {
                continue;
            }
            options.without.insert(step);
            let fails_so =
                tell(failure.seed, &options).is_err_and(|other| other.location == failure.location);
            if fails_so {
                left_out_more = true;
            } else {
                options.without.remove(&step);
            }
        }
    }
    options
}
