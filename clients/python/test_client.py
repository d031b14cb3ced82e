"""Tests of the client: the golden fixtures, and a real server where HOMEROOM_BIN names the program.

Owns: what the page promises, looked at from outside. Refuses to know: the code of the server.
"""
from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import uuid
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import homeroom
from homeroom import (ANNOUNCEMENTS, Ack, BackOff, Bye, CaughtUp, Client, Closed, ErrorFrame, Event, Gap, Log, MarkMoved, Outbox, Refused,
                      Reset, Room, Session, address_family, build, build_draft, build_edit, build_post, build_retract, decode,
                      derive_conversation, describe, may_come_back, read, walk_history)

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "../../protocol/fixtures"
SCHOOL = HERE / "../../demo/school"
DEADLINE = 10.0

API_BODIES: dict[str, Any] = {
    "fault": homeroom.Fault, "history_page": homeroom.HistoryPage, "home": homeroom.Home, "reach": homeroom.Reach,
    "room.guardian": homeroom.RoomDetail, "room.staff": homeroom.RoomDetail, "signed_in.cookie": homeroom.SignedIn,
    "signed_in.token": homeroom.SignedIn}
REQUEST_BODIES = {"change_me", "sign_in_code", "sign_in_link"}
CLIENT_FRAMES = {"delivered", "edit", "hello", "hello.token", "history", "history.newest", "post.announcement", "post.private", "read",
                 "refresh", "retract", "typing"}
SERVER_FRAMES = {
    "ack.appended", "ack", "bye.draining", "bye.signed_out", "caught_up", "error.conflict", "error.forbidden", "error.invalid",
    "error.malformed", "error.not_found", "error.out_of_turn", "error.rate_limited", "error.ref_in_use", "error.too_long",
    "error.unauthenticated", "error.unavailable", "error.unknown_type", "event.edited", "event.member_joined", "event.member_left",
    "event.posted.announcement", "event.posted.private", "event.posted.right_to_left", "event.retracted", "event.withheld", "joined",
    "left", "mark", "page", "reset.rights_changed", "reset.too_far_behind", "reset.unknown_position", "typing", "welcome"}
NEWER_FRAMES = {"unknown_bye", "unknown_error", "unknown_event", "unknown_field", "unknown_inside_message", "unknown_reset", "unknown_role",
                "unknown_type"}
REFUSED_FRAMES = {"missing_field", "no_object", "no_type", "unknown_type", "wrong_field"}


def write(value: Any) -> Any:
    """Turn what `read` gave back into JSON; a field with nothing to say is left out."""
    if isinstance(value, list):
        return [write(one) for one in value]
    if not is_dataclass(value):
        return value
    pairs = [(one, getattr(value, one.name)) for one, _ in describe(type(value))]
    return {one.name: write(item) for one, item in pairs if item is not None or one.default is MISSING}


def encode(frame: Any) -> dict[str, Any]:
    """The JSON object of a decoded frame, as far as it was understood."""
    return {"type": next((name for name, kind in homeroom.FRAMES.items() if kind is type(frame)), "unknown"), **write(frame)}


def load_fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))


