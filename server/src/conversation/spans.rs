//! Finding what no translator may touch: links, addresses, dates, times and numbers.
//!
//! Owns: [`found`]. Refuses to know: languages, and names (those come with the roster's words, in a later step).

use homeroom_protocol::{ProtectedSpan, SpanKind};

/// The protected spans of a text, in order, counted in Unicode scalar values.
#[must_use]
pub fn found(text: &str) -> Vec<ProtectedSpan> {
    let mut spans = Vec::new();
    let mut start = 0_u32;
    // Words are what blanks separate; a word's own edges may be punctuation that belongs to the sentence.
    for word in text.split_inclusive(char::is_whitespace) {
        let length = count(word);
        let trimmed_start = word.trim_start_matches(|letter: char| "([{\"'“‘«„¿¡".contains(letter));
        let before = count(word) - count(trimmed_start);
        let core = trimmed_start
            .trim_end_matches(|letter: char| letter.is_whitespace() || ".,;:!?)]}\"'”’»،؟。、".contains(letter));
        if let Some(kind) = kind_of(core) {
            spans.push(ProtectedSpan { start: start + before, end: start + before + count(core), kind });
        }
        start += length;
    }
    spans
}

fn count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

fn kind_of(word: &str) -> Option<SpanKind> {
    let lower = word.to_ascii_lowercase();
    let is_link = ["http://", "https://", "www.", "mailto:"]
        .iter()
        .any(|start| lower.starts_with(start) && lower.len() > start.len());
    if is_link || is_address(word) {
        return Some(SpanKind::Link);
    }
    if !word.chars().any(char::is_numeric) {
        return None;
    }
    let of = |allowed: &str| word.chars().all(|letter| letter.is_numeric() || allowed.contains(letter));
    let separators = word.chars().filter(|letter| "/:-.".contains(*letter)).count();
    let is_clock = of(":") || (of(":apmAPM") && word.contains(':')) || (of("hH") && word.contains(['h', 'H']));
    let starts_with_digit = word.chars().next().is_some_and(char::is_numeric);
    if starts_with_digit
        && word.chars().any(|letter| !letter.is_numeric())
        && (is_clock || (of("/-.") && separators >= 2) || (of("/") && separators == 1))
    {
        return Some(SpanKind::Date);
    }
    // Room 12, 4B, €3.50, +1-202-555-0100, 25%: a word with a digit in it keeps its form.
    Some(SpanKind::Number)
}

fn is_address(word: &str) -> bool {
    word.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !host.starts_with('.') && !host.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(String, SpanKind)> {
        let letters: Vec<char> = text.chars().collect();
        found(text)
            .into_iter()
            .map(|span| (letters[span.start as usize..span.end as usize].iter().collect(), span.kind))
            .collect()
    }

    #[test]
    fn links_dates_and_numbers_are_found_without_the_punctuation_around_them() {
        assert_eq!(
            kinds(
                "¿Vienen el 24/11/2026 a las 8:30, aula 4B? Ver (https://escuela.example/a?b=1). Escribe a oficina@escuela.example."
            ),
            vec![
                ("24/11/2026".to_owned(), SpanKind::Date),
                ("8:30".to_owned(), SpanKind::Date),
                ("4B".to_owned(), SpanKind::Number),
                ("https://escuela.example/a?b=1".to_owned(), SpanKind::Link),
                ("oficina@escuela.example".to_owned(), SpanKind::Link),
            ]
        );
    }

    #[test]
    fn digits_of_every_script_count() {
        assert_eq!(kinds("الغرفة ١٢ غدا"), vec![("١٢".to_owned(), SpanKind::Number)]);
    }

    #[test]
    fn plain_words_are_free() {
        assert!(found("Good morning, everybody. See you http:// soon").is_empty());
    }
}
