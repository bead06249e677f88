//! How many packets a gateway gets.

use plum_gateway::core::{Kind, Received};
use std::time::Duration;

/// The most packets that a gateway got in any one second: an HTTP exchange is six of them (SYN, its ACK, the request,
/// the reply's ACK, FIN and its ACK).
pub fn most_packets_a_second<'a>(received: impl Iterator<Item = &'a Received>) -> usize {
    let packets = |kind| match kind {
        Kind::HttpDescription | Kind::Soap(_) => 6,
        _ => 1,
    };
    let all: Vec<(Duration, usize)> = received.map(|r| (r.at, packets(r.kind))).collect();
    let within = |(first, &(start, _)): (usize, &(Duration, usize))| {
        all[first..].iter().take_while(|(at, _)| *at < start + Duration::from_secs(1)).map(|(_, n)| n).sum()
    };
    all.iter().enumerate().map(within).max().unwrap_or(0)
}