class RecordingLine:
    """Stands in for a WebSocket: keeps what is sent, and answers each command at once."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, payload: bytes) -> None:
        self.sent.append(json.loads(payload))

    def receive(self, timeout: float) -> str:
        return json.dumps({"type": "ack", "ref": self.sent[-1]["ref"]})


def record_session(next_ref: int) -> Session:
    session = Session.__new__(Session)
    session.timeout, session.next_ref, session.answers, session.line = 1.0, next_ref, {}, RecordingLine()
    session.frames = homeroom.deque()
    return session


class FixtureTests(unittest.TestCase):
    def test_every_fixture_is_known(self) -> None:
        known = ({f"api.{name}" for name in API_BODIES.keys() | REQUEST_BODIES} | {f"client.{name}" for name in CLIENT_FRAMES}
                 | {f"server.{name}" for name in SERVER_FRAMES} | {f"newer.server.{name}" for name in NEWER_FRAMES}
                 | {f"refused.client.{name}" for name in REFUSED_FRAMES} | {"newer.client.unknown_field", "newer.api.home", "conversation_ids"})
        self.assertEqual(known, {path.name.removesuffix(".json") for path in FIXTURES.iterdir()})

    def test_server_frames_are_decoded(self) -> None:
        for name in sorted(SERVER_FRAMES):
            with self.subTest(name):
                frame = load_fixture(f"server.{name}")
                decoded = decode(json.dumps(frame))
                self.assertEqual(type(decoded), homeroom.FRAMES[name.split(".")[0]])
                self.assertEqual(encode(decoded), frame)

    def test_newer_frames_survive(self) -> None:
        for name in sorted(NEWER_FRAMES):
            with self.subTest(name):
                fixture = load_fixture(f"newer.server.{name}")
                self.assertEqual(encode(decode(json.dumps(fixture["received"]))), fixture["read_as"])

    def test_newer_bodies_survive(self) -> None:
        fixture = load_fixture("newer.api.home")
        self.assertEqual(write(homeroom.read(homeroom.Home, fixture["received"])), fixture["read_as"])

    def test_bodies_are_decoded(self) -> None:
        for name, kind in API_BODIES.items():
            with self.subTest(name):
                body = load_fixture(f"api.{name}")
                self.assertEqual(write(read(kind, body)), body)

    def test_request_bodies_are_built(self) -> None:
        asked: list[tuple[str, str, Any]] = []
        answers = {"/api/v1/me": load_fixture("api.home")["you"]}

        class RecordingClient(Client):
            def request(self, method: str, path: str, body: Any = None) -> Any:
                asked.append((method, path, body))
                return answers.get(path, load_fixture("api.signed_in.token"))

        client = RecordingClient("http://127.0.0.1")
        code, link = load_fixture("api.sign_in_code"), load_fixture("api.sign_in_link")
        client.sign_in_by_code(code["name"], code["code"])
        client.sign_in_by_link("http://127.0.0.1/i/" + link["secret"])
        client.change_language(load_fixture("api.change_me")["language"])
        self.assertEqual([body for _, _, body in asked], [code, {**link, "keep": "token"}, load_fixture("api.change_me")])

    def test_conversation_ids_are_derived(self) -> None:
        for example in load_fixture("conversation_ids"):
            self.assertEqual(derive_conversation(example["room"], example["address"]), example["conversation"])

    def test_client_frames_are_built(self) -> None:
        def send(frame: dict[str, Any], act: Callable[[Session], Any]) -> dict[str, Any]:
            session = record_session(frame["ref"])
            act(session)
            return session.line.sent[0]

        builders: dict[str, Callable[[dict[str, Any]], Callable[[Session], Any]]] = {
            "delivered": lambda f: lambda s: s.mark_delivered(f["room"], f["conversation"], f["n"]),
            "read": lambda f: lambda s: s.mark_read(f["room"], f["conversation"], f["n"]),
            "typing": lambda f: lambda s: s.show_typing(f["room"], address_family(f["to"]["guardian"], f["to"]["student"])),
            "history": lambda f: lambda s: s.fetch_history(f["room"], f["conversation"], f.get("before"), f.get("limit")),
            "refresh": lambda f: lambda s: s.refresh(f["token"]),
            "post": lambda f: lambda s: s.send(build_post(
                f["room"], f["to"], build_draft(f["draft"]["text"], f["draft"]["language"], f["draft"].get("protected")), f["urgent"],
                f["client_id"])),
            "edit": lambda f: lambda s: s.send(build_edit(
                f["room"], f["message"], build_draft(f["draft"]["text"], f["draft"]["language"]), f["client_id"])),
            "retract": lambda f: lambda s: s.send(build_retract(f["room"], f["message"], f["client_id"]))}
        for name in sorted(CLIENT_FRAMES):
            with self.subTest(name):
                frame = load_fixture(f"client.{name}")
                if frame["type"] == "hello":
                    self.assertEqual(build("hello", token=frame.get("token"), positions=frame["positions"]), frame)
                else:
                    self.assertEqual(send(frame, builders[frame["type"]](frame)), frame)
        newer = load_fixture("newer.client.unknown_field")["read_as"]
        self.assertEqual(send(newer, builders["typing"](newer)), newer)


class RuleTests(unittest.TestCase):
    def make_event(self, n: int, conversation: str = "c", text: str = "") -> Event:
        return Event(room="r", id=f"e{n}{text}", at="", kind="posted", conversation=conversation, n=n)

    def test_holes_and_repetitions_are_found(self) -> None:
        for wrong in (3, 5, 7):
            room = Room("r")
            for n in (4, 5):
                self.assertTrue(room.take(self.make_event(n)))
            self.assertTrue(room.take(self.make_event(9, "another")))
            with self.assertRaises(Gap):
                room.take(self.make_event(wrong))
            self.assertEqual(room.position, "e9")

    def test_unknown_events_move_position_and_number(self) -> None:
        room = Room("r")
        room.take(decode(json.dumps(load_fixture("newer.server.unknown_event")["received"])))
        self.assertEqual((room.position, list(room.seen.values())), ("0193a1b2-2222-7000-8000-00000000000b", [4]))

    def test_an_outbox_that_makes_no_progress_ends(self) -> None:
        class BusyLine(RecordingLine):
            def receive(self, timeout: float) -> str:
                if not (ref := self.sent[-1].pop("ref", None)):
                    time.sleep(max(timeout, 0))
                    raise TimeoutError
                return json.dumps({"type": "error", "ref": ref, "code": "asleep", "message": "", "retryable": True, "retry_after_ms": 20})

        session, outbox = record_session(1), Outbox([build_retract("r", "m")])
        session.line = BusyLine()
        with self.assertRaises(TimeoutError):
            outbox.send(session, 0.1)
        self.assertEqual(len(outbox.commands), 1)
        self.assertEqual(len({json.dumps(one) for one in session.line.sent}), 1)

    def test_reset_holds_events_until_the_snapshot(self) -> None:
        summary = read(homeroom.RoomSummary, load_fixture("api.home")["rooms"][0])
        conversation = summary.conversations[0].conversation
        log = Log()
        log.take(Reset(room=summary.room, position="p", reason="too_far_behind"))
        for n in (3, 4, 5):
            log.take(Event(room=summary.room, id=f"e{n}", at="", kind="withheld", conversation=conversation, n=n))
        room = log.rooms[summary.room]
        self.assertEqual(room.position, "p")
        self.assertEqual([event.n for event in room.take_snapshot(summary)], [5])
        self.assertEqual(room.position, "e5")

    def test_a_page_that_was_read_before_an_edit_changes_nothing(self) -> None:
        page = [read(homeroom.Message, one) for one in load_fixture("api.history_page")["messages"]]
        edited = decode(json.dumps(load_fixture("server.event.edited")))
        before = read(homeroom.Message, {**load_fixture("server.event.edited")["message"], "edited_at": None})
        room = Room(edited.room)
        room.take(edited)  # of a message that was not held
        room.take_page([before, *page])
        self.assertEqual(room.messages[edited.message.id], edited.message)
        self.assertLessEqual({one.id for one in page}, room.messages.keys())

    def test_a_line_that_breaks_after_a_reset_begins_with_a_snapshot_again(self) -> None:
        welcome = decode(json.dumps(load_fixture("server.welcome")))
        summary = read(homeroom.RoomSummary, load_fixture("api.home")["rooms"][0])
        log = Log()
        log.rooms[summary.room] = Room(summary.room)
        log.rooms[summary.room].take_snapshot(summary)
        self.assertEqual(log.positions(), {summary.room: summary.position})
        log.take(Reset(room=summary.room, position="p", reason="rights_changed"))
        log.take(Event(room=summary.room, id="e9", at="", kind="withheld"))
        self.assertEqual(log.positions(), {})
        welcome.rooms = [homeroom.RoomPlace(room=summary.room, title="", role="staff", position="q")]
        log.take(welcome)
        room = log.rooms[summary.room]
        self.assertEqual((room.needs_snapshot, room.waiting, room.messages), (True, [], {}))
        room.take_snapshot(summary)
        self.assertEqual(log.positions(), {summary.room: "q"})

    def test_back_off_and_close_codes(self) -> None:
        back_off = BackOff()
        for k in range(12):
            self.assertLessEqual(back_off.choose_wait(), min(30.0, 0.25 * 2 ** k))
        back_off.note_welcome()
        self.assertLessEqual(back_off.choose_wait(), 0.25)
        back_off.note_end(Bye(reason="draining", reconnect_after_ms=1234))
        self.assertEqual(back_off.choose_wait(), 1.234)
        self.assertEqual([code for code in (1000, 1002, 1006, 1007, 1008, 1009, 1012, 4401, 4444, 4500, 4503, 4504, 4599, 4999)
                          if not may_come_back(code)], [1002, 1007, 1008, 1009, 4401, 4444])


class Server:
    """One server process on a data folder of its own."""

    def __init__(self, program: str):
        self.program, self.folder, self.port = program, tempfile.mkdtemp(prefix="homeroom-test-"), 0
        self.errors = open(Path(self.folder) / "server.log", "w")
        self.process: Optional[subprocess.Popen[str]] = None

    def start(self) -> None:
        """Start, on the port of the last time if there was one, and wait for the line that says it is ready."""
        self.process = subprocess.Popen([self.program, "serve", "--listen", f"127.0.0.1:{self.port}", "--data-dir", self.folder],
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(DEADLINE):
                raise TimeoutError("the server did not start")
        line = self.process.stdout.readline().strip()
        if not line.startswith("listening on http://127.0.0.1:"):
            raise AssertionError(f"the server said {line!r}")
        self.port = int(line.rpartition(":")[2])

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, *words: str) -> str:
        return subprocess.run([self.program, *words, "--data-dir", self.folder], check=True, capture_output=True, text=True,
                              timeout=DEADLINE).stdout

    def stop(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process; one that does not end in time is killed."""
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(DEADLINE)
            raise
        finally:
            self.process.stdout.close()

    def remove(self) -> None:
        try:
            if self.process and self.process.returncode is None:
                self.stop(signal.SIGKILL)
        finally:
            self.errors.close()
            shutil.rmtree(self.folder, ignore_errors=True)


