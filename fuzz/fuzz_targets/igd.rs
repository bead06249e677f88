//! libFuzzer's way to `plum_fuzz::igd`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::igd::run(data));
