//! The rows of one file of a roster, each judged by itself.
//!
//! Owns: reading CSV within bounds, and saying of each row what is wrong with it, by file, line and column.
//! Refuses to know: where the file lies, where rows are kept, and whether what they refer to is there. It needs neither a
//! disk nor a database, so that `fuzz/` can build it by itself.

use super::files::{self, File, Mode, Reference, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest row, in bytes.
pub const ROW_BYTES: u64 = 256 * 1024;
/// The longest value, in bytes.
pub const VALUE_BYTES: usize = 8 * 1024;
const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
/// The most columns: the standard's longest file has about 30, and each is compared with all others.
pub const COLUMNS: usize = 1_000;

/// A row that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// The file.
    pub file: String,
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: u64,
    /// The column.
    pub column: String,
    /// What it says, shortened.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BadRow {
    /// Of a file as a whole.
    #[must_use]
    pub fn of_file(file: &str, column: &str, value: &str, reason: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: column.to_owned(),
            value: value.chars().take(80).collect(),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        if !self.column.is_empty() {
            write!(f, ", {}", self.column)?;
        }
        if !self.value.is_empty() {
            write!(f, " {:?}", self.value)?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why a file gives no rows, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableFile {
    /// It is not CSV, or can't be read.
    #[error("{0}")]
    Broken(String),
    /// Its first line lacks what it must name.
    #[error("the first line can't be taken")]
    Columns(Vec<BadRow>),
}

/// A row that can be taken, in the form in which it is staged.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodRow {
    /// File, `sourcedId`, line, 1 for `tobedeleted`, and what was read as a JSON object in a string; empty values are left out.
    pub row: Value,
    /// File, `sourcedId`, line, column, and the file and `sourcedId` that it names: one of these for each.
    pub references: Vec<Value>,
}

/// A row, judged by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// It can be taken.
    Good(GoodRow),
    /// It can't.
    Refused {
        /// Whom it is about, as far as it can be read.
        source_id: String,
        /// What is wrong with it.
        row: BadRow,
    },
}

/// Reads one file.
pub struct Rows<R> {
    file: File,
    mode: Mode,
    columns: Columns,
    reader: csv::Reader<Bounded<io::Chain<io::Cursor<Vec<u8>>, R>>>,
    record: csv::ByteRecord,
    line: u64,
    allowance: Arc<AtomicU64>,
}

impl<R: Read> Rows<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`UnreadableFile`], with every column that is missing.
    pub fn of(file: File, version: Version, mode: Mode, mut from: R) -> Result<Self, UnreadableFile> {
        let broken = |error: &dyn fmt::Display| UnreadableFile::Broken(format!("{}.csv: {error}", file.name()));
        // The csv crate knows a byte order mark only if it comes in one piece, and not alone.
        let mut start = BYTE_ORDER_MARK.to_vec();
        while start == BYTE_ORDER_MARK {
            start.clear();
            from.by_ref().take(3).read_to_end(&mut start).map_err(|error| broken(&error))?;
        }
        let allowance = Arc::new(AtomicU64::new(ROW_BYTES));
        let inner = io::Cursor::new(start).chain(from);
        let bounded = Bounded { inner, allowance: allowance.clone(), taken: 0, last: 0, ended: false };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bounded);
        let headers = reader.byte_headers().map_err(|error| broken(&error))?.clone();
        if headers.len() > COLUMNS {
            return Err(broken(&format!("has {} columns; {COLUMNS} is the most", headers.len())));
        }
        if reader.get_ref().ended && !headers.is_empty() {
            return Err(broken(&"a quote in the first line is never closed"));
        }
        let columns = Columns::of(file, version, mode, &headers)?;
        Ok(Self { file, mode, columns, reader, record: csv::ByteRecord::new(), line: 0, allowance })
    }

    /// The next row; nothing at the end.
    ///
    /// # Errors
    /// [`UnreadableFile::Broken`]. There are no more rows after it.
    pub fn read(&mut self) -> Result<Option<Judged>, UnreadableFile> {
        self.allowance.store(ROW_BYTES, Ordering::Relaxed);
        let first = self.reader.position().line();
        let more = self.reader.read_byte_record(&mut self.record).map_err(|error| {
            let name = self.file.name();
            UnreadableFile::Broken(format!("{name}.csv: {error}; is a quote not closed near line {first}?"))
        })?;
        if !more {
            return Ok(None);
        }
        if self.reader.get_ref().ended || self.columns.swallows_lines(&self.record) {
            // What a quote swallows would count as gone, so nothing of this file can be taken.
            let name = self.file.name();
            return Err(UnreadableFile::Broken(format!("{name}.csv: is a quote not closed near line {first}?")));
        }
        // Empty lines before a row are passed over by the reader, so the row's line is counted back from its end.
        let after = self.reader.position().line();
        let line = after.saturating_sub(newlines(&self.record) + 1).max(first);
        self.line = line;
        Ok(Some(match self.columns.row(self.file, self.mode, line, &self.record) {
            Ok(row) => Judged::Good(row),
            Err(row) => Judged::Refused { source_id: self.columns.named(&self.record), row },
        }))
    }

    /// The line of the row that was read last.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The row that was read last, as one line of CSV.
    #[must_use]
    pub fn raw(&self) -> String {
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        let written = writer.write_byte_record(&self.record).ok().and_then(|()| writer.into_inner().ok());
        String::from_utf8_lossy(&written.unwrap_or_default()).trim_end().to_owned()
    }

    /// How far it has come in the file.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.reader.get_ref().taken
    }
}

