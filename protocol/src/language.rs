//! Languages, by their BCP 47 tag, and the direction they are written in.
//!
//! Owns: what a well-formed tag is here, and which scripts run right to left.
//! Refuses to know: which languages can be translated, and how a language is called.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A BCP 47 language tag, such as `es`, `pt-BR` or `zh-Hant`, kept in its conventional case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export, type = "string"))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", max_length = 35)
)]
#[serde(transparent)]
pub struct Language(
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"), length(max = 35)))]
    String,
);

/// Why a text is not a language tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotALanguage(String);

impl fmt::Display for NotALanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(40).collect();
        write!(f, "{shown:?} is not a language tag; use BCP 47, such as en, es, pt-BR or zh-Hant")
    }
}

impl std::error::Error for NotALanguage {}

impl Language {
    /// Longest tag accepted, in bytes (BCP 47, section 4.4.1: 35 suffices for every registered tag).
    pub const MAX_BYTES: usize = 35;

    /// Parses a tag: two to eight letters, then subtags of one to eight letters or digits.
    ///
    /// # Errors
    /// [`NotALanguage`] when the text has another form.
    pub fn parse(text: &str) -> Result<Self, NotALanguage> {
        let refuse = || NotALanguage(text.to_owned());
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return Err(refuse());
        }
        let mut tag = String::with_capacity(text.len());
        for (place, part) in text.split('-').enumerate() {
            let letters = part.bytes().all(|b| b.is_ascii_alphabetic());
            let sound = if place == 0 {
                (2..=8).contains(&part.len()) && letters
            } else {
                (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
            };
            if !sound {
                return Err(refuse());
            }
            if place > 0 {
                tag.push('-');
            }
            // The conventional case (BCP 47, section 2.1.1): script Titlecase, region UPPERCASE, the rest lower-case.
            match (place, part.len()) {
                (1.., 4) if letters => {
                    tag.push_str(&part[..1].to_ascii_uppercase());
                    tag.push_str(&part[1..].to_ascii_lowercase());
                }
                (1.., 2) => tag.push_str(&part.to_ascii_uppercase()),
                _ => tag.push_str(&part.to_ascii_lowercase()),
            }
        }
        Ok(Self(tag))
    }

    /// English, for where nothing is known.
    #[must_use]
    pub fn english() -> Self {
        Self("en".to_owned())
    }

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which way the language is written: by its script where the tag names one, else by the language.
    #[must_use]
    pub fn direction(&self) -> Direction {
        const RIGHT_TO_LEFT_SCRIPTS: [&str; 9] =
            ["Arab", "Aran", "Hebr", "Thaa", "Nkoo", "Syrc", "Adlm", "Rohg", "Mand"];
        const RIGHT_TO_LEFT: [&str; 15] =
            ["ar", "he", "fa", "ur", "ps", "sd", "ug", "yi", "dv", "ckb", "prs", "nqo", "syr", "pnb", "ks"];
        let mut parts = self.0.split('-');
        let primary = parts.next().unwrap_or_default();
        let script = parts.find(|part| part.len() == 4 && part.bytes().all(|b| b.is_ascii_alphabetic()));
        let rightward = match script {
            Some(script) => RIGHT_TO_LEFT_SCRIPTS.contains(&script),
            None => RIGHT_TO_LEFT.contains(&primary),
        };
        if rightward { Direction::Rtl } else { Direction::Ltr }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Language {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Which way a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Left to right.
    Ltr,
    /// Right to left.
    Rtl,
}

#[cfg(test)]
mod tests {
    use super::{Direction, Language};

    #[test]
    fn tags_take_their_conventional_case() {
        for (given, kept) in [("EN", "en"), ("pt-br", "pt-BR"), ("ZH-hANT-tw", "zh-Hant-TW"), ("es-419", "es-419")] {
            assert_eq!(Language::parse(given).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for text in ["", "e", "english!", "en_US", "-en", "en-", "1a", "en--US", "en\0", &"a".repeat(36)] {
            assert!(Language::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn direction_follows_the_script_before_the_language() {
        for (tag, direction) in [
            ("ar", Direction::Rtl),
            ("en", Direction::Ltr),
            ("ur", Direction::Rtl),
            ("ur-Latn", Direction::Ltr),
            ("az-Arab", Direction::Rtl),
            ("he-IL", Direction::Rtl),
        ] {
            assert_eq!(Language::parse(tag).unwrap().direction(), direction, "{tag}");
        }
    }
}
