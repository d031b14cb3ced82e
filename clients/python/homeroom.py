"""A client for the protocol `homeroom.v1`, with the standard library only. It was written from docs/protocol.md.

Owns: signing in, the meaning of every frame and HTTP body, which text stands, the check of the numbers `n`, the order of the outbox
and the waits between two tries. Refuses to know: bytes on a socket (see rfc6455.py), and where anything is stored: `Log` and `Outbox`
live in memory, whoever uses them stores them.

It starts no thread: nothing is read unless somebody calls a method that reads, and every wait ends at a deadline with `TimeoutError`.
Whoever calls nothing for a minute answers no ping, and the server will end the session.
"""
from __future__ import annotations

import hashlib
import http.client
import json
import random
import time
import uuid
from collections import deque
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Iterator, Optional, dataclass_transform, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlsplit

from rfc6455 import Closed, ProtocolError, WebSocket

PROTOCOL = "homeroom.v1"
UNDER_WAY = 16  # commands that the outbox has under way at once; the server bears 64, and 60 in one burst


class Gap(ProtocolError):
    """A conversation's numbers have a hole or a repetition: forget the room's position and take a snapshot."""


class Refused(Exception):
    """The server refused something; `fault` says what, `close_code` is set when the session ended with it."""

    def __init__(self, fault: Fault, close_code: Optional[int] = None):
        super().__init__(f"{fault.code}: {fault.message}")
        self.fault, self.code, self.close_code = fault, fault.code, close_code


# Values that are shared by frames and HTTP bodies. A field without a default is always there; one with a default may be left out.

def word(*known: str, **options: Any) -> Any:
    """A word of an open list: one that a newer server adds is read as `unknown`."""
    return field(metadata={"known": frozenset(known)}, **options)


@dataclass_transform(kw_only_default=True)
class Record:
    """A dataclass with keywords only, as a JSON object is."""

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True)(cls)


class Person(Record): person: str; name: str
class You(Person): language: str
class About(Record): guardian: str; student: str
class Address(Record): kind: str; guardian: Optional[str] = None; student: Optional[str] = None
class Span(Record): start: int; end: int; kind: str = word("name", "date", "number", "link")
class Envelope(Record): language: str; direction: str; text: str; protected: list[Span]; translations: dict[str, Any]
class Mark(Record): person: str; delivered: int; read: int
class Fault(Record): code: str; message: str; retryable: bool; retry_after_ms: Optional[int] = None
class RoomPlace(Record): room: str; title: str; role: str = word("staff", "guardian"); position: Optional[str]


class Message(Record):
    id: str; n: int; author: str; client_id: str; at: str; urgent: bool
    envelope: Optional[Envelope] = None  # absent in a tombstone
    edited_at: Optional[str] = None
    retracted_at: Optional[str] = None


# Frames of the server.

class Limits(Record): frame_bytes: int; text_characters: int; commands_per_second: int; command_burst: int; history_page: int
class Welcome(Record): session: str; you: You; rooms: list[RoomPlace]; limits: Limits
class CaughtUp(Record): room: str
class Reset(Record): room: str; position: Optional[str]; reason: str = word("unknown_position", "too_far_behind", "rights_changed")
class Joined(Record): room: RoomPlace
class Left(Record): room: str
class Ack(Record): ref: int; id: Optional[str] = None; n: Optional[int] = None
class Page(Record): ref: int; room: str; conversation: str; messages: list[Message]; more: bool
class MarkMoved(Mark): room: str; conversation: str
class Typing(Record): room: str; conversation: str; person: str
class Bye(Record): reconnect_after_ms: int; reason: str = word("draining", "signed_out")
class Unknown(Record): pass


class ErrorFrame(Fault):
    code: str = word("malformed", "unknown_type", "invalid", "too_long", "unauthenticated", "forbidden", "not_found", "conflict",
                     "out_of_turn", "ref_in_use", "rate_limited", "unavailable")
    ref: Optional[int] = None


class Event(Record):
    room: str; id: str; at: str
    kind: str = word("posted", "edited", "retracted", "withheld", "member_joined", "member_left")
    conversation: Optional[str] = None; n: Optional[int] = None; about: Optional[About] = None; message: Optional[Message] = None
    person: Optional[str] = None; role: Optional[str] = word("staff", "guardian", default=None); student: Optional[str] = None

    def __post_init__(self) -> None:
        if self.kind == "unknown":  # what a newer kind means by these fields is not known
            self.message = self.person = self.role = self.student = None


