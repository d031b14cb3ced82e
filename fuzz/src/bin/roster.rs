//! The `roster` target: see `check_roster`. Owns: nothing but the entry that libFuzzer calls.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homeroom_fuzz::check_roster::check(bytes));
