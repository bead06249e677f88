//! libFuzzer's way to `plum_fuzz::http`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::http::run(data));
