//! How the pages look.
//!
//! Owns: layout, colours, wrapping, day separators, marks. Refuses to know: what happens when a key is pressed.

use crate::model::{Focus, Line as Connection, Model};
use crate::place::{Conversation, Stage};
use chrono::{DateTime, Local, NaiveDate};
use homeroom_client::{Message, RoomKind};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, List, ListItem, ListState, Paragraph};
use tokio::time::Instant;
use unicode_width::UnicodeWidthStr;

/// From this width on, list and conversation stand side by side.
const WIDE: u16 = 76;

const ACCENT: Style = Style::new().fg(Color::Cyan);
const DIM: Style = Style::new().fg(Color::DarkGray);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let banner = banner(model);
    let notice = footer(model, frame.area().width);
    let room = usize::from(frame.area().height / 3).max(1);
    let notice: Vec<Line<'_>> = notice.into_iter().take(room).collect();
    let [head, line, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(banner.is_some())),
        Constraint::Fill(1),
        Constraint::Length(u16::try_from(notice.len()).unwrap_or(1)),
    ])
    .areas(frame.area());
    header(frame, head, model);
    if let Some((text, style)) = banner {
        frame.render_widget(Paragraph::new(text).style(style), line);
    }
    if body.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Length((body.width / 3).clamp(28, 46)), Constraint::Fill(1)]).areas(body);
        list(frame, left, model);
        conversation(frame, right, model);
    } else if model.focus == Focus::List {
        list(frame, body, model);
    } else {
        conversation(frame, body, model);
    }
    frame.render_widget(Text::from(notice), foot);
}

fn header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let who = model.you.as_ref().map_or("", |you| you.name.as_str());
    let unread: u64 = model.conversations.iter().map(|conversation| conversation.place.unread).sum();
    let mut spans = vec![Span::styled(" Homeroom ", ACCENT.add_modifier(Modifier::BOLD)), Span::raw(who.to_owned())];
    if unread > 0 {
        spans.push(Span::styled(format!("  {unread} unread"), BOLD));
    }
    frame.render_widget(Line::from(spans), area);
}

fn banner(model: &Model) -> Option<(String, Style)> {
    let warning = Style::new().fg(Color::Black).bg(Color::Yellow);
    match model.line {
        Connection::Online => None,
        Connection::Connecting => Some((" Connecting …".to_owned(), DIM)),
        Connection::Offline(until) => {
            let seconds = until.saturating_duration_since(Instant::now()).as_secs();
            let when = if seconds == 0 { "now".to_owned() } else { format!("in {seconds} s") };
            Some((format!(" Offline. What you write is kept and sent later. Next try {when}."), warning))
        }
        Connection::SignedOut => Some((
            " You are signed out. What is unsent is kept; sign in again with --link or --code.".to_owned(),
            warning,
        )),
    }
}

/// What was asked for or went wrong, whole; else which keys there are.
fn footer(model: &Model, width: u16) -> Vec<Line<'static>> {
    match (&model.notice, model.focus) {
        (Some(notice), _) => {
            let lines = textwrap::wrap(notice, usize::from(width).saturating_sub(2).max(1));
            lines.iter().map(|line| Line::styled(format!(" {line}"), Style::new().fg(Color::Yellow))).collect()
        }
        (None, Focus::List) => vec![Line::styled(" ↑↓ choose · Enter open · Ctrl-C quit", DIM)],
        (None, Focus::Conversation) => {
            vec![Line::styled(" Enter send · Alt-Enter new line · PgUp older · Esc list · /help", DIM)]
        }
    }
}

