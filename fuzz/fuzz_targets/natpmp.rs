//! libFuzzer's way to `plum_fuzz::natpmp`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plum_fuzz::natpmp::run(data));