/// Where the columns of a file stand.
struct Columns {
    source_id: usize,
    status: Option<usize>,
    changed: Option<usize>,
    required: Vec<(&'static str, usize)>,
    read: Vec<(&'static str, usize)>,
    /// How many there are, and what the last one is called.
    width: usize,
    last: String,
}

impl Columns {
    fn of(file: File, version: Version, mode: Mode, headers: &csv::ByteRecord) -> Result<Self, UnreadableFile> {
        let name = format!("{}.csv", file.name());
        let headers: Vec<String> = headers
            .iter()
            .map(|header| String::from_utf8_lossy(header).trim_start_matches('\u{feff}').trim().to_owned())
            .collect();
        let mut bad = Vec::new();
        let place = |column: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(column));
        for (index, header) in headers.iter().enumerate() {
            if !header.is_empty() && headers.iter().take(index).any(|other| other.eq_ignore_ascii_case(header)) {
                bad.push(BadRow::of_file(&name, header, "", "stands twice in the first line"));
            }
        }
        let mut required = Vec::new();
        for column in file.required(version) {
            match place(column) {
                Some(index) => required.push((column, index)),
                None => bad.push(BadRow::of_file(&name, column, "", "is missing from the first line")),
            }
        }
        if mode == Mode::Delta {
            for column in ["status", "dateLastModified"] {
                if place(column).is_none() {
                    bad.push(BadRow::of_file(&name, column, "", "is missing from the first line; a delta needs it"));
                }
            }
        }
        if !bad.is_empty() {
            return Err(UnreadableFile::Columns(bad));
        }
        Ok(Self {
            source_id: place("sourcedId").unwrap_or(0),
            status: place("status"),
            changed: place("dateLastModified"),
            required,
            read: file.read().iter().filter_map(|column| place(column).map(|index| (*column, index))).collect(),
            width: headers.len(),
            last: headers.last().filter(|name| !name.is_empty()).map_or("the last column", String::as_str).to_owned(),
        })
    }

    /// The first value that no column is there for; empty ones do no harm.
    fn beyond<'a>(&self, record: &'a csv::ByteRecord) -> Option<&'a [u8]> {
        record.iter().skip(self.width).find(|value| !value.trim_ascii().is_empty())
    }

    /// Whether a quote that is not closed where it should be has made one row of several.
    fn swallows_lines(&self, record: &csv::ByteRecord) -> bool {
        self.beyond(record).is_some() && newlines(record) > 0
    }

    /// What a row calls itself, as far as it can be read.
    fn named(&self, record: &csv::ByteRecord) -> String {
        String::from_utf8_lossy(record.get(self.source_id).unwrap_or_default()).trim().to_owned()
    }

    /// One row, judged by itself.
    fn row(&self, file: File, mode: Mode, line: u64, record: &csv::ByteRecord) -> Result<GoodRow, BadRow> {
        let refuse = |column: &str, value: &str, reason: &str| BadRow {
            file: format!("{}.csv", file.name()),
            line,
            column: column.to_owned(),
            value: value.chars().take(80).collect(),
            reason: reason.to_owned(),
        };
        let text = |column: &str, index: usize| -> Result<&str, BadRow> {
            let bytes = record.get(index).unwrap_or_default();
            let shown = || String::from_utf8_lossy(bytes).into_owned();
            let value = std::str::from_utf8(bytes).map_err(|_| refuse(column, &shown(), "is not UTF-8"))?;
            if value.contains('\0') {
                return Err(refuse(column, &value.replace('\0', "␀"), "holds a NUL character"));
            }
            if value.len() > VALUE_BYTES {
                return Err(refuse(column, value, "is longer than 8 KiB"));
            }
            Ok(value.trim())
        };
        let source_id = text("sourcedId", self.source_id)?;
        if source_id.is_empty() {
            return Err(refuse("sourcedId", "", "is empty"));
        }
        if let Some(value) = self.beyond(record) {
            let reason = "stands beyond the last column; is a comma not in quotes?";
            return Err(refuse(&self.last, &String::from_utf8_lossy(value), reason));
        }
        let status = self.status.map_or(Ok(""), |index| text("status", index))?;
        let delta = mode == Mode::Delta;
        let deleted = match status.to_ascii_lowercase().as_str() {
            "active" => false,
            "" if !delta => false,
            "tobedeleted" | "inactive" => true,
            _ => return Err(refuse("status", status, "is neither active nor tobedeleted")),
        };
        if delta && self.changed.map_or(Ok(""), |index| text("dateLastModified", index))?.is_empty() {
            return Err(refuse("dateLastModified", "", "is empty; a delta needs it"));
        }
        if !deleted {
            for (column, index) in &self.required {
                if text(column, *index)?.is_empty() {
                    return Err(refuse(column, "", "is empty"));
                }
            }
        }
        let mut values = Map::new();
        for (column, index) in &self.read {
            let value = text(column, *index)?;
            if value.is_empty() {
                continue;
            }
            if let Some(reason) = file.form(column).refuses(value).filter(|_| !deleted) {
                return Err(refuse(column, value, &reason));
            }
            values.insert((*column).to_owned(), Value::String(value.to_owned()));
        }
        let day = |column: &str| values.get(column).and_then(Value::as_str).map(files::date);
        if let Some((begins, ends)) = file.span().filter(|_| !deleted)
            && let (Some(first), Some(last)) = (day(begins), day(ends))
            && last < first
        {
            return Err(refuse(ends, last, &format!("is before {begins}, {first}")));
        }
        let mut references = Vec::new();
        if !deleted {
            for Reference { column, to, list } in file.references() {
                let whole = if *column == "sourcedId" {
                    source_id
                } else {
                    values.get(*column).and_then(Value::as_str).unwrap_or_default()
                };
                let targets =
                    whole.split(|letter| *list && letter == ',').map(str::trim).filter(|part| !part.is_empty());
                for target in targets {
                    references.push(serde_json::json!([file.name(), source_id, line, column, to.name(), target]));
                }
            }
        }
        let vals = serde_json::to_string(&values).unwrap_or_default();
        let row = serde_json::json!([file.name(), source_id, line, i64::from(deleted), vals]);
        Ok(GoodRow { row, references })
    }
}