FRAMES: dict[str, type] = {"welcome": Welcome, "caught_up": CaughtUp, "reset": Reset, "joined": Joined, "left": Left, "event": Event,
                           "ack": Ack, "page": Page, "error": ErrorFrame, "mark": MarkMoved, "typing": Typing, "bye": Bye}


# Bodies of the HTTP API.

class SignedIn(Record): you: You; expires_at: str; token: Optional[str] = None
class Conversation(Record):
    conversation: str; address: Address; n: int; unread: int; mine: Mark; others: list[Mark]; last: Optional[Message] = None
class RoomSummary(Record):
    room: str; kind: str = word("class", "school"); title: str; school: str; role: str = word("staff", "guardian")
    students: list[Person]; conversations: list[Conversation]; position: Optional[str]
class Home(Record): you: You; rooms: list[RoomSummary]
class FamilyGuardian(You): reachable: bool; conversation: str
class Family(Record): student: Person; guardians: list[FamilyGuardian]
class RoomDetail(Record): summary: RoomSummary; staff: list[Person]; families: list[Family]
class HistoryPage(Record): messages: list[Message]; more: bool
class Reached(Record): about: About; guardian_name: str; student_name: str; delivered: bool; read: bool
class Reach(Record): message: str; guardians: list[Reached]


@cache
def describe(kind: type) -> list[tuple[Any, Any]]:
    hints = get_type_hints(kind)
    return [(one, hints[one.name]) for one in fields(kind)]


