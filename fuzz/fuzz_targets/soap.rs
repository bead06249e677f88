//! libFuzzer's way to `plum_fuzz::soap`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::soap::run(data));
