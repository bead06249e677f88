//! How long each wire format takes to write and to read, and what it allocates.

#![forbid(unsafe_code)]

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use plum_gateway::core::UdpPort;
use plum_wire::{http, igd, natpmp, pcp, soap, ssdp};
use plum_wire_benches as samples;
use std::net::SocketAddr;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Reads the same bytes again and again; they must be readable.
fn read<T, E: std::fmt::Debug>(bencher: Bencher, bytes: &[u8], parse: impl Fn(&[u8]) -> Result<T, E> + Sync) {
    parse(bytes).expect("an answer that can be read");
    bencher.counter(BytesCount::of_slice(bytes)).bench(|| parse(black_box(bytes)));
}

#[divan::bench]
fn emit_pcp_map(bencher: Bencher) {
    let request = samples::pcp_request();
    bencher.bench(|| black_box(&request).emit());
}

#[divan::bench]
fn parse_pcp_map(bencher: Bencher) {
    read(bencher, &samples::datagram_answer(UdpPort::Pcp, &samples::pcp_request().emit()), pcp::parse);
}

#[divan::bench]
fn emit_natpmp_map(bencher: Bencher) {
    let request = samples::natpmp_request();
    bencher.bench(|| black_box(&request).emit());
}

#[divan::bench]
fn parse_natpmp_map(bencher: Bencher) {
    read(bencher, &samples::datagram_answer(UdpPort::Pcp, &samples::natpmp_request().emit()), natpmp::parse);
}

#[divan::bench]
fn emit_ssdp_search(bencher: Bencher) {
    let to = SocketAddr::new(samples::GATEWAY, ssdp::PORT);
    bencher.bench(|| ssdp::emit_search(black_box(to), "upnp:rootdevice", 1));
}

#[divan::bench]
fn parse_ssdp_reply(bencher: Bencher) {
    read(bencher, &samples::search_answer(), ssdp::parse);
}

#[divan::bench]
fn read_http_reply(bencher: Bencher) {
    read(bencher, &samples::description_answer(), |bytes| {
        let mut reader = http::ReplyReader::new(1 << 20);
        reader.push(bytes).map(|reply| reply.map_or_else(|| reader.finish(), Ok))
    });
}

#[divan::bench]
fn parse_device_description(bencher: Bencher) {
    read(bencher, &samples::body(&samples::description_answer()), igd::parse);
}

#[divan::bench]
fn emit_add_port_mapping(bencher: Bencher) {
    bencher.bench(|| soap::emit(samples::SERVICE, "AddPortMapping", black_box(&samples::ADD_PORT_MAPPING)));
}

#[divan::bench]
fn parse_soap_reply(bencher: Bencher) {
    read(bencher, &samples::body(&samples::action_answer()), soap::parse);
}
