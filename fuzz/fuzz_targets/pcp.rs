//! libFuzzer's way to `plum_fuzz::pcp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::pcp::run(data));
