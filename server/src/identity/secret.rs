//! Secrets: made of the operating system's randomness, stored as hashes, never printed by accident.
//!
//! Owns: links, codes, tokens, and their hashes. Refuses to know: whose they are.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use std::fmt;

/// The letters of a code: none that looks like another (I, O, Q), and no vowels, so that no code spells a word.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPRSTVWXYZ";
/// Letters of a code: 20^8, about 35 bits.
const CODE: usize = 8;

/// A link, a code or a token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// 256 bits, as 43 characters that are safe in a URL.
    #[must_use]
    pub fn link() -> Self {
        Self(BASE64URL_NOPAD.encode(&random::<32>()))
    }

    /// Eight letters.
    #[must_use]
    pub fn code() -> Self {
        let mut code = String::with_capacity(CODE);
        while code.len() < CODE {
            // 240 is the greatest multiple of 20 in a byte: what lies above would favour some letters.
            let letters = random::<16>().into_iter().filter(|byte| *byte < 240);
            let letters = letters.filter_map(|byte| LETTERS.get(usize::from(byte) % LETTERS.len()));
            code.extend(letters.map(|letter| char::from(*letter)).take(CODE - code.len()));
        }
        Self(code)
    }

    /// The secret itself, to be shown once to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256. Enough for 256 random bits; codes are protected by their five tries instead.
#[must_use]
pub fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// A code as it was made, however somebody typed it.
#[must_use]
pub fn normalised_code(typed: &str) -> String {
    typed.chars().filter(|letter| letter.is_ascii_alphabetic()).take(32).collect::<String>().to_ascii_uppercase()
}

#[expect(clippy::expect_used, reason = "without randomness no secret may be made: stopping is the only safe answer")]
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_eight_clear_letters_and_differ() {
        let codes: std::collections::HashSet<String> = (0..1_000).map(|_| Secret::code().reveal().to_owned()).collect();
        assert_eq!(codes.len(), 1_000);
        assert!(codes.iter().all(|code| code.len() == CODE && code.bytes().all(|letter| LETTERS.contains(&letter))));
    }

    #[test]
    fn a_typed_code_is_read_kindly() {
        assert_eq!(normalised_code(" bcdf-ghjk "), "BCDFGHJK");
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Secret::link();
        assert!(!format!("{secret:?}").contains(secret.reveal()));
        assert_eq!(secret.reveal().len(), 43);
    }
}
