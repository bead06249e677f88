//! libFuzzer's way to `plum_fuzz::api`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::api::run(data));