def read(kind: Any, value: Any) -> Any:
    """Read a JSON value as `kind`; unknown fields are ignored, a missing field or a wrong type is a `ProtocolError`."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if type(None) in inner:
        return None if value is None else read(inner[0], value)
    if origin is list and isinstance(value, list):
        return [read(inner[0], one) for one in value]
    if origin is dict and isinstance(value, dict):
        return {name: read(inner[1], one) for name, one in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        given = {}
        for one, hint in describe(kind):
            if one.name not in value:
                if one.default is MISSING:
                    raise ProtocolError(f"{kind.__name__} without {one.name}")
                continue
            given[one.name] = read(hint, value[one.name])
            known = one.metadata.get("known")
            if known and given[one.name] not in known:
                given[one.name] = "unknown"
        return kind(**given)
    if type(value) is not kind:  # also keeps true and false from passing for integers
        raise ProtocolError(f"{value!r} is no {kind}")
    return value


def decode(text: str) -> Any:
    """Decode a frame of the server; one of an unknown type is `Unknown`."""
    try:
        value = json.loads(text)
    except ValueError as problem:
        raise ProtocolError("a frame is not JSON") from problem
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ProtocolError("a frame is no object with a type")
    return read(FRAMES.get(value["type"], Unknown), value)


# What a client says. A command gets its `ref` when it is sent.

ANNOUNCEMENTS = {"kind": "announcements"}


def address_family(guardian: str, student: str) -> dict[str, str]:
    return {"kind": "private", "guardian": guardian, "student": student}


def derive_conversation(room: str, address: dict[str, str]) -> str:
    """The id of a conversation, known before anything was said in it (uuid.uuid5 takes no bytes in Python 3.11)."""
    ids = [address["guardian"], address["student"]] if address["kind"] == "private" else []
    name = b"".join(uuid.UUID(one).bytes for one in ids) or b"announcements"
    return str(uuid.UUID(bytes=hashlib.sha1(uuid.UUID(room).bytes + name).digest()[:16], version=5))


def build(kind: str, **values: Any) -> dict[str, Any]:
    return {"type": kind, **{name: value for name, value in values.items() if value is not None}}


def build_draft(text: str, language: str, protected: Optional[list[dict[str, Any]]] = None) -> dict[str, Any]:
    return {"language": language, "text": text, **({"protected": protected} if protected else {})}


def build_post(room: str, to: dict[str, str], draft: dict[str, Any], urgent: bool = False, client_id: Optional[str] = None) -> dict[str, Any]:
    return build("post", room=room, client_id=client_id or str(uuid.uuid4()), to=to, draft=draft, urgent=urgent)


def build_edit(room: str, message: str, draft: dict[str, Any], client_id: Optional[str] = None) -> dict[str, Any]:
    return build("edit", room=room, client_id=client_id or str(uuid.uuid4()), message=message, draft=draft)


def build_retract(room: str, message: str, client_id: Optional[str] = None) -> dict[str, Any]:
    return build("retract", room=room, client_id=client_id or str(uuid.uuid4()), message=message)


class Session:
    """One WebSocket after `hello`. Answers are kept by `ref` until somebody asks for them, all other frames in order."""

    def __init__(self, base: str, token: Optional[str], positions: dict[str, Optional[str]], timeout: float = 10.0):
        self.timeout, self.next_ref = timeout, 1
        self.frames: deque[Any] = deque()
        self.answers: dict[int, Any] = {}
        self.bye: Optional[Bye] = None
        self.line = WebSocket(f"{base}/ws", PROTOCOL, timeout)
        try:
            self.say(build("hello", token=token, positions=positions))
            first = self._pull(time.monotonic() + timeout)
            if isinstance(first, ErrorFrame):
                try:
                    self.line.receive(timeout)
                except Closed as end:
                    raise Refused(first, end.code) from None
            if not isinstance(first, Welcome):
                raise ProtocolError("the first frame is no welcome")
        except BaseException:
            self.line.socket.close()
            raise
        self.frames.clear()
        self.welcome: Welcome = first

    def say(self, frame: dict[str, Any]) -> None:
        """Send a frame as it is."""
        self.line.send(json.dumps(frame, ensure_ascii=False).encode())

    def send(self, command: dict[str, Any]) -> int:
        """Send a command under a new `ref`, which `wait_for` takes."""
        ref, self.next_ref = self.next_ref, self.next_ref % 0xFFFFFFFF + 1
        self.say({**command, "ref": ref})
        return ref

    def _pull(self, deadline: float) -> Any:
        frame = decode(self.line.receive(deadline - time.monotonic()))
        if isinstance(frame, Bye):
            self.bye = frame
        if getattr(frame, "ref", None) is not None:
            self.answers[frame.ref] = frame
        else:
            self.frames.append(frame)
        return frame

    def wait_for(self, ref: int, timeout: Optional[float] = None) -> Any:
        """Wait for the answer to a command: `Ack` or `Page`; an error raises `Refused`."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while ref not in self.answers:
            self._pull(deadline)
        answer = self.answers.pop(ref)
        if isinstance(answer, ErrorFrame):
            raise Refused(answer)
        return answer

    def ask(self, command: dict[str, Any]) -> Any:
        return self.wait_for(self.send(command))

    def next_frame(self, timeout: Optional[float] = None) -> Any:
        """Wait for the next frame that answers no command."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not self.frames:
            self._pull(deadline)
        return self.frames.popleft()

    def pause(self, seconds: float) -> None:
        """Wait, and go on reading meanwhile, so that pings are answered."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self._pull(deadline)
        except TimeoutError:
            return

    def mark_delivered(self, room: str, conversation: str, n: int) -> Ack:
        return self.ask(build("delivered", room=room, conversation=conversation, n=n))

    def mark_read(self, room: str, conversation: str, n: int) -> Ack:
        return self.ask(build("read", room=room, conversation=conversation, n=n))

    def show_typing(self, room: str, to: dict[str, str]) -> Ack:
        return self.ask(build("typing", room=room, to=to))

    def fetch_history(self, room: str, conversation: str, before: Optional[int] = None, limit: Optional[int] = None) -> Page:
        return self.ask(build("history", room=room, conversation=conversation, before=before, limit=limit))

    def refresh(self, token: str) -> Ack:
        return self.ask(build("refresh", token=token))

    def close(self) -> None:
        self.line.close()


