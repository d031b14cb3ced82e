//! The `command` target: see `check_command`. Owns: nothing but the entry that libFuzzer calls.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| homeroom_fuzz::check_command::check(bytes));
