//! The pages, alive.
//!
//! Owns: the terminal from its taking over to its giving back, keys, and carrying out the model's effects. Refuses to
//! know: what the pages look like and what they hold.

use crate::ChatError;
use crate::model::{Effect, Focus, Line, Model};
use crate::screen;
use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use futures_util::StreamExt;
use homeroom_client::{
    Client, Command, ConversationId, Edit, Http, HttpError, Message, Post, Reach, Retract, RoomDetail, SendError,
    Stopped, Updates, You,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// What was fetched in the background.
enum Fetched {
    Rooms(You, Vec<RoomDetail>),
    History { conversation: ConversationId, messages: Vec<Message>, more: bool, newest: bool },
    Reach(Reach),
    Failed(HttpError),
}

/// Gives the terminal back however the program ends; `ratatui::init` does the same for a panic.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing left to restore.
        drop(crossterm::execute!(std::io::stdout(), DisableBracketedPaste));
        ratatui::restore();
    }
}

/// Shows the pages until the person leaves.
pub async fn run(http: Http, client: Client, mut updates: Updates) -> Result<(), ChatError> {
    let unsent = client.unsent().await.map_err(|Stopped| SendError::Stopped)?;
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    crossterm::execute!(std::io::stdout(), EnableBracketedPaste)?;
    let mut app = App::new(http, client, Model::new(unsent));
    let mut keys = EventStream::new();
    let mut leave = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    // For what changes by itself: the countdown while offline, and who is writing.
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    let mut listening = true;
    while !app.done {
        terminal.draw(|frame| screen::draw(frame, &app.model))?;
        let effects = tokio::select! {
            key = keys.next() => match key {
                Some(event) => app.on_event(&event?),
                None => vec![Effect::Quit],
            },
            update = updates.recv(), if listening => match update {
                Some(update) => app.model.apply(update),
                None => {
                    listening = false;
                    Vec::new()
                }
            },
            Some(fetched) = app.fetched.recv() => app.on_fetched(fetched),
            _ = leave.recv() => vec![Effect::Quit],
            _ = tick.tick() => Vec::new(),
        };
        for effect in effects {
            app.carry_out(effect).await;
        }
    }
    app.client.close().await;
    Ok(())
}

struct App {
    http: Http,
    client: Client,
    model: Model,
    fetched: mpsc::Receiver<Fetched>,
    fetch: mpsc::Sender<Fetched>,
    done: bool,
}

impl App {
    fn new(http: Http, client: Client, model: Model) -> Self {
        let (fetch, fetched) = mpsc::channel(16);
        Self { http, client, model, fetched, fetch, done: false }
    }

