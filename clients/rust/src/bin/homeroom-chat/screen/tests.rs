//! The pages, drawn into memory and read.

use super::*;
use crate::model::Effect;
use crate::place::Place;
use homeroom_client::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

struct Desk {
    model: Model,
    room: RoomId,
    teacher: PersonId,
    you: You,
}

impl Desk {
    /// A guardian's pages: one class, one child.
    fn new() -> Self {
        let (room, teacher) = (RoomId::new(), PersonId::new());
        let you = You { person: PersonId::new(), name: "Li Na".into(), language: Language::english() };
        let mark = |person| Mark { person, delivered: 0, read: 0 };
        let announcements = ConversationSummary {
            conversation: Address::Announcements.conversation(room),
            address: Address::Announcements,
            n: 1,
            unread: 1,
            mine: mark(you.person),
            others: Vec::new(),
            last: None,
        };
        let summary = RoomSummary {
            room,
            kind: RoomKind::Class,
            title: "Class 4B".into(),
            school: "Hill School".into(),
            role: Role::Guardian,
            students: vec![Person { person: PersonId::new(), name: "Wei".into() }],
            conversations: vec![announcements],
            position: None,
        };
        let staff = vec![Person { person: teacher, name: "Ada Moreau".into() }];
        let detail = RoomDetail { summary, staff, families: Vec::new() };
        let mut model = Model::new(Vec::new());
        model.line = Connection::Online;
        model.load_rooms(you.clone(), &[detail]);
        Self { model, room, teacher, you }
    }

    fn private(&self) -> Place {
        self.model.conversations[1].place.clone()
    }

    fn message(&self, author: PersonId, n: u64, text: &str) -> Message {
        let draft = Draft { language: Language::english(), text: text.into(), protected: Vec::new() };
        Message {
            id: EventId::new(),
            n,
            author,
            client_id: ClientId::new(),
            at: Timestamp::now(),
            urgent: false,
            envelope: Some(draft.into_envelope(|_| Vec::new()).unwrap()),
            edited_at: None,
            retracted_at: None,
        }
    }

    fn posted(&self, message: Message) -> Update {
        Update::Event(Box::new(Event {
            room: self.room,
            id: message.id,
            conversation: Some(self.private().conversation()),
            about: None,
            n: Some(message.n),
            at: message.at,
            body: EventBody::Posted { message },
        }))
    }

    fn drawn(&self, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &self.model)).unwrap();
        terminal.backend().to_string()
    }
}

#[test]
fn a_conversation_shows_names_days_marks_and_what_is_on_its_way() {
    let mut desk = Desk::new();
    desk.model.chosen = 1;
    assert!(matches!(desk.model.open_chosen()[..], [Effect::LoadHistory { before: None, .. }]));
    let (you, teacher) = (desk.you.person, desk.teacher);
    let mine = desk.message(you, 1, "Wei is ill today, he stays at home and will be back tomorrow or the day after.");
    let theirs = desk.message(teacher, 2, "Get well soon!");
    let effects = [desk.posted(mine.clone()), desk.posted(theirs)].map(|update| desk.model.apply(update));
    assert!(effects[1].iter().any(|effect| matches!(effect, Effect::Read { n: 2, .. })), "{effects:?}");
    let room = desk.room;
    let conversation = desk.private().conversation();
    desk.model.apply(Update::Mark { room, conversation, mark: Mark { person: teacher, delivered: 2, read: 1 } });
    desk.model.compose.insert("Thank you");
    let effects = desk.model.enter();
    let [Effect::Say(command)] = &effects[..] else { panic!("{effects:?}") };
    desk.model.said(ClientId::new(), command);
    desk.model.apply(Update::Typing { room, conversation, person: teacher });

    let wide = desk.drawn(100, 24);
    for expected in [
        "Li Na",
        "Class 4B",
        "announcements",
        "about Wei",
        "Today",
        "Ada Moreau",
        "✓✓ read",
        "◌ sending",
        "Thank you",
        "Ada Moreau is writing",
    ] {
        assert!(wide.contains(expected), "{expected} in\n{wide}");
    }
    assert!(wide.contains("1 unread"), "{wide}");
    let narrow = desk.drawn(40, 20);
    assert!(narrow.contains("Get well soon!") && !narrow.contains("Choose"), "{narrow}");
}

