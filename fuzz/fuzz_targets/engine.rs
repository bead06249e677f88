//! libFuzzer's way to `plum_fuzz::engine`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::engine::run(data));