/// Newlines in a record's values.
fn newlines(record: &csv::ByteRecord) -> u64 {
    record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Makes every end of a line a single newline, the last one too, so that lines can be counted whatever system wrote the file;
/// and gives up when one row takes too many bytes: a quote that is never closed must not take the whole file into memory.
struct Bounded<R> {
    inner: R,
    allowance: Arc<AtomicU64>,
    /// Bytes read.
    taken: u64,
    /// The last byte read.
    last: u8,
    /// The end was met. Every line is ended, so who meets it within a row has a quote open.
    ended: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.inner.read(into)?;
            if read == 0 {
                return Ok(self.finish(into));
            }
            self.taken += read as u64;
            let left = self.allowance.load(Ordering::Relaxed).checked_sub(read as u64);
            self.allowance
                .store(left.ok_or_else(|| io::Error::other("a row is longer than 256 KiB"))?, Ordering::Relaxed);
            // A piece may be nothing but the second half of an end of line; nothing would mean the end of the file.
            let kept = self.join_line_ends(into.get_mut(..read).unwrap_or_default());
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

impl<R> Bounded<R> {
    /// Ends the last line.
    fn finish(&mut self, into: &mut [u8]) -> usize {
        let open = self.taken > 0 && !matches!(self.last, b'\n' | b'\r');
        match into.first_mut().filter(|_| open) {
            Some(byte) => {
                *byte = b'\n';
                self.last = b'\n';
                1
            }
            None => {
                self.ended = true;
                0
            }
        }
    }

    /// Turns CR LF and CR into LF, in place, and says how many bytes are left.
    fn join_line_ends(&mut self, bytes: &mut [u8]) -> usize {
        let before = self.last;
        self.last = bytes.last().copied().unwrap_or(before);
        if before != b'\r' && !bytes.contains(&b'\r') {
            return bytes.len();
        }
        let mut previous = before;
        let mut kept = 0;
        for place in 0..bytes.len() {
            let Some(byte) = bytes.get(place).copied() else { break };
            if !(byte == b'\n' && previous == b'\r') {
                if let Some(target) = bytes.get_mut(kept) {
                    *target = if byte == b'\r' { b'\n' } else { byte };
                }
                kept += 1;
            }
            previous = byte;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str) -> Vec<u64> {
        let mut rows = Rows::of(File::Orgs, Version::V1_1, Mode::Bulk, text.as_bytes()).unwrap();
        let mut lines = Vec::new();
        while let Some(judged) = rows.read().unwrap() {
            lines.push(match judged {
                Judged::Good(row) => row.row[2].as_u64().unwrap(),
                Judged::Refused { row, .. } => row.line,
            });
        }
        lines
    }

    #[test]
    fn lines_are_those_that_an_editor_shows_whatever_ends_them() {
        let text = "sourcedId,name,type\nO-1,Hill,school\n\n\nO-2,\"two\nlines\",school\nO-3,,school\nO-4,Dale,school";
        for end in ["\n", "\r\n", "\r"] {
            assert_eq!(lines_of(&text.replace('\n', end)), [2, 5, 7, 8], "{end:?}");
            assert_eq!(lines_of(&format!("\u{feff}{text}\n").replace('\n', end)), [2, 5, 7, 8], "{end:?}");
        }
    }

    #[test]
    fn a_first_line_of_too_many_columns_is_refused() {
        let columns = (0..=COLUMNS).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
        let refused = Rows::of(File::Orgs, Version::V1_1, Mode::Bulk, columns.as_bytes()).err().unwrap();
        assert_eq!(refused, UnreadableFile::Broken("orgs.csv: has 1001 columns; 1000 is the most".to_owned()));
    }

    /// The rows behind the quote would count as gone.
    #[test]
    fn a_quote_that_swallows_rows_breaks_the_file_wherever_it_stands() {
        let head = "sourcedId,name,type,metadata.note\n";
        for rows in [
            "O-1,Hill,school,\"a note\nO-2,Dale,school,\n",
            "O-1,Hill,school,\"a note\nO-2,Dale,school,",
            "O-1,Hill,school,\"",
            "O-1,\"Hill,school,\nO-2,Dale,school,\n",
            // Closed by the quote that was to open the next one.
            "O-1,Hill,school,\"a note\nO-2,\"Dale, East\",school,\n",
        ] {
            let text = format!("{head}{rows}");
            let mut rows = Rows::of(File::Orgs, Version::V1_1, Mode::Bulk, text.as_bytes()).unwrap();
            let refused = rows.read().unwrap_err();
            assert!(refused.to_string().contains("is a quote not closed near line 2?"), "{text:?}: {refused}");
        }
        let refused = Rows::of(File::Orgs, Version::V1_1, Mode::Bulk, &b"sourcedId,name,\"type\nO-1,Hill,school\n"[..]);
        assert!(refused.err().unwrap().to_string().contains("a quote in the first line is never closed"));
        let whole = "O-1,Hill,school,\"two\nlines \"\"and\"\" quotes\"\nO-2,Dale,school,\"\",,\n";
        assert_eq!(lines_of(&format!("{head}{whole}")), [2, 4]);
    }

    fn refused(file: File, text: &str) -> String {
        match Rows::of(file, Version::V1_1, Mode::Bulk, text.as_bytes()).unwrap().read().unwrap().unwrap() {
            Judged::Refused { row, .. } => row.to_string(),
            Judged::Good(row) => panic!("taken: {row:?}"),
        }
    }

    #[test]
    fn a_row_with_a_comma_too_many_is_refused() {
        assert_eq!(
            refused(File::Orgs, "sourcedId,type,name\nO-1,school,Oak, Ash\n"),
            "orgs.csv, line 2, name \" Ash\": stands beyond the last column; is a comma not in quotes?"
        );
    }

    #[test]
    fn what_ends_before_it_begins_is_refused_and_so_is_a_day_of_another_form() {
        let term = |begins: &str, ends: &str| {
            let head = "sourcedId,title,type,startDate,endDate,schoolYear";
            format!("{head}\nT,Term,term,{begins},{ends},2027\n")
        };
        let said = refused(File::AcademicSessions, &term("2027-02-01", "2027-01-31"));
        assert_eq!(said, "academicSessions.csv, line 2, endDate \"2027-01-31\": is before startDate, 2027-02-01");
        // Days are compared as texts.
        for day in ["2027-2-01", "2027-02-1", "+2027-02-01"] {
            let said = refused(File::AcademicSessions, &term(day, "2027-06-30"));
            assert!(said.ends_with("is not a date; use YYYY-MM-DD"), "{said}");
        }
    }

    #[test]
    fn a_row_that_does_not_end_is_refused_before_it_is_held() {
        let text = format!("sourcedId,name,type\nO-1,\"{}", "x\n".repeat(ROW_BYTES as usize));
        let mut rows = Rows::of(File::Orgs, Version::V1_1, Mode::Bulk, text.as_bytes()).unwrap();
        let refused = rows.read().unwrap_err();
        assert!(refused.to_string().contains("is a quote not closed near line 2?"), "{refused}");
    }
}