#[test]
fn a_long_text_is_wrapped_and_an_empty_one_survives_any_size() {
    let mut desk = Desk::new();
    desk.model.chosen = 1;
    desk.model.open_chosen();
    let long = "家长会在星期五下午三点举行。".repeat(20);
    let message = desk.message(desk.teacher, 1, &long);
    let update = desk.posted(message);
    desk.model.apply(update);
    desk.model.compose.insert(&"word ".repeat(100));
    for (width, height) in [(1, 1), (3, 2), (10, 5), (20, 8), (76, 10), (200, 60)] {
        desk.drawn(width, height);
    }
    assert!(desk.drawn(100, 30).contains("家"));
}

#[test]
fn being_offline_is_said() {
    let mut desk = Desk::new();
    let loss = Loss::Silent;
    desk.model.apply(Update::Disconnected { loss, will_retry_in: std::time::Duration::from_secs(9) });
    let drawn = desk.drawn(100, 24);
    assert!(drawn.contains("Offline. What you write is kept"), "{drawn}");
    desk.model.apply(Update::Stopped(Stop::SignedOut));
    assert!(desk.drawn(100, 24).contains("You are signed out"));
}

#[test]
fn families_do_not_write_announcements() {
    let mut desk = Desk::new();
    desk.model.open_chosen();
    desk.model.compose.insert("Hello all");
    assert_eq!(desk.model.enter(), []);
    assert_eq!(desk.model.compose.text(), "Hello all", "what was written is still there");
    assert!(desk.drawn(100, 24).contains("Only staff write announcements"));
}

#[test]
fn the_newest_conversation_comes_first_and_the_choice_stays() {
    let mut desk = Desk::new();
    let you = desk.you.clone();
    let summary = |room, title: &str| RoomSummary {
        room,
        kind: RoomKind::Class,
        title: title.into(),
        school: String::new(),
        role: Role::Guardian,
        students: ["Wei", "Ming"].map(|name| Person { person: PersonId::new(), name: name.into() }).into(),
        conversations: Vec::new(),
        position: None,
    };
    let details = [(desk.room, "4B"), (RoomId::new(), "4C")].map(|(room, title)| RoomDetail {
        summary: summary(room, title),
        staff: Vec::new(),
        families: Vec::new(),
    });
    desk.model.load_rooms(you, &details);
    let titles = |model: &Model| -> Vec<String> {
        model.conversations.iter().map(|conversation| conversation.place.title.clone()).collect()
    };
    let ming = desk.model.conversations[2].place.clone();
    desk.model.chosen = 1;
    let message = desk.message(desk.teacher, 1, "Hello");
    desk.model.apply(Update::Event(Box::new(Event {
        room: ming.room,
        id: message.id,
        conversation: Some(ming.conversation()),
        about: None,
        n: Some(1),
        at: message.at,
        body: EventBody::Posted { message },
    })));
    let expected = ["announcements", "about Ming", "about Wei"].map(|title| format!("4B · {title}"));
    assert_eq!(titles(&desk.model)[..3], expected);
    assert_eq!(desk.model.chosen, 2, "Wei's conversation is still the chosen one");
}

#[test]
fn what_arrived_unknown_to_an_earlier_run_is_not_shown_twice() {
    let mut desk = Desk::new();
    desk.model.chosen = 1;
    desk.model.open_chosen();
    let message = desk.message(desk.you.person, 1, "Said before the crash");
    let place = desk.private();
    let draft = Draft { language: Language::english(), text: "Said before the crash".into(), protected: Vec::new() };
    let command = Command::Post { room: place.room, to: place.address, draft, urgent: false };
    desk.model.said(message.client_id, &command);
    assert!(desk.drawn(100, 24).contains("◌ sending"));
    desk.model.load_history(place.conversation(), vec![message], false, true);
    let drawn = desk.drawn(100, 24);
    assert_eq!(drawn.matches("Said before the crash").count(), 1, "{drawn}");
    assert!(drawn.contains("✓ sent"), "{drawn}");
}

#[test]
fn days_have_names() {
    let today = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap();
    let name = |days| day_name(today - chrono::Days::new(days), today);
    assert_eq!([name(0), name(1), name(3), name(30)], ["Today", "Yesterday", "Saturday", "Sunday, 25 October 2026"]);
}

#[test]
fn help_is_shown_whole_on_a_narrow_terminal_too() {
    let mut desk = Desk::new();
    desk.model.chosen = 1;
    desk.model.open_chosen();
    desk.model.compose.insert("/help");
    desk.model.enter();
    for width in [40, 80, 100] {
        let drawn = desk.drawn(width, 24);
        assert!(drawn.contains("/edit TEXT") && drawn.contains("/quit"), "{drawn}");
    }
}