    fn on_event(&mut self, event: &Event) -> Vec<Effect> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.on_key(*key),
            Event::Paste(text) if self.model.focus == Focus::Conversation => {
                self.model.compose.insert(text);
                self.model.wrote().into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn on_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'q' | 'd')) {
            return vec![Effect::Quit];
        }
        match self.model.focus {
            Focus::List => self.on_list_key(key),
            Focus::Conversation => self.on_conversation_key(key),
        }
    }

    fn on_list_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let last = self.model.conversations.len().saturating_sub(1);
        let chosen = &mut self.model.chosen;
        match key.code {
            KeyCode::Up => *chosen = chosen.saturating_sub(1),
            KeyCode::Down => *chosen = (*chosen + 1).min(last),
            KeyCode::PageUp => *chosen = chosen.saturating_sub(10),
            KeyCode::PageDown => *chosen = (*chosen + 10).min(last),
            KeyCode::Home => *chosen = 0,
            KeyCode::End => *chosen = last,
            KeyCode::Enter | KeyCode::Right => return self.model.open_chosen(),
            KeyCode::Tab if self.model.open.is_some() => self.model.focus = Focus::Conversation,
            KeyCode::Char('q') => return vec![Effect::Quit],
            _ => {}
        }
        Vec::new()
    }

    fn on_conversation_key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let (control, alt) = (key.modifiers.contains(KeyModifiers::CONTROL), key.modifiers.contains(KeyModifiers::ALT));
        match key.code {
            KeyCode::Esc | KeyCode::Tab => self.model.focus = Focus::List,
            KeyCode::Enter if alt => self.model.compose.insert("\n"),
            KeyCode::Enter => return self.model.enter(),
            KeyCode::Backspace => self.model.compose.backspace(),
            KeyCode::Delete => self.model.compose.delete(),
            KeyCode::Left => self.model.compose.left(),
            KeyCode::Right => self.model.compose.right(),
            KeyCode::Home => self.model.compose.home(),
            KeyCode::End => self.model.compose.end(),
            KeyCode::Char('u') if control => self.model.compose.set(""),
            KeyCode::Char('a') if control => self.model.compose.home(),
            KeyCode::Char('e') if control => self.model.compose.end(),
            KeyCode::Char(character) if !control => {
                self.model.compose.insert(character.encode_utf8(&mut [0; 4]));
                return self.model.wrote().into_iter().collect();
            }
            KeyCode::PageUp | KeyCode::Up => {
                self.model.scroll += if key.code == KeyCode::Up { 1 } else { 10 };
                return self.model.older().filter(|_| key.code == KeyCode::PageUp).into_iter().collect();
            }
            KeyCode::PageDown | KeyCode::Down => {
                let step = if key.code == KeyCode::Down { 1 } else { 10 };
                self.model.scroll = self.model.scroll.saturating_sub(step);
            }
            _ => {}
        }
        Vec::new()
    }

    fn on_fetched(&mut self, fetched: Fetched) -> Vec<Effect> {
        match fetched {
            Fetched::Rooms(you, details) => self.model.load_rooms(you, &details),
            Fetched::History { conversation, messages, more, newest } => {
                self.model.load_history(conversation, messages, more, newest)
            }
            Fetched::Reach(reach) => {
                let count = |of: fn(&homeroom_client::ReachedGuardian) -> bool| {
                    reach.guardians.iter().filter(|one| of(one)).count()
                };
                let missing: Vec<&str> =
                    reach.guardians.iter().filter(|one| !one.delivered).map(|one| one.guardian_name.as_str()).collect();
                let rest =
                    if missing.is_empty() { String::new() } else { format!("; not yet: {}", missing.join(", ")) };
                self.model.notice = Some(format!(
                    "Of {} families delivered to {}, read by {}{rest}",
                    reach.guardians.len(),
                    count(|one| one.delivered),
                    count(|one| one.read),
                ));
                Vec::new()
            }
            Fetched::Failed(HttpError::Refused { fault, .. }) => {
                self.model.notice = Some(fault.message);
                Vec::new()
            }
            Fetched::Failed(error) => {
                // While offline the banner says it, and the next welcome fetches again.
                if self.model.line == Line::Online {
                    self.model.notice = Some(error.to_string());
                }
                Vec::new()
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        let done = match effect {
            Effect::Quit => {
                self.done = true;
                Ok(())
            }
            Effect::LoadRooms => {
                self.fetch(|http| async move {
                    let home = http.home().await?;
                    let mut details = Vec::with_capacity(home.rooms.len());
                    for room in &home.rooms {
                        details.push(http.room(room.room).await?);
                    }
                    Ok(Fetched::Rooms(home.you, details))
                });
                Ok(())
            }
            Effect::LoadHistory { room, conversation, before } => {
                self.fetch(move |http| async move {
                    let page = http.history(room, conversation, before, None).await?;
                    let newest = before.is_none();
                    Ok(Fetched::History { conversation, messages: page.messages, more: page.more, newest })
                });
                Ok(())
            }
            Effect::LoadReach { room, message } => {
                self.fetch(move |http| async move { http.reach(room, message).await.map(Fetched::Reach) });
                Ok(())
            }
            Effect::Say(command) => {
                self.say(*command).await;
                Ok(())
            }
            Effect::Delivered { room, conversation, n } => self.client.delivered(room, conversation, n).await,
            Effect::Read { room, conversation, n } => self.client.read(room, conversation, n).await,
            Effect::Typing { room, to } => self.client.typing(room, to).await,
        };
        if done == Err(Stopped) {
            self.model.line = Line::SignedOut;
        }
    }

    async fn say(&mut self, command: Command) {
        let said = match command.clone() {
            Command::Post { room, to, draft, urgent } => self.client.post(Post { room, to, draft, urgent }).await,
            Command::Edit { room, conversation, message, draft } => {
                self.client.edit(Edit { room, conversation, message, draft }).await
            }
            Command::Retract { room, conversation, message } => {
                self.client.retract(Retract { room, conversation, message }).await
            }
        };
        match said {
            Ok(sending) => self.model.said(sending.client_id(), &command),
            Err(error) => {
                self.model.notice = Some(error.to_string());
                if let Command::Post { draft, .. } = &command {
                    self.model.compose.set(&draft.text);
                }
            }
        }
    }

    /// Fetches in the background. The queue is far longer than what one key or update asks for; when it is full (*the
    /// pages are behind*), the task waits.
    fn fetch<F>(&self, fetch: impl FnOnce(Http) -> F)
    where
        F: Future<Output = Result<Fetched, HttpError>> + Send + 'static,
    {
        let (fetching, fetched) = (fetch(self.http.clone()), self.fetch.clone());
        tokio::spawn(async move {
            let outcome = fetching.await.unwrap_or_else(Fetched::Failed);
            // The pages may have been closed meanwhile.
            drop(fetched.send(outcome).await);
        });
    }
}