fn list(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let width = usize::from(area.width.saturating_sub(3));
    let mut room = None;
    let items: Vec<ListItem<'_>> = model
        .conversations
        .iter()
        .map(|conversation| {
            let place = &conversation.place;
            let (title, name) = place.title.split_once(" · ").unwrap_or(("", &place.title));
            let mut lines = Vec::new();
            if room.replace(place.room) != Some(place.room) {
                let style = if place.kind == RoomKind::School { DIM } else { ACCENT };
                lines.push(Line::styled(shortened(title, width), style.add_modifier(Modifier::BOLD)));
            }
            let unread = if place.unread > 0 { format!(" {} ", place.unread) } else { String::new() };
            let name = shortened(name, width.saturating_sub(unread.width() + 1));
            let gap = " ".repeat(width.saturating_sub(name.width() + unread.width() + 1));
            let style = match (place.unread > 0, conversation.n > 0) {
                (true, _) => BOLD,
                (false, true) => Style::new(),
                (false, false) => DIM,
            };
            lines.push(Line::from(vec![
                Span::styled(format!(" {name}"), style),
                Span::raw(gap),
                Span::styled(unread, Style::new().fg(Color::Black).bg(Color::Cyan)),
            ]));
            ListItem::new(Text::from(lines))
        })
        .collect();
    let highlight = match model.focus {
        Focus::List => Style::new().add_modifier(Modifier::REVERSED),
        Focus::Conversation => Style::new().add_modifier(Modifier::BOLD),
    };
    let mut state = ListState::default().with_selected((!items.is_empty()).then_some(model.chosen));
    let list =
        List::new(items).highlight_style(highlight).block(Block::new().borders(Borders::RIGHT).border_style(DIM));
    frame.render_stateful_widget(list, area, &mut state);
}

fn conversation(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(open) = model.opened() else {
        let word = if model.conversations.is_empty() { "" } else { "Choose a conversation." };
        frame.render_widget(Paragraph::new(word).style(DIM).centered(), area);
        return;
    };
    let text_width = usize::from(area.width.saturating_sub(4)).max(8);
    let written = written(model, text_width);
    let [title, messages, writing, compose] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
        Constraint::Length(written.len() as u16 + 2),
    ])
    .areas(area);
    frame.render_widget(Line::styled(format!(" {}", open.place.title), BOLD), title);

    let lines = lines(model, open, text_width);
    let height = usize::from(messages.height);
    let end = lines.len().saturating_sub(model.scroll.min(lines.len().saturating_sub(height)));
    let start = end.saturating_sub(height);
    let shown: Vec<Line<'_>> = lines.into_iter().skip(start).take(end - start).collect();
    let top = messages.height - shown.len() as u16;
    let messages = Rect { y: messages.y + top, height: shown.len() as u16, ..messages };
    frame.render_widget(Text::from(shown), messages);
    if let Some(name) = model.writing() {
        frame.render_widget(Line::styled(format!("  {name} is writing …"), DIM), writing);
    }

    let border = if model.focus == Focus::Conversation { ACCENT } else { DIM };
    let block = Block::bordered().border_style(border);
    let inner = block.inner(compose);
    frame.render_widget(block, compose);
    if model.compose.text().is_empty() && !open.place.may_write {
        frame.render_widget(Line::styled("Only staff write announcements.", DIM), inner);
    }
    if let Some(last) = written.iter().rposition(|(_, cursor)| cursor.is_some())
        && model.focus == Focus::Conversation
    {
        let column = written[last].1.unwrap_or(0);
        frame.set_cursor_position((inner.x + column as u16, inner.y + last as u16));
    }
    frame.render_widget(Text::from_iter(written.into_iter().map(|(line, _)| line)), inner);
}

