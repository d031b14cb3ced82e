//! Finding what no translator may touch: links, addresses, dates, times and numbers.
//!
//! Owns: [`found`]. Refuses to know: languages, and names (those come with the roster's words, in a later step).

use homeroom_protocol::{ProtectedSpan, SpanKind};

/// Spans found in one text. A long letter with a table of dates and prices has some 100; a text of nothing but digits and blanks would have
/// 4,000, and its spans would be twenty times as long as itself wherever it is stored, kept and sent.
pub const MOST: usize = 256;

/// The protected spans of a text, in order, counted in Unicode scalar values. Of more than [`MOST`] those stay that cost most when they are
/// lost: links, then dates and times, then numbers, and of one kind the first.
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
    if spans.len() > MOST {
        // Sorting is stable: those of one kind stay in the order of the text.
        spans.sort_by_key(|span| rank(span.kind));
        spans.truncate(MOST);
        spans.shrink_to_fit();
        spans.sort_unstable_by_key(|span| span.start);
    }
    spans
}

/// A link with one letter changed leads nowhere, or elsewhere. A translator writes a date in another order; digits it mostly leaves alone.
fn rank(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Link => 0,
        SpanKind::Name | SpanKind::Date | SpanKind::Unknown => 1,
        SpanKind::Number => 2,
    }
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
    fn a_text_of_nothing_but_numbers_has_spans_for_the_first_of_them() {
        let spans = found(&"1 ".repeat(4_000));
        assert_eq!(spans.len(), MOST);
        assert_eq!(spans.last().map(|span| span.start), Some(2 * (MOST as u32 - 1)));
    }

    #[test]
    fn of_too_many_the_links_stay_then_the_dates_and_all_are_in_order() {
        let text = format!("{}{}{}", "7 ".repeat(300), "8:30 ".repeat(200), "https://a.example ".repeat(100));
        let spans = found(&text);
        let count = |kind| spans.iter().filter(|span| span.kind == kind).count();
        assert_eq!((count(SpanKind::Link), count(SpanKind::Date), count(SpanKind::Number)), (100, MOST - 100, 0));
        assert_eq!(spans.first().map(|span| span.start), Some(600), "the first of the dates");
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let mixed = found(&format!("{}https://a.example 8:30", "7 ".repeat(300)));
        assert_eq!((mixed.len(), mixed[MOST - 3].kind), (MOST, SpanKind::Number));
        assert_eq!((mixed[MOST - 2].kind, mixed[MOST - 1].kind), (SpanKind::Link, SpanKind::Date));
    }

    #[test]
    fn plain_words_are_free() {
        assert!(found("Good morning, everybody. See you http:// soon").is_empty());
    }
}
