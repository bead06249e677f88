//! libFuzzer's way to `plum_fuzz::engines`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::engines::run(data));
