//! libFuzzer's way to `plum_fuzz::upnp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::upnp::run(data));
