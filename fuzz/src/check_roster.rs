//! Any bytes as any file of a roster.
//!
//! Owns: what must hold: neither pieces nor a byte order mark nor ends of lines matter, a row that is taken keeps every
//! promise of its file, a row that is refused says where and why, and lines only rise.
//! Refuses to know: what the rows refer to.
//!
//! An input is one byte for the file (in the order of `File::ALL`), one for version and mode (bit 0: 1.2, bit 1: delta),
//! one for the length of the pieces in which it is read, and the file.

use crate::files::{File, Mode, Version};
use crate::rows::{BadRow, COLUMNS, GoodRow, Judged, Rows, UnreadableFile, VALUE_BYTES};
use serde_json::Value;
use std::io::{self, Read};

/// Panics when a promise is broken.
pub fn check(input: &[u8]) {
    let &[file, how, piece, ref bytes @ ..] = input else { return };
    let file = File::ALL[usize::from(file) % File::ALL.len()];
    let version = if how & 1 == 0 { Version::V1_1 } else { Version::V1_2 };
    let mode = if how & 2 == 0 { Mode::Bulk } else { Mode::Delta };

    let whole = read(file, version, mode, bytes);
    let pieces = Pieces { rest: bytes, length: usize::from(piece) + 1 };
    assert_eq!(whole, read(file, version, mode, pieces), "in pieces it reads something else");

    let lines = lines(bytes);
    let other_system = [&b"\xEF\xBB\xBF"[..], &lines.join(&b'\n')].concat();
    assert_eq!(whole, read(file, version, mode, &*other_system), "with other ends of lines it reads something else");

    let (rows, end) = whole;
    assert!(rows.len() <= bytes.len(), "{} rows of {} bytes", rows.len(), bytes.len());
    match end {
        Ok(()) => {}
        Err(UnreadableFile::Broken(why)) => assert!(why.starts_with(file.name()), "{why}"),
        Err(UnreadableFile::Columns(bad)) => {
            assert!((1..=2 * COLUMNS).contains(&bad.len()));
            for row in &bad {
                check_refused(file, row);
                assert_eq!(row.line, 0, "the first line as a whole");
            }
        }
    }
    let begins = row_begins(&lines);
    for (index, row) in rows.iter().enumerate() {
        let line = match row {
            Judged::Good(row) => check_good(file, version, row),
            Judged::Refused { row, .. } => {
                check_refused(file, row);
                row.line
            }
        };
        // Rows are known by their line when what refers to them is looked for, and people look there.
        assert_eq!(begins.get(index + 1), Some(&line), "row {index}: {begins:?}");
    }
}

/// The lines, counted from 1, in which rows begin, the first of names included: found by another way than the reader's.
fn row_begins(lines: &[Vec<u8>]) -> Vec<u64> {
    let mut begins = Vec::new();
    let mut quoted = false;
    for (line, number) in lines.iter().zip(1..) {
        let mut rest = line.as_slice();
        while let (1, Some(after)) = (number, rest.strip_prefix(b"\xEF\xBB\xBF")) {
            rest = after;
        }
        if !quoted && !rest.is_empty() {
            begins.push(number);
        }
        let mut field_begins = !quoted;
        let mut bytes = rest.iter().peekable();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'"' if quoted => quoted = bytes.next_if_eq(&&b'"').is_some(),
                b'"' if field_begins => quoted = true,
                _ => {}
            }
            field_begins = !quoted && byte == b',';
        }
    }
    begins
}

fn read(file: File, version: Version, mode: Mode, from: impl Read) -> (Vec<Judged>, Result<(), UnreadableFile>) {
    let mut judged = Vec::new();
    let mut rows = match Rows::of(file, version, mode, from) {
        Ok(rows) => rows,
        Err(error) => return (judged, Err(error)),
    };
    loop {
        match rows.read() {
            Ok(Some(row)) => judged.push(row),
            Ok(None) => return (judged, Ok(())),
            Err(error) => return (judged, Err(error)),
        }
    }
}

fn check_refused(file: File, row: &BadRow) {
    assert_eq!(row.file, format!("{}.csv", file.name()));
    assert!(!row.column.is_empty() && !row.reason.is_empty(), "{row}");
    assert!(row.value.chars().count() <= 80, "{row}");
}

/// The lines of a file, whatever they end with.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut previous = 0;
    for &byte in bytes {
        match (previous, byte) {
            (b'\r', b'\n') => {}
            (_, b'\r' | b'\n') => lines.push(Vec::new()),
            _ => lines.last_mut().expect("there is a first line").push(byte),
        }
        previous = byte;
    }
    lines
}

/// The line of a row that was taken.
fn check_good(file: File, version: Version, row: &GoodRow) -> u64 {
    let Some([name, source_id, line, deleted, values]) = row.row.as_array().map(Vec::as_slice) else {
        panic!("a row has another form: {}", row.row)
    };
    assert_eq!(name, file.name());
    assert!(sound(source_id), "{source_id}");
    let values: serde_json::Map<String, Value> =
        serde_json::from_str(values.as_str().expect("values are text")).expect("values are an object");
    let deleted = deleted == 1;
    for (column, value) in &values {
        assert!(file.read().contains(&column.as_str()), "{column} is not read");
        assert!(sound(value), "{column} {value}");
        let refused = file.form(column).refuses(value.as_str().expect("values are texts"));
        assert!(deleted || refused.is_none(), "{column} {value} was taken");
    }
    if deleted {
        assert!(row.references.is_empty());
    } else {
        for column in file.required(version).filter(|column| file.read().contains(column)) {
            assert!(values.contains_key(column), "{column} is empty");
        }
    }
    for reference in &row.references {
        let Some([from, id, at, column, to, target]) = reference.as_array().map(Vec::as_slice) else {
            panic!("a reference has another form: {reference}")
        };
        assert_eq!((from, id, at), (name, source_id, line));
        let known = |one: &&crate::files::Reference| column == one.column && to == one.to.name();
        assert!(file.references().iter().any(|one| known(&one)), "{reference}");
        assert!(sound(target), "{reference}");
    }
    line.as_u64().expect("a line is a number")
}

/// Whether it is a text that may be stored.
fn sound(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        !text.is_empty() && text.len() <= VALUE_BYTES && text.trim() == text && !text.contains('\0')
    })
}

/// Reads so many bytes at once, as a slow disk might.
struct Pieces<'a> {
    rest: &'a [u8],
    length: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (now, later) = self.rest.split_at(self.rest.len().min(self.length).min(into.len()));
        into[..now.len()].copy_from_slice(now);
        self.rest = later;
        Ok(now.len())
    }
}
