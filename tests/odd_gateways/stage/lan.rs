//! Several gateways and other devices on one network.

use super::{Entry, Stage, Start, entries_of};
use plum_gateway::core::Gateway;
use std::time::Duration;

/// What a machine of the network is; it begins as a gateway with all protocols.
pub type Machine = Box<dyn FnOnce(&mut Gateway)>;

/// A stage with several machines. The first is the next hop toward the internet, the gateway of [`Stage::gateway`].
pub trait Lan: Stage {
    /// A program and these machines.
    fn begin_lan(start: Start, machines: Vec<Machine>) -> Self;

    /// A program at the first of these gateways. Each is of another network, and all have the same address.
    fn begin_at_home(start: Start, homes: Vec<Machine>) -> Self;

    /// The program's machine is carried to another of the networks.
    fn go_to(&mut self, home: usize);

    /// Looks at a machine, or changes it.
    fn machine<T>(&mut self, n: usize, act: impl FnOnce(&mut Gateway) -> T) -> T;

    /// Takes a machine's power, or gives it back.
    fn set_power(&mut self, n: usize, is_on: bool);

    /// Lets the story have this span, on either stage.
    fn spend(&mut self, span: Duration);

    /// The entries of a machine that libplum made.
    fn entries_of(&mut self, n: usize) -> Vec<Entry> {
        self.machine(n, entries_of)
    }

    /// The program ends, and nothing of it is left on any of these machines.
    #[track_caller]
    fn end_lan(mut self, machines: usize) {
        self.cleanup();
        for n in 0..machines {
            let is_empty = |stage: &mut Self| stage.entries_of(n).is_empty();
            self.wait(Duration::from_millis(20), "nothing is left behind", is_empty);
        }
    }
}
