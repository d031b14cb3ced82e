//! The line in which a message is written.
//!
//! Owns: the text, the cursor between its characters as people count them, and the commands that begin with a slash.
//! Refuses to know: keys and screens.

use unicode_segmentation::UnicodeSegmentation;

/// What was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// Nothing worth sending.
    Nothing,
    /// A message.
    Say(String),
    /// Another text for one's last message here.
    Edit(String),
    /// Take back one's last message here.
    Retract,
    /// Show older messages.
    History,
    /// Whom one's last announcement has reached.
    Reach,
    /// What the commands are.
    Help,
    /// End the program.
    Quit,
    /// A command that does not exist.
    Unknown(String),
}

/// A text being written.
#[derive(Debug, Default)]
pub struct Compose {
    text: String,
    /// In bytes, always at the border of two characters.
    cursor: usize,
}

impl Compose {
    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part before the cursor.
    pub fn before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Puts a text in at the cursor; control characters other than line breaks are left out.
    pub fn insert(&mut self, text: &str) {
        let clean: String = text.replace("\r\n", "\n").chars().filter(|c| !c.is_control() || *c == '\n').collect();
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    /// Replaces all of it.
    pub fn set(&mut self, text: &str) {
        text.clone_into(&mut self.text);
        self.cursor = self.text.len();
    }

    /// Removes the character before the cursor.
    pub fn backspace(&mut self) {
        let end = self.cursor;
        self.left();
        self.text.replace_range(self.cursor..end, "");
    }

    /// Removes the character after the cursor.
    pub fn delete(&mut self) {
        let start = self.cursor;
        self.right();
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// Moves one character towards the beginning.
    pub fn left(&mut self) {
        let last = self.before_cursor().graphemes(true).next_back().map_or(0, str::len);
        self.cursor -= last;
    }

    /// Moves one character towards the end.
    pub fn right(&mut self) {
        self.cursor += self.text[self.cursor..].graphemes(true).next().map_or(0, str::len);
    }

    /// To the beginning.
    pub fn home(&mut self) {
        self.cursor = 0;
    }

    /// To the end.
    pub fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Takes what was written and begins anew.
    pub fn enter(&mut self) -> Entered {
        self.cursor = 0;
        parse(std::mem::take(&mut self.text).trim())
    }
}

fn parse(text: &str) -> Entered {
    if text.is_empty() {
        return Entered::Nothing;
    }
    // Two slashes say a message that begins with one.
    if let Some(said) = text.strip_prefix("//") {
        return Entered::Say(format!("/{said}"));
    }
    if !text.starts_with('/') {
        return Entered::Say(text.to_owned());
    }
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match (command, rest.trim()) {
        ("/edit", "") => Entered::Unknown("/edit needs the new text after it".to_owned()),
        ("/edit", text) => Entered::Edit(text.to_owned()),
        ("/retract", _) => Entered::Retract,
        ("/history", _) => Entered::History,
        ("/reach", _) => Entered::Reach,
        ("/help", _) => Entered::Help,
        ("/quit", _) => Entered::Quit,
        (other, _) => Entered::Unknown(format!("there is no {other}; /help shows what there is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_moves_by_what_people_call_a_character() {
        let mut compose = Compose::default();
        compose.insert("né👩‍👧 x\u{7}");
        assert_eq!(compose.text(), "né👩‍👧 x");
        compose.left();
        compose.left();
        compose.backspace();
        assert_eq!(compose.text(), "né x");
        compose.home();
        compose.delete();
        assert_eq!((compose.text(), compose.before_cursor()), ("é x", ""));
        compose.end();
        compose.insert("\r\ny");
        assert_eq!(compose.enter(), Entered::Say("é x\ny".into()));
        assert_eq!(compose.text(), "");
    }

    #[test]
    fn commands_begin_with_a_slash() {
        for (text, expected) in [
            ("  ", Entered::Nothing),
            ("/edit better ", Entered::Edit("better".into())),
            ("/retract", Entered::Retract),
            ("//edit", Entered::Say("/edit".into())),
            ("/quit", Entered::Quit),
        ] {
            assert_eq!(parse(text.trim()), expected, "{text}");
        }
        assert!(matches!(parse("/dance"), Entered::Unknown(_)));
        assert!(matches!(parse("/edit"), Entered::Unknown(_)));
    }
}
