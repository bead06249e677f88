//! libFuzzer's way to `plum_fuzz::ssdp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::ssdp::run(data));
