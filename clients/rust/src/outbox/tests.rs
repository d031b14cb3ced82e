//! The order of sending, without a socket.

use super::*;
use homeroom_protocol::Language;

struct Bench {
    outbox: Outbox,
    now: Instant,
    updates: Vec<Update>,
    reference: u32,
}

impl Bench {
    fn new() -> Self {
        Self { outbox: Outbox::new(100, None), now: Instant::now(), updates: Vec::new(), reference: 0 }
    }

    fn say(&mut self, room: RoomId) -> ClientId {
        let draft = Draft { language: Language::english(), text: "x".into(), protected: Vec::new() };
        let client_id = ClientId::new();
        let command = Command::Post { room, to: Address::Announcements, draft, urgent: false };
        self.outbox.accept(client_id, command, oneshot::channel().0).unwrap();
        client_id
    }

    /// Everything that may be sent now.
    fn send(&mut self) -> Vec<ClientId> {
        let mut sent = Vec::new();
        while let Some((client_id, _)) = self.outbox.next(self.now, Ref(self.reference)) {
            self.reference += 1;
            sent.push(client_id);
        }
        sent
    }

    fn ack(&mut self, client_id: ClientId, n: u64) {
        self.outbox.acked(client_id, Some(EventId::new()), Some(n), self.now, &mut self.updates);
    }

    fn refuse(&mut self, client_id: ClientId, code: ErrorCode) {
        self.outbox.refused(client_id, Fault::new(code, "x").after(1_000), self.now, &mut self.updates);
    }
}

#[test]
fn after_a_failure_the_failed_one_goes_first_and_the_rest_follow() {
    let mut bench = Bench::new();
    let (room, other) = (RoomId::new(), RoomId::new());
    let [first, second, third] = [bench.say(room), bench.say(room), bench.say(room)];
    let elsewhere = bench.say(other);
    assert_eq!(bench.send(), [first, second, third, elsewhere]);

    bench.ack(first, 1);
    bench.refuse(second, ErrorCode::Unavailable);
    bench.refuse(third, ErrorCode::OutOfTurn);
    let later = bench.say(room);
    let free = bench.say(other);
    assert_eq!(bench.send(), [free], "what was said after the failed one waits; other conversations do not");
    assert_eq!(bench.outbox.wake_at(), Some(bench.now + Duration::from_secs(1)));

    bench.now += Duration::from_secs(1);
    assert_eq!(bench.send(), [second, third, later]);
}

#[test]
fn a_refusal_for_good_lets_the_rest_pass() {
    let mut bench = Bench::new();
    let room = RoomId::new();
    let [first, second] = [bench.say(room), bench.say(room)];
    assert_eq!(bench.send(), [first, second]);
    bench.refuse(first, ErrorCode::Forbidden);
    bench.ack(second, 1);
    assert!(matches!(bench.updates[..], [Update::Refused { .. }, Update::Acked(_)]));
    assert!(bench.outbox.unsent().is_empty());
}

#[test]
fn a_lost_connection_sends_all_again_in_order() {
    let mut bench = Bench::new();
    let room = RoomId::new();
    let said: Vec<ClientId> = (0..50).map(|_| bench.say(room)).collect();
    assert_eq!(bench.send(), said[..WINDOW]);
    bench.ack(said[0], 1);
    bench.outbox.disconnected();
    assert_eq!(bench.send(), said[1..=WINDOW]);
}

#[test]
fn numbers_that_do_not_rise_in_the_order_of_sending_are_an_anomaly() {
    let mut bench = Bench::new();
    let room = RoomId::new();
    let said: Vec<ClientId> = (0..4).map(|_| bench.say(room)).collect();
    bench.send();
    // Acknowledgements may come in any order; the numbers may not.
    bench.ack(said[1], 5);
    bench.ack(said[0], 4);
    bench.ack(said[2], 6);
    assert!(bench.updates.iter().all(|update| matches!(update, Update::Acked(_))));
    bench.ack(said[3], 3);
    assert!(bench.updates.iter().any(|update| matches!(update, Update::Anomaly(Anomaly::AckOutOfOrder { n: 3, .. }))));
}

#[test]
fn a_room_that_begins_anew_may_give_lower_numbers() {
    let mut bench = Bench::new();
    let room = RoomId::new();
    let [first, second] = [bench.say(room), bench.say(room)];
    bench.send();
    bench.ack(first, 9);
    bench.outbox.reset(room);
    bench.ack(second, 4);
    assert!(matches!(bench.updates[..], [Update::Acked(_), Update::Acked(_)]), "{:?}", bench.updates);
}

#[test]
fn a_full_outbox_says_so() {
    let mut bench = Bench::new();
    let room = RoomId::new();
    for _ in 0..100 {
        bench.say(room);
    }
    let command = Command::Retract { room, conversation: ConversationId::new(), message: EventId::new() };
    assert!(matches!(bench.outbox.accept(ClientId::new(), command, oneshot::channel().0), Err(SendError::OutboxFull)));
}
