//! The envelope: a text as it travels, ready to be translated.
//!
//! Owns: the original with its language and direction, the spans no translator may touch, the map of translations,
//! and the check of a draft. Refuses to know: who wrote it, who may read it, and who translates.

use crate::error::{ErrorCode, Fault};
use crate::language::{Direction, Language};
use crate::limits::Limits;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a client sends to be posted: the text in the language that it was written in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Draft {
    /// The language of `text`.
    pub language: Language,
    /// What is said: 1 to 8,000 characters, not only blanks, no NUL.
    pub text: String,
    /// Spans that the writer protects, beside those that the server finds (links, numbers, dates).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protected: Vec<ProtectedSpan>,
}

/// A text as it travels and is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Envelope {
    /// The language of the original.
    pub language: Language,
    /// Which way the original is written.
    pub direction: Direction,
    /// The original, as written.
    pub text: String,
    /// Spans that a translator must carry over unchanged, in rising order, not overlapping.
    #[serde(default)]
    pub protected: Vec<ProtectedSpan>,
    /// Translations, by language. Empty until a translator has been there; the original never waits for them.
    #[serde(default)]
    pub translations: BTreeMap<Language, Translation>,
}

/// A stretch of the original that no translator may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProtectedSpan {
    /// First character, counted in Unicode scalar values from 0.
    pub start: u32,
    /// One past the last character.
    pub end: u32,
    /// What it is.
    pub kind: SpanKind,
}

/// What a protected span holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// A person's or place's name.
    Name,
    /// A date or a time of day.
    Date,
    /// A number.
    Number,
    /// A link or an address.
    Link,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A text in another language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Translation {
    /// The translated text.
    pub text: String,
    /// Who or what translated it.
    pub engine: String,
    /// When.
    pub at: Timestamp,
    /// Names of the automatic checks that it failed; empty when it passed all.
    #[serde(default)]
    pub checks: Vec<String>,
    /// What a person who reviewed it said, if one did.
    #[serde(default)]
    pub review: Option<String>,
}

impl Draft {
    /// Checks the draft and makes the envelope that is kept. The spans found by `found` (names, dates, numbers, links)
    /// are joined with the writer's own.
    ///
    /// # Errors
    /// `invalid` when the text is empty, too long or holds a NUL (the databases differ on it), or a span lies outside it.
    pub fn into_envelope(self, found: impl FnOnce(&str) -> Vec<ProtectedSpan>) -> Result<Envelope, Fault> {
        let characters = self.text.chars().count();
        if self.text.trim().is_empty() {
            return Err(Fault::new(ErrorCode::Invalid, "The message is empty. Write something first."));
        }
        if characters > Limits::CURRENT.text_characters as usize {
            return Err(Fault::new(
                ErrorCode::TooLong,
                format!("The message has {characters} characters; {} is the most.", Limits::CURRENT.text_characters),
            ));
        }
        if self.text.contains('\0') {
            return Err(Fault::new(ErrorCode::Invalid, "The message holds a NUL character. Remove it."));
        }
        if self.protected.len() > 1_000 {
            return Err(Fault::new(ErrorCode::Invalid, "More than 1,000 protected spans."));
        }
        if self.protected.iter().any(|span| span.start >= span.end || span.end as usize > characters) {
            return Err(Fault::new(ErrorCode::Invalid, "A protected span lies outside the text."));
        }
        let mut protected = self.protected;
        protected.extend(found(&self.text));
        Ok(Envelope {
            direction: self.language.direction(),
            language: self.language,
            text: self.text,
            protected: without_overlap(protected),
            translations: BTreeMap::new(),
        })
    }
}

/// Sorts spans and joins those that overlap; the earlier, then longer one gives its kind.
fn without_overlap(mut spans: Vec<ProtectedSpan>) -> Vec<ProtectedSpan> {
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    let mut kept: Vec<ProtectedSpan> = Vec::with_capacity(spans.len());
    for span in spans {
        match kept.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => kept.push(span),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        Draft { language: Language::english(), text: text.to_owned(), protected: Vec::new() }
    }

    #[test]
    fn empty_long_and_nul_texts_are_refused() {
        let long = "x".repeat(8_001);
        for (text, code) in [
            ("", ErrorCode::Invalid),
            (" \n", ErrorCode::Invalid),
            ("a\0b", ErrorCode::Invalid),
            (long.as_str(), ErrorCode::TooLong),
        ] {
            assert_eq!(draft(text).into_envelope(|_| Vec::new()).unwrap_err().code, code);
        }
        assert!(draft(&"ж".repeat(8_000)).into_envelope(|_| Vec::new()).is_ok());
    }

    #[test]
    fn spans_are_sorted_and_do_not_overlap() {
        let mut draft = draft("Come at 8:30 to room 12");
        draft.protected = vec![ProtectedSpan { start: 8, end: 12, kind: SpanKind::Date }];
        let envelope = draft
            .into_envelope(|_| {
                vec![
                    ProtectedSpan { start: 21, end: 23, kind: SpanKind::Number },
                    ProtectedSpan { start: 8, end: 9, kind: SpanKind::Number },
                ]
            })
            .unwrap();
        assert_eq!(
            envelope.protected,
            vec![
                ProtectedSpan { start: 8, end: 12, kind: SpanKind::Date },
                ProtectedSpan { start: 21, end: 23, kind: SpanKind::Number }
            ]
        );
    }

    #[test]
    fn a_span_outside_the_text_is_refused() {
        let mut draft = draft("short");
        draft.protected = vec![ProtectedSpan { start: 2, end: 6, kind: SpanKind::Name }];
        assert_eq!(draft.into_envelope(|_| Vec::new()).unwrap_err().code, ErrorCode::Invalid);
    }
}