/// The compose line, wrapped, at most five lines of it around the cursor; the line with the cursor knows its column.
fn written(model: &Model, width: usize) -> Vec<(String, Option<usize>)> {
    let before = model.compose.before_cursor();
    let mut lines: Vec<(String, Option<usize>)> = Vec::new();
    let mut passed = 0;
    for whole in model.compose.text().split('\n') {
        let mut line = String::new();
        let mut cursor = (passed == before.len()).then_some(0);
        for character in unicode_segmentation::UnicodeSegmentation::graphemes(whole, true) {
            if line.width() + character.width() > width {
                lines.push((std::mem::take(&mut line), cursor.take()));
                if passed == before.len() {
                    cursor = Some(0);
                }
            }
            line.push_str(character);
            passed += character.len();
            if passed == before.len() {
                cursor = Some(line.width());
            }
        }
        lines.push((line, cursor));
        passed += 1;
    }
    let at = lines.iter().rposition(|(_, cursor)| cursor.is_some()).unwrap_or(0);
    let start = at.saturating_sub(4);
    lines.into_iter().skip(start).take(5).collect()
}

/// All lines of a conversation, oldest first.
fn lines<'a>(model: &'a Model, open: &'a Conversation, width: usize) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    if open.loaded && !open.more {
        lines.push(Line::styled(" The beginning of this conversation", DIM));
    }
    let mut day: Option<NaiveDate> = None;
    for message in open.messages.values() {
        let at = DateTime::<Local>::from(message.at.as_datetime());
        if day.replace(at.date_naive()) != Some(at.date_naive()) {
            lines.push(separator(&day_name(at.date_naive(), Local::now().date_naive()), width));
        }
        lines.push(heading(model, open, message, at));
        match &message.envelope {
            Some(envelope) => lines.extend(wrapped(&envelope.text, width, Style::new())),
            None => lines.extend(wrapped("taken back", width, DIM.add_modifier(Modifier::ITALIC))),
        }
    }
    let id = open.place.conversation();
    for pending in model.pending.iter().filter(|pending| pending.conversation == id) {
        let Some(text) = &pending.text else { continue };
        let stage = if pending.acked { Stage::Sent } else { Stage::Sending };
        lines.push(Line::from(vec![Span::styled(" You", BOLD), Span::raw("  "), mark(stage)]));
        lines.extend(wrapped(text, width, DIM));
    }
    lines
}

fn heading<'a>(model: &'a Model, open: &Conversation, message: &Message, at: DateTime<Local>) -> Line<'a> {
    let mine = model.is_me(message.author);
    let style = if mine { ACCENT.add_modifier(Modifier::BOLD) } else { BOLD };
    let mut spans = vec![
        Span::styled(format!(" {}", model.name(message.author)), style),
        Span::styled(format!("  {}", at.format("%H:%M")), DIM),
    ];
    if message.urgent {
        spans.push(Span::styled("  URGENT", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)));
    }
    if message.edited_at.is_some() && message.envelope.is_some() {
        spans.push(Span::styled("  edited", DIM));
    }
    if mine && message.envelope.is_some() {
        spans.push(Span::raw("  "));
        spans.push(mark(open.stage(message.n)));
    }
    Line::from(spans)
}

fn mark(stage: Stage) -> Span<'static> {
    match stage {
        Stage::Sending => Span::styled("◌ sending", DIM),
        Stage::Sent => Span::styled("✓ sent", DIM),
        Stage::Delivered => Span::styled("✓✓ delivered", DIM),
        Stage::Read => Span::styled("✓✓ read", ACCENT),
    }
}

fn separator(name: &str, width: usize) -> Line<'static> {
    let side = "─".repeat(width.saturating_sub(name.width() + 2) / 2);
    Line::styled(format!(" {side} {name} {side}"), DIM)
}

fn day_name(day: NaiveDate, today: NaiveDate) -> String {
    match today.signed_duration_since(day).num_days() {
        0 => "Today".to_owned(),
        1 => "Yesterday".to_owned(),
        2..=6 => day.format("%A").to_string(),
        _ => day.format("%A, %-d %B %Y").to_string(),
    }
}

fn wrapped(text: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    text.lines()
        .flat_map(|line| textwrap::wrap(line, width))
        .map(|line| Line::styled(format!("   {line}"), style))
        .collect()
}

fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        if short.width() + 2 > width {
            break;
        }
        short.push(character);
    }
    short + "…"
}

#[cfg(test)]
mod tests;
