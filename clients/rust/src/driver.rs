//! The task behind a client.
//!
//! Owns: the one loop that connects, listens, sends and comes back, and what is under way on the current connection.
//! Refuses to know: backoff, order of sending, continuity: each has a module of its own, and none of them a socket.

use crate::ask::Ask;
use crate::client::{HistoryError, Options};
use crate::connection::{Connection, Heard};
use crate::marks::{self, Marks};
use crate::outbox::Outbox;
use crate::pace::Pace;
use crate::phase::{Live, Phase, Step};
use crate::progress::Progress;
use crate::reconnect::{Plan, final_stop};
use crate::update::{Anomaly, Loss, Page, Stop, Update, Welcome};
use homeroom_protocol::{ByeReason, ClientFrame, ClientId, EventId, Fault, Ref, ResetReason, RoomId, ServerFrame};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Pages of history asked for at once.
const PAGES: usize = 16;

/// How long a server may take to answer `hello`.
const WELCOME_WITHIN: Duration = Duration::from_secs(20);

/// A command that the server has not answered yet.
struct UnderWay {
    what: What,
    since: Instant,
}

enum What {
    Said(ClientId),
    Mark(marks::Key),
    History(oneshot::Sender<Result<Page, HistoryError>>),
    /// Nobody waits for the answer.
    Other,
}

pub(crate) struct Driver {
    options: Options,
    asks: mpsc::Receiver<Ask>,
    updates: mpsc::Sender<Update>,
    /// What the application has no room for yet. While there is any, the socket is not read, so it holds no more than one
    /// frame gives.
    pending: VecDeque<Update>,
    plan: Plan,
    progress: Progress,
    outbox: Outbox,
    marks: Marks,
    under_way: HashMap<Ref, UnderWay>,
    next_ref: u32,
    server: String,
}

