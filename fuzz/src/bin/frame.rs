//! The `frame` target: see `check_frame`. Owns: nothing but the entry that libFuzzer calls.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homeroom_fuzz::check_frame::check(bytes));