class Device:
    """Somebody's device: what it holds, and its session."""

    def __init__(self, client: Client):
        self.client, self.log, self.new, self.others = client, Log(), [], []
        self.session: Optional[Session] = None

    def begin(self) -> None:
        """Begin with a snapshot."""
        for summary in self.client.fetch_home().rooms:
            self.log.rooms[summary.room] = Room(summary.room)
            self.log.rooms[summary.room].take_snapshot(summary)
        self.connect()

    def connect(self) -> None:
        self.session = self.client.connect(self.log.positions())
        self.log.take(self.session.welcome)
        self.read_until(lambda: all(room.caught_up for room in self.log.rooms.values()))

    def read_until(self, condition: Callable[[], Any]) -> None:
        """Take in frames until the condition holds."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            frame = self.session.next_frame(max(deadline - time.monotonic(), 0.001))
            if self.log.take(frame):
                self.new.append(frame)
            elif not isinstance(frame, (Event, CaughtUp)):
                self.others.append(frame)

    def texts(self) -> list[Optional[str]]:
        return [event.message.envelope and event.message.envelope.text for event in self.new if event.message]


@unittest.skipUnless(os.environ.get("HOMEROOM_BIN"), "HOMEROOM_BIN does not name the server's program")
class ServerTests(unittest.TestCase):
    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server(os.environ["HOMEROOM_BIN"])
        cls.addClassCleanup(cls.server.remove)
        cls.server.start()
        cls.server.run("import", str(SCHOOL))
        names = ["james.okafor", "ana.silva", "pablo.silva"]
        cls.invitations = {one["username"]: one for one in json.loads(cls.server.run("invite", *names, "--json"))}
        cls.clients = {name: Client(cls.server.base) for name in names}
        for name in names[:2]:
            cls.clients[name].sign_in_by_code(name, cls.invitations[name]["code"].lower())
        cls.clients["pablo.silva"].sign_in_by_link(cls.invitations["pablo.silva"]["link"])
        cls.teacher, cls.guardian, cls.stranger = (cls.clients[name] for name in names)
        taught = {one.room for one in cls.teacher.fetch_home().rooms if one.role == "staff" and one.kind == "class"}
        summary = next(one for one in cls.guardian.fetch_home().rooms if one.room in taught)
        cls.room = summary.room
        cls.family = address_family(cls.guardian.fetch_me().person, summary.students[0].person)
        cls.announcements = derive_conversation(cls.room, ANNOUNCEMENTS)
        cls.private = derive_conversation(cls.room, cls.family)

    def open(self, client: Client) -> Device:
        device = Device(client)
        device.begin()
        self.addCleanup(lambda: device.session.line.socket.close())
        return device

    def ask(self, device: Device, command: dict[str, Any]) -> Any:
        """What one person may say at once is shared by all these tests, which speak for the same two."""
        while True:
            try:
                return device.session.ask(command)
            except Refused as refused:
                if refused.code != "rate_limited":
                    raise
                device.session.pause((refused.fault.retry_after_ms or 50) / 1000)

    def announce(self, text: str, **options: Any) -> dict[str, Any]:
        return build_post(self.room, ANNOUNCEMENTS, build_draft(text, "en"), **options)

    def assert_refused(self, code: str | tuple[str, ...], act: Callable[[], Any]) -> Refused:
        with self.assertRaises(Refused) as caught:
            act()
        self.assertIn(caught.exception.code, code if isinstance(code, tuple) else (code,))
        return caught.exception

    def test_announcement_and_private_answer(self) -> None:
        teacher, guardian = self.open(self.teacher), self.open(self.guardian)
        ack = self.ask(teacher, self.announce("Trip on 27/11", urgent=True))
        guardian.read_until(lambda: guardian.new)
        event = guardian.new[0]
        self.assertEqual((event.id, event.n, event.kind, event.conversation), (ack.id, ack.n, "posted", self.announcements))
        self.assertEqual(([span.kind for span in event.message.envelope.protected], event.message.urgent), (["date"], True))
        ack = guardian.session.ask(build_post(self.room, self.family, build_draft("¿A qué hora? 🚌", "es")))
        teacher.read_until(lambda: any(event.id == ack.id for event in teacher.new))
        event = teacher.new[-1]
        self.assertEqual((event.n, event.conversation, write(event.about)), (
            ack.n, self.private, {key: self.family[key] for key in ("guardian", "student")}))
        self.assertEqual(event.message.envelope.text, "¿A qué hora? 🚌")
        guardian.session.show_typing(self.room, self.family)
        teacher.read_until(lambda: any(isinstance(one, homeroom.Typing) and one.conversation == self.private for one in teacher.others))

    def test_nothing_is_lost_or_doubled_over_a_cut(self) -> None:
        teacher, guardian = self.open(self.teacher), self.open(self.guardian)
        texts, acks = [f"announcement {number}" for number in range(30)], []
        for number, text in enumerate(texts):
            acks.append(self.ask(teacher, self.announce(text)))
            if number == 9:
                guardian.read_until(lambda: len(guardian.new) >= 8)
                guardian.session.line.cut()
        self.ask(teacher, build_edit(self.room, acks[12].id, build_draft("edited", "en")))
        self.ask(teacher, build_retract(self.room, acks[5].id))
        guardian.connect()
        guardian.read_until(lambda: len(guardian.new) >= 32)
        self.assertEqual([event.n for event in guardian.new], list(range(acks[0].n, acks[0].n + 32)))
        self.assertEqual([event.id for event in guardian.new][:30], [ack.id for ack in acks])
        held = guardian.log.rooms[self.room].messages
        texts[12], texts[5] = "edited", None
        self.assertEqual([held[ack.id].envelope and held[ack.id].envelope.text for ack in acks], texts)
        self.assertTrue(held[acks[12].id].edited_at and held[acks[5].id].retracted_at)
        self.assertEqual(guardian.new[12].message, guardian.new[30].message)  # posted, but told as it stands now
        self.assert_refused("invalid", lambda: self.ask(teacher, build_edit(self.room, acks[5].id, build_draft("again", "en"))))

    def test_the_same_client_id_happens_once(self) -> None:
        teacher = self.open(self.teacher)
        command = self.announce("once")
        ack = self.ask(teacher, command)
        teacher.session.line.cut()
        teacher.connect()
        again = self.ask(teacher, command)
        self.assertEqual((again.id, again.n), (ack.id, ack.n))
        self.assert_refused("conflict", lambda: self.ask(teacher, self.announce("other", client_id=command["client_id"])))
        self.assertEqual(self.ask(teacher, self.announce("next")).n, ack.n + 1)

    def test_outbox_after_a_lost_answer(self) -> None:
        teacher, outbox = self.open(self.teacher), Outbox()
        ids = [outbox.add(self.announce(f"outbox {number}")) for number in range(5)]
        for command in outbox.commands[:3]:
            teacher.session.send(command)
        teacher.session.line.cut()
        teacher.connect()
        answers = outbox.send(teacher.session)
        self.assertEqual((outbox.commands, list(answers)), ([], ids))
        numbers = [answers[one].n for one in ids]
        self.assertEqual(numbers, sorted(set(numbers)))
        in_log = [one.client_id for one in walk_history(self.teacher.fetch_messages, self.room, self.announcements) if one.client_id in ids]
        self.assertEqual(in_log[::-1], ids)

    def test_outbox_goes_on_after_refusals(self) -> None:
        teacher, outbox = self.open(self.teacher), Outbox()
        wrong = outbox.add(self.announce(" "))
        self.assertEqual(outbox.send(teacher.session)[wrong].code, "invalid")
        self.assertEqual(outbox.commands, [])
        # More than one burst: some are refused as rate_limited, and what comes before them again as out_of_turn.
        ids = [outbox.add(self.announce(f"burst {number}")) for number in range(75)]
        acks, codes = {}, set()
        for command, ref in [(command, teacher.session.send(command)) for command in outbox.commands]:
            try:
                acks[command["client_id"]] = teacher.session.wait_for(ref)
            except Refused as refused:
                codes.add(refused.code)
        self.assertIn("rate_limited", codes)
        self.assertLessEqual(codes, {"rate_limited", "out_of_turn"})
        teacher.session.pause(0.5)  # at 20 a second some commands are allowed again by then
        self.assert_refused("out_of_turn", lambda: self.ask(teacher, self.announce("out of turn")))
        self.ask(teacher, build_post(self.room, self.family, build_draft("another conversation", "en")))
        outbox.commands = [command for command in outbox.commands if command["client_id"] not in acks]
        acks.update(outbox.send(teacher.session))
        first = acks[ids[0]].n
        self.assertEqual([acks[one].n for one in ids], list(range(first, first + 75)))

    def test_marks_and_reach(self) -> None:
        teacher, guardian = self.open(self.teacher), self.open(self.guardian)
        ack = self.ask(teacher, self.announce("reach"))
        guardian.read_until(lambda: guardian.new)
        person = self.family["guardian"]

        def find_mark() -> Optional[MarkMoved]:
            return next((one for one in reversed(teacher.others) if isinstance(one, MarkMoved) and one.person == person), None)

        def find_reach() -> tuple[bool, bool]:
            reach = self.teacher.fetch_reach(self.room, ack.id)
            return next((one.delivered, one.read) for one in reach.guardians if one.about.guardian == person)

        self.assertEqual(find_reach(), (False, False))
        guardian.session.mark_delivered(self.room, self.announcements, ack.n)
        teacher.read_until(lambda: (mark := find_mark()) and mark.delivered == ack.n)
        self.assertEqual(find_reach(), (True, False))
        guardian.session.mark_read(self.room, self.announcements, ack.n)
        teacher.read_until(lambda: (mark := find_mark()) and mark.read == ack.n)
        self.assertEqual((find_reach(), find_mark().conversation), ((True, True), self.announcements))
        self.assert_refused(("forbidden", "not_found"), lambda: self.guardian.fetch_reach(self.room, ack.id))
        summary = next(one for one in self.guardian.fetch_home().rooms if one.room == self.room)
        announcements = next(one for one in summary.conversations if one.conversation == self.announcements)
        self.assertEqual((announcements.unread, announcements.mine.read), (0, ack.n))

    def test_history_pages_give_every_message_once(self) -> None:
        teacher = self.open(self.teacher)
        acks = [self.ask(teacher, self.announce(f"page {number}")) for number in range(16)]
        self.ask(teacher, build_edit(self.room, acks[3].id, build_draft("changed", "en")))
        for fetch in (teacher.session.fetch_history, self.teacher.fetch_messages):
            messages = list(walk_history(fetch, self.room, self.announcements, 7))
            self.assertEqual([one.n for one in messages], sorted({one.n for one in messages}, reverse=True))
            self.assertEqual([one.id for one in messages][:16], [ack.id for ack in acks][::-1])
            self.assertEqual(len(messages), len(list(walk_history(fetch, self.room, self.announcements))))
            self.assertEqual(len(fetch(self.room, self.announcements, None, 7).messages), 7)

    def test_a_snapshot_and_events_count_nothing_twice(self) -> None:
        teacher, guardian = self.open(self.teacher), self.open(self.guardian)
        for number in range(3):
            self.ask(teacher, self.announce(f"before {number}"))
        held = guardian.log.positions()  # from before: the events of the snapshot are told again
        summary = next(one for one in self.guardian.fetch_home().rooms if one.room == self.room)
        late = Device(self.guardian)
        late.log.rooms[self.room] = Room(self.room)
        late.log.rooms[self.room].take_snapshot(summary)
        late.log.rooms[self.room].position = held[self.room]
        late.connect()
        self.addCleanup(late.session.line.socket.close)
        ack = self.ask(teacher, self.announce("after"))
        late.read_until(lambda: late.new)
        self.assertEqual([event.id for event in late.new], [ack.id])
        self.assertEqual(next(one.n for one in summary.conversations if one.conversation == self.announcements) + 1, ack.n)
        self.assertEqual(len(late.log.rooms[self.room].messages), len({one.id for one in late.log.rooms[self.room].messages.values()}))

    def test_errors_leave_the_session_alive(self) -> None:
        guardian, stranger = self.open(self.guardian), self.open(self.stranger)
        session = guardian.session
        for name in sorted(REFUSED_FRAMES):
            with self.subTest(name):
                fixture = load_fixture(f"refused.client.{name}")
                session.say(fixture["received"])
                if fixture["ref"] is None:
                    guardian.read_until(lambda: guardian.others and isinstance(guardian.others[-1], ErrorFrame))
                    self.assertEqual(guardian.others.pop().code, fixture["code"])
                else:
                    self.assert_refused(fixture["code"], lambda: session.wait_for(fixture["ref"]))
        for payload, opcode, code in ((b"{", 1, "malformed"), (b"{}", 2, "malformed"), (b'{"type":"hello","positions":{}}', 1, "invalid")):
            session.line.send(payload, opcode)
            guardian.read_until(lambda: guardian.others and isinstance(guardian.others[-1], ErrorFrame))
            self.assertEqual((guardian.others[-1].code, guardian.others.pop().ref), (code, None))
        self.assert_refused("forbidden", lambda: session.ask(self.announce("no")))
        self.assert_refused("too_long", lambda: session.ask(build_post(self.room, self.family, build_draft("x" * 8001, "es"))))
        self.assert_refused("not_found", lambda: session.ask(build_retract(self.room, str(uuid.uuid4()))))
        session.ask(build_post(self.room, self.family, build_draft("mine", "es")))
        foreign = stranger.session
        self.assert_refused(("forbidden", "not_found"), lambda: foreign.ask(build_post(self.room, self.family, build_draft("no", "en"))))
        self.assert_refused("not_found", lambda: foreign.fetch_history(self.room, self.private))
        self.assert_refused("not_found", lambda: self.stranger.fetch_messages(self.room, self.private))
        self.assertNotIn(self.private, {one.conversation for place in self.stranger.fetch_home().rooms for one in place.conversations})
        for device in (guardian, stranger):
            device.session.fetch_history(self.room, self.announcements)
        # A message in fragments, with a ping between them, is one message.
        frame = json.dumps({"type": "history", "ref": 77, "room": self.room, "conversation": self.announcements}).encode()
        session.line.send(frame[:20], 1, final=False)
        session.line.send(b"ping", 9)
        session.line.send(frame[20:], 0)
        self.assertEqual(session.wait_for(77).conversation, self.announcements)

    def test_close_codes(self) -> None:
        line = homeroom.WebSocket(f"{self.server.base}/ws", homeroom.PROTOCOL)
        self.addCleanup(line.socket.close)
        line.send(b'{"type":"typing","ref":1}')
        with self.assertRaises(Closed) as caught:
            for _ in range(3):
                line.receive(DEADLINE)
        self.assertEqual(caught.exception.code, 1008)
        refused = self.assert_refused("unauthenticated", lambda: Client(self.server.base, "wrong").connect({}))
        self.assertEqual((refused.close_code, may_come_back(refused.close_code)), (4401, False))
        self.assert_refused("unauthenticated", Client(self.server.base, "wrong").fetch_me)
        code = self.invitations["ana.silva"]["code"]
        self.assert_refused("unauthenticated", lambda: Client(self.server.base).sign_in_by_code("ana.silva", code))  # used already
        device = self.open(self.guardian)
        device.session.line.send(b" " * 65537)
        with self.assertRaises(Closed) as caught:
            device.read_until(lambda: False)
        self.assertEqual(caught.exception.code, 1009)

    def test_unknown_position_is_reset(self) -> None:
        log = Log()
        session = self.guardian.connect({self.room: str(uuid.uuid4())})
        self.addCleanup(session.line.socket.close)
        log.take(session.welcome)
        while not log.rooms[self.room].caught_up:
            log.take(session.next_frame())
        self.assertTrue(log.rooms[self.room].needs_snapshot)
        summary = self.guardian.fetch_room(self.room).summary
        self.assertEqual(log.rooms[self.room].take_snapshot(summary), [])
        self.assertEqual(log.rooms[self.room].position, summary.position)

    def come_back(self, device: Device) -> None:
        """Connect again with the waits of the page, until a deadline."""
        back_off, deadline = BackOff(), time.monotonic() + DEADLINE
        back_off.note_end(device.session.bye)
        while True:
            time.sleep(min(back_off.choose_wait(), max(deadline - time.monotonic(), 0)))
            try:
                return device.connect()
            except (OSError, Closed) as problem:
                if time.monotonic() > deadline:
                    raise TimeoutError("could not come back") from problem

    def test_nothing_is_lost_when_the_server_is_killed(self) -> None:
        teacher, guardian, outbox = self.open(self.teacher), self.open(self.guardian), Outbox()
        acks = [self.ask(teacher, self.announce(f"killed {number}")) for number in range(5)]
        guardian.read_until(lambda: len(guardian.new) >= 2)
        outbox.add(self.announce("written while it died"))
        teacher.session.send(outbox.commands[0])
        self.server.stop(signal.SIGKILL)
        for device in (teacher, guardian):
            with self.assertRaises(Closed) as caught:
                device.read_until(lambda: False)
            self.assertTrue(may_come_back(caught.exception.code))
        self.server.start()
        self.come_back(teacher)
        self.come_back(guardian)
        ack: Ack = next(iter(outbox.send(teacher.session).values()))
        guardian.read_until(lambda: len(guardian.new) >= 6)
        self.assertEqual([event.id for event in guardian.new], [one.id for one in acks] + [ack.id])
        self.assertEqual([event.n for event in guardian.new], list(range(acks[0].n, acks[0].n + 6)))

    def test_the_server_says_good_bye(self) -> None:
        guardian = self.open(self.guardian)
        self.server.process.send_signal(signal.SIGTERM)
        with self.assertRaises(Closed) as caught:
            guardian.read_until(lambda: False)
        self.assertEqual((caught.exception.code, guardian.session.bye.reason), (1012, "draining"))
        self.assertEqual(self.server.wait(), 0)
        self.server.start()
        self.come_back(guardian)


if __name__ == "__main__":
    unittest.main()