impl Driver {
    pub(crate) fn new(
        options: Options,
        outbox: Outbox,
        asks: mpsc::Receiver<Ask>,
        updates: mpsc::Sender<Update>,
    ) -> Self {
        let plan = Plan::new(options.servers.clone(), options.backoff);
        let progress = options.progress.clone();
        Self {
            options,
            asks,
            updates,
            pending: VecDeque::new(),
            plan,
            progress,
            outbox,
            marks: Marks::default(),
            under_way: HashMap::new(),
            next_ref: 0,
            server: String::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        if let Some((phase, stop)) = self.until_stopped().await {
            if let Phase::Live(live) = phase {
                live.connection.close().await;
            }
            self.forget_under_way();
            self.outbox.stop();
            self.pending.push_back(Update::Stopped(stop));
            for update in self.pending.drain(..) {
                if self.updates.send(update).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The loop. Ends with the reason to stop; with nothing when nobody listens any more.
    async fn until_stopped(&mut self) -> Option<(Phase, Stop)> {
        let mut phase = Phase::Waiting { until: Instant::now() };
        let mut asked_open = true;
        loop {
            self.hand_over();
            self.pump(&mut phase);
            let behind = !self.pending.is_empty();
            if let (true, Phase::Live(live)) = (behind, &mut phase) {
                live.connection.excuse_silence();
            }
            let wake_at = self.wake_at(&mut phase);
            let waits_for_room = self.waits_for_room(&phase);
            let room = phase.room();
            // Every arm's future may be dropped half-way: the channels, the sleep and `Connection::next` lose nothing
            // then, and a dial goes on where it was, because the phase owns it.
            tokio::select! {
                () = has_room(&self.updates), if behind => {}
                () = self.updates.closed() => return None,
                ask = self.asks.recv(), if asked_open => match ask {
                    Some(Ask::Close) => return Some((phase, Stop::Closed)),
                    Some(ask) => self.on_ask(ask, &mut phase),
                    None => asked_open = false,
                },
                step = phase.step(), if !behind => match step {
                    Step::Dial => phase = self.dial(),
                    Step::Dialled(Ok(connection)) => phase = self.hello(connection),
                    Step::Heard(heard) => self.on_heard(heard, &mut phase),
                    Step::Dialled(Err(loss)) | Step::Lost(loss) => match self.on_lost(loss) {
                        Ok(waiting) => phase = waiting,
                        Err(stop) => return Some((phase, stop)),
                    },
                },
                () = room, if waits_for_room => {}
                () = sleep_until(wake_at) => {
                    if self.is_stuck(&phase) {
                        match self.on_lost(Loss::Unanswered) {
                            Ok(waiting) => phase = waiting,
                            Err(stop) => return Some((phase, stop)),
                        }
                    }
                }
            }
        }
    }

    /// Gives the application what it has room for.
    fn hand_over(&mut self) {
        while let Some(update) = self.pending.pop_front() {
            if let Err(error) = self.updates.try_send(update) {
                self.pending.push_front(error.into_inner());
                return;
            }
        }
    }

    fn dial(&mut self) -> Phase {
        let server = self.plan.server().clone();
        self.server = server.to_string();
        let silence = self.options.silence;
        let trust = self.options.trust.clone();
        Phase::Dialling(Box::pin(async move { Connection::open(&server, &trust, silence).await }))
    }

    fn hello(&mut self, connection: Connection) -> Phase {
        let hello =
            ClientFrame::Hello { token: Some(self.options.token.clone()), positions: self.progress.positions() };
        // The first frame of a fresh connection always has room.
        connection.send(hello);
        Phase::Live(Box::new(Live { connection, pace: None, since: Instant::now() }))
    }

    fn on_lost(&mut self, loss: Loss) -> Result<Phase, Stop> {
        self.forget_under_way();
        self.outbox.disconnected();
        self.marks.disconnected();
        if let Loss::Closed { code, reason } = &loss
            && let Some(stop) = final_stop(*code, reason)
        {
            return Err(stop);
        }
        let wait = self.plan.lost();
        tracing::debug!(server = %self.server, ?loss, ?wait, "disconnected");
        self.pending.push_back(Update::Disconnected { loss, will_retry_in: wait });
        Ok(Phase::Waiting { until: Instant::now() + wait })
    }

    fn forget_under_way(&mut self) {
        for under_way in std::mem::take(&mut self.under_way).into_values() {
            if let What::History(answer) = under_way.what {
                drop(answer.send(Err(HistoryError::NotConnected)));
            }
        }
    }

    fn on_heard(&mut self, heard: Heard, phase: &mut Phase) {
        let frame = match heard {
            Heard::Frame(frame) => *frame,
            Heard::Unreadable(why) => {
                self.pending.push_back(Update::Anomaly(Anomaly::Unreadable(why)));
                return;
            }
        };
        let update = match frame {
            ServerFrame::Welcome { session, you, rooms, limits } => {
                if let Phase::Live(live) = phase {
                    live.pace = Some(Pace::new(&limits, Instant::now()));
                }
                // Rooms that the person left while the client was away.
                let gone: Vec<RoomId> = self
                    .progress
                    .rooms
                    .keys()
                    .filter(|held| rooms.iter().all(|room| room.room != **held))
                    .copied()
                    .collect();
                let welcome = Welcome { server: self.server.clone(), session, you, rooms, limits };
                self.tell(Update::Welcome(Box::new(welcome)));
                gone.into_iter().for_each(|room| self.tell(Update::Left(room)));
                return;
            }
            ServerFrame::Event(event) => {
                self.plan.succeeded();
                if let Some(anomaly) = self.progress.take(&event) {
                    self.pending.push_back(Update::Anomaly(anomaly));
                }
                self.pending.push_back(Update::Event(Box::new(event)));
                return;
            }
            ServerFrame::CaughtUp { room } => {
                self.plan.succeeded();
                Update::CaughtUp(room)
            }
            ServerFrame::Reset { room, position, reason } => {
                if reason == ResetReason::UnknownPosition {
                    self.begin_anew(room);
                }
                Update::Reset { room, position, reason }
            }
            ServerFrame::Joined { room } => Update::Joined(room),
            ServerFrame::Left { room } => Update::Left(room),
            ServerFrame::Mark { room, conversation, mark } => Update::Mark { room, conversation, mark },
            ServerFrame::Typing { room, conversation, person } => Update::Typing { room, conversation, person },
            ServerFrame::Bye { reason, reconnect_after_ms } => {
                let reconnect_after = Duration::from_millis(reconnect_after_ms.into());
                if reason != ByeReason::SignedOut {
                    self.plan.told(reconnect_after);
                }
                Update::Bye { reason, reconnect_after }
            }
            ServerFrame::Ack { reference, id, n } => return self.on_ack(reference, id, n),
            ServerFrame::Page { reference, messages, more, .. } => {
                if let Some(UnderWay { what: What::History(answer), .. }) = self.under_way.remove(&reference) {
                    drop(answer.send(Ok(Page { messages, more })));
                }
                return;
            }
            ServerFrame::Error { reference, fault } => return self.on_error(reference, fault),
            ServerFrame::Unknown => return,
        };
        self.tell(update);
    }

    /// Moves the client's own progress and queues the update.
    fn tell(&mut self, update: Update) {
        if let Update::Left(room) = update {
            // Whoever is back one day may be back in a log that was put back meanwhile.
            self.begin_anew(room);
        }
        self.progress.follow(&update);
        self.pending.push_back(update);
    }

    /// The room's log may not be the one that it was: what was answered in it, and was to be said of it, means something else there.
    fn begin_anew(&mut self, room: RoomId) {
        self.outbox.reset(room);
        self.marks.reset(room);
    }

    fn on_ack(&mut self, reference: Ref, id: Option<EventId>, n: Option<u64>) {
        self.plan.succeeded();
        let Some(under_way) = self.under_way.remove(&reference) else { return };
        match under_way.what {
            What::Said(client_id) => {
                let mut updates = Vec::new();
                self.outbox.acked(client_id, id, n, Instant::now(), &mut updates);
                self.pending.extend(updates);
            }
            What::Mark(key) => self.marks.acked(key),
            What::History(_) | What::Other => {}
        }
    }

    fn on_error(&mut self, reference: Option<Ref>, fault: Fault) {
        let what = reference.and_then(|reference| self.under_way.remove(&reference)).map(|under_way| under_way.what);
        match what {
            Some(What::Said(client_id)) => {
                let mut updates = Vec::new();
                self.outbox.refused(client_id, fault, Instant::now(), &mut updates);
                self.pending.extend(updates);
            }
            Some(What::Mark(key)) => {
                self.marks.refused(key, fault.retryable.then_some(fault.retry_after_ms), Instant::now());
                if !fault.retryable {
                    self.pending.push_back(Update::Fault(fault));
                }
            }
            Some(What::History(answer)) => drop(answer.send(Err(HistoryError::Refused(fault)))),
            Some(What::Other) | None => self.pending.push_back(Update::Fault(fault)),
        }
    }

    fn on_ask(&mut self, ask: Ask, phase: &mut Phase) {
        match ask {
            Ask::Say { client_id, command, answer, accepted } => {
                // Whoever asked may have gone; what was accepted is sent all the same.
                drop(accepted.send(self.outbox.accept(client_id, *command, answer)));
            }
            Ask::Mark { room, key, n } => self.marks.want(room, key, n),
            Ask::Typing { room, to } => {
                self.command(phase, What::Other, |reference| ClientFrame::Typing { reference, room, to });
            }
            Ask::History { room, conversation, before, limit, answer } => {
                let asked = self.under_way.values().filter(|under_way| matches!(under_way.what, What::History(_)));
                if asked.count() >= PAGES {
                    drop(answer.send(Err(HistoryError::Busy)));
                    return;
                }
                let refused = self.command(phase, What::History(answer), |reference| ClientFrame::History {
                    reference,
                    room,
                    conversation,
                    before,
                    limit,
                });
                if let Some(What::History(answer)) = refused {
                    drop(answer.send(Err(HistoryError::NotConnected)));
                }
            }
            Ask::Refresh { token } => {
                self.options.token.clone_from(&token);
                self.command(phase, What::Other, |reference| ClientFrame::Refresh { reference, token });
            }
            Ask::Unsent { answer } => drop(answer.send(self.outbox.unsent())),
            // Handled where the loop can end.
            Ask::Close => {}
        }
    }

    /// Sends a command at once, or gives back who waits for it.
    fn command(&mut self, phase: &Phase, what: What, frame: impl FnOnce(Ref) -> ClientFrame) -> Option<What> {
        let Some(live) = phase.ready() else { return Some(what) };
        let reference = self.reference();
        if !live.connection.send(frame(reference)) {
            return Some(what);
        }
        self.under_way.insert(reference, UnderWay { what, since: Instant::now() });
        None
    }

    /// Sends what waits and may go.
    fn pump(&mut self, phase: &mut Phase) {
        let Phase::Live(live) = phase else { return };
        let Some(pace) = &mut live.pace else { return };
        let now = Instant::now();
        while live.connection.has_room() && (self.outbox.has_next(now) || self.marks.has_next(now)) && pace.take(now) {
            let reference = Ref(self.next_ref);
            self.next_ref = self.next_ref.wrapping_add(1);
            let said = self.outbox.next(now, reference).map(|(client_id, frame)| (What::Said(client_id), frame));
            let next = said.or_else(|| self.marks.next(now, reference).map(|(key, frame)| (What::Mark(key), frame)));
            if let Some((what, frame)) = next {
                live.connection.send(frame);
                self.under_way.insert(reference, UnderWay { what, since: now });
            }
        }
    }

    fn reference(&mut self) -> Ref {
        let reference = Ref(self.next_ref);
        self.next_ref = self.next_ref.wrapping_add(1);
        reference
    }

    /// Whether something could be sent if only the socket took it.
    fn waits_for_room(&self, phase: &Phase) -> bool {
        let now = Instant::now();
        phase.ready().is_some_and(|live| !live.connection.has_room())
            && (self.outbox.has_next(now) || self.marks.has_next(now))
    }

    /// When the loop has to look again, whatever happens.
    fn wake_at(&mut self, phase: &mut Phase) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(3_600);
        let Phase::Live(live) = phase else { return far };
        let Some(pace) = &mut live.pace else { return live.since + WELCOME_WITHIN };
        let paced = (live.connection.has_room() && (self.outbox.has_next(now) || self.marks.has_next(now)))
            .then(|| now + pace.wait(now));
        let oldest = self.under_way.values().map(|under_way| under_way.since).min();
        let unanswered = oldest.map(|since| since + self.options.answer_within);
        [paced, self.outbox.wake_at(), self.marks.wake_at(), unanswered]
            .into_iter()
            .flatten()
            // A failed command whose time has come but which may not go yet is looked at again shortly, not at once.
            .map(|at| at.max(now + Duration::from_millis(1)))
            .min()
            .unwrap_or(far)
    }

    /// Whether the connection lives but the server does not answer on it.
    fn is_stuck(&self, phase: &Phase) -> bool {
        let Phase::Live(live) = phase else { return false };
        if !self.pending.is_empty() {
            return false;
        }
        if live.pace.is_none() {
            return live.since.elapsed() >= WELCOME_WITHIN;
        }
        self.under_way.values().any(|under_way| under_way.since.elapsed() >= self.options.answer_within)
    }
}

/// Until the application has taken something, or has gone.
async fn has_room(updates: &mpsc::Sender<Update>) {
    // Whether there is room or nobody listens any more, the loop finds out by itself.
    drop(updates.reserve().await);
}