class Client:
    """The HTTP API, and the way to a session."""

    def __init__(self, base: str, token: Optional[str] = None, timeout: float = 10.0):
        self.base, self.token, self.timeout = base.rstrip("/"), token, timeout

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Make one request and give its JSON; a fault raises `Refused`."""
        url = urlsplit(self.base)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname, url.port, timeout=self.timeout)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {**headers, "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            value = json.loads(text) if text else None
        except ValueError as problem:
            raise ProtocolError(f"{method} {path} was answered with {answer.status} and no JSON") from problem
        if answer.status >= 300:
            raise Refused(read(Fault, value))
        return value

    def _sign_in(self, way: str, body: dict[str, str]) -> SignedIn:
        signed_in = read(SignedIn, self.request("POST", f"/api/v1/sign-in/{way}", {**body, "keep": "token"}))
        self.token = signed_in.token
        return signed_in

    def sign_in_by_code(self, name: str, code: str) -> SignedIn:
        return self._sign_in("code", {"name": name, "code": code})

    def sign_in_by_link(self, link: str) -> SignedIn:
        """Sign in by the whole link or by the secret at its end."""
        return self._sign_in("link", {"secret": link.rpartition("/i/")[2]})

    def sign_out(self) -> None:
        self.request("POST", "/api/v1/sign-out")
        self.token = None

    def fetch_me(self) -> You:
        return read(You, self.request("GET", "/api/v1/me"))

    def change_language(self, language: str) -> You:
        return read(You, self.request("PATCH", "/api/v1/me", {"language": language}))

    def fetch_home(self) -> Home:
        return read(Home, self.request("GET", "/api/v1/home"))

    def fetch_room(self, room: str) -> RoomDetail:
        return read(RoomDetail, self.request("GET", f"/api/v1/rooms/{quote(room)}"))

    def fetch_messages(self, room: str, conversation: str, before: Optional[int] = None, limit: Optional[int] = None) -> HistoryPage:
        query = "&".join(f"{name}={value}" for name, value in (("before", before), ("limit", limit)) if value is not None)
        return read(HistoryPage, self.request("GET", f"/api/v1/rooms/{quote(room)}/conversations/{quote(conversation)}/messages?{query}"))

    def fetch_reach(self, room: str, message: str) -> Reach:
        return read(Reach, self.request("GET", f"/api/v1/rooms/{quote(room)}/messages/{quote(message)}/reach"))

    def connect(self, positions: dict[str, Optional[str]]) -> Session:
        return Session(self.base, self.token, positions, self.timeout)


def walk_history(fetch: Any, room: str, conversation: str, limit: Optional[int] = None) -> Iterator[Message]:
    """Every message, newest first; `fetch` is `Client.fetch_messages` or `Session.fetch_history`."""
    before, more = None, True
    while more:
        page = fetch(room, conversation, before, limit)
        yield from page.messages
        before, more = min((one.n for one in page.messages), default=before), page.more and bool(page.messages)


@dataclass
class Room:
    """What is held of one room. `take` checks the numbers; position and messages change together, so store them together."""
    room: str
    position: Optional[str] = None
    caught_up: bool = False
    needs_snapshot: bool = False  # events wait until it is there, and the position is not to be given to a server
    seen: dict[str, int] = field(default_factory=dict)      # by conversation, the n of the last event
    counted: dict[str, int] = field(default_factory=dict)   # by conversation, the n of the snapshot
    messages: dict[str, Message] = field(default_factory=dict)
    waiting: list[Event] = field(default_factory=list)

    def take_snapshot(self, summary: RoomSummary) -> list[Event]:
        """Begin with a snapshot; the events that waited for it are taken in, those that are new are returned.

        Where one is waited for it has to be asked for after the `Welcome`, `Reset` or `Joined` that said so."""
        waiting = self.waiting
        if not self.needs_snapshot:  # while one is waited for, the session has its own position
            self.position = summary.position
        self.needs_snapshot, self.waiting, self.seen = False, [], {}
        self.counted = {one.conversation: one.n for one in summary.conversations}
        self.messages = {one.last.id: one.last for one in summary.conversations if one.last}
        return [event for event in waiting if self.take(event)]

    def take_page(self, messages: list[Message]) -> None:
        """Take in messages from a page: only those that are not held, for it may have been read before an edit that is held."""
        for message in messages:
            self.messages.setdefault(message.id, message)

    def take(self, event: Event) -> bool:
        """Take in an event; true if it is new, false if a snapshot counted it already or has to come first."""
        if self.needs_snapshot:
            self.waiting.append(event)
            return False
        new = True
        if event.conversation is not None and event.n is not None:
            last, floor = self.seen.get(event.conversation), self.counted.get(event.conversation)
            new = floor is None or event.n > floor
            if (last is not None and event.n != last + 1) or (last is None and floor is not None and event.n > floor + 1):
                raise Gap(f"{event.conversation}: {event.n} after {last if last is not None else floor}")
            self.seen[event.conversation] = event.n
        if event.message:  # events come in order, each with the message as it stands: the last one is right
            held = self.messages.get(event.message.id)
            if held is None or event.message.retracted_at or not held.retracted_at:
                self.messages[event.message.id] = event.message
        self.position = event.id
        return new


class Log:
    """Everything that is held, room by room. `take` is given every frame of a session, its welcome first."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}

    def positions(self) -> dict[str, Optional[str]]:
        """What to say in `hello`: a room that still needs its snapshot begins anew."""
        return {room.room: room.position for room in self.rooms.values() if not room.needs_snapshot}

    def take(self, frame: Any) -> bool:
        """Take in a frame; true if it was an event that is new."""
        if isinstance(frame, Welcome):
            held = {name: room for name, room in self.rooms.items() if not room.needs_snapshot}
            self.rooms = {place.room: held.get(place.room) or Room(place.room, needs_snapshot=True) for place in frame.rooms}
            for place in frame.rooms:
                self.rooms[place.room].position, self.rooms[place.room].caught_up = place.position, False
        elif isinstance(frame, Joined):
            self.rooms[frame.room.room] = Room(frame.room.room, frame.room.position, needs_snapshot=True)
        elif isinstance(frame, Left):
            self.rooms.pop(frame.room, None)
        elif isinstance(frame, Reset):
            self.rooms[frame.room] = Room(frame.room, frame.position, needs_snapshot=True)
        elif isinstance(frame, CaughtUp) and frame.room in self.rooms:
            self.rooms[frame.room].caught_up = True
        elif isinstance(frame, Event) and frame.room in self.rooms:
            return self.rooms[frame.room].take(frame)
        return False


@dataclass
class Outbox:
    """What was written and is not answered yet, in order. Store `commands`; they keep their client ids over every try."""
    commands: list[dict[str, Any]] = field(default_factory=list)

    def add(self, command: dict[str, Any]) -> str:
        self.commands.append(command)
        return command["client_id"]

    def _choose(self) -> list[dict[str, Any]]:
        """The head of the outbox, up to the second change of one message: that one waits for the first one's answer."""
        chosen: list[dict[str, Any]] = []
        for command in self.commands[:UNDER_WAY]:
            if "message" in command and any(one.get("message") == command["message"] for one in chosen):
                break
            chosen.append(command)
        return chosen

    def send(self, session: Session, timeout: float = 60.0) -> dict[str, Ack | Refused]:
        """Send all that is left, in order, and wait for the answers, by client id. If the line ends, the rest stays for the next session."""
        answers: dict[str, Ack | Refused] = {}
        deadline = time.monotonic() + timeout
        while self.commands:
            if time.monotonic() > deadline:
                raise TimeoutError("the outbox could not be emptied in time")
            wait = None
            under_way = [(command, session.send(command)) for command in self._choose()]
            for command, ref in under_way:
                try:
                    answers[command["client_id"]] = session.wait_for(ref)
                except Refused as refused:
                    if refused.fault.retryable:
                        wait = wait if wait is not None else (refused.fault.retry_after_ms or 1000) / 1000
                        continue
                    answers[command["client_id"]] = refused
                self.commands.remove(command)
            if wait is not None:
                session.pause(wait)
        return answers


@dataclass
class BackOff:
    """How long to wait before the next try: full jitter, doubled up to 30 seconds; after a `bye` what it said."""
    tries: int = 0
    after_bye: Optional[float] = None

    def note_end(self, bye: Optional[Bye]) -> None:
        self.after_bye = bye.reconnect_after_ms / 1000 if bye else None

    def note_welcome(self) -> None:
        self.tries, self.after_bye = 0, None

    def choose_wait(self) -> float:
        wait = self.after_bye if self.after_bye is not None else random.uniform(0, min(30.0, 0.25 * 2 ** min(self.tries, 10)))
        self.tries, self.after_bye = self.tries + 1, None
        return wait


def may_come_back(code: int) -> bool:
    """Whether a client may connect again as it is after this close code."""
    return not (4400 <= code < 4500 or code in (1002, 1007, 1008, 1009))
