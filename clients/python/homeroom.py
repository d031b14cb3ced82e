"""A client for the protocol `homeroom.v1`, with the standard library only.

This module owns the wire: signing in, HTTP, one WebSocket at a time, the meaning of every frame, the check of the numbers `n`, the
order of the outbox and the waits between two tries. It refuses to know where anything is stored, and it starts no thread: `Log` and
`Outbox` live in memory, whoever uses them stores them, and nothing is read unless somebody calls a method that reads. Every wait ends
at a deadline with `TimeoutError`. Whoever calls nothing for a minute answers no ping, and the server will end the session.
"""
from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import socket
import ssl
import struct
import time
import uuid
from collections import deque
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Iterator, Optional, dataclass_transform, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlsplit

PROTOCOL = "homeroom.v1"
SILENCE_SECONDS = 75.0
UNDER_WAY = 16  # commands that the outbox has under way at once; the server bears 64, and 60 in one burst


class ProtocolError(Exception):
    """The server said something that the protocol does not allow."""


class Gap(ProtocolError):
    """A conversation's numbers have a hole or a repetition: forget the room's position and take a snapshot."""


class Refused(Exception):
    """The server refused something; `fault` says what, `close_code` is set when the session ended with it."""

    def __init__(self, fault: Fault, close_code: Optional[int] = None):
        super().__init__(f"{fault.code}: {fault.message}")
        self.fault, self.code, self.close_code = fault, fault.code, close_code


class Closed(Exception):
    """The connection has ended; 1006 stands for an end without a close frame."""

    def __init__(self, code: int = 1006, reason: str = ""):
        super().__init__(f"{code} {reason}".strip())
        self.code = code


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
class RoomPlace(Record): room: str; title: str; role: str; position: Optional[str]


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
    person: Optional[str] = None; role: Optional[str] = None; student: Optional[str] = None

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
    room: str; kind: str; title: str; school: str; role: str; students: list[Person]; conversations: list[Conversation]
    position: Optional[str]
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


def write(value: Any) -> Any:
    """Turn what `read` gave back into JSON; a field with nothing to say is left out."""
    if isinstance(value, list):
        return [write(one) for one in value]
    if not is_dataclass(value):
        return value
    pairs = [(one, getattr(value, one.name)) for one, _ in describe(type(value))]
    return {one.name: write(item) for one, item in pairs if item is not None or one.default is MISSING}


def decode(text: str) -> Any:
    """Decode a frame of the server; one of an unknown type is `Unknown`."""
    try:
        value = json.loads(text)
    except ValueError as problem:
        raise ProtocolError("a frame is not JSON") from problem
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ProtocolError("a frame is no object with a type")
    return read(FRAMES.get(value["type"], Unknown), value)


def encode(frame: Any) -> dict[str, Any]:
    """The JSON object of a decoded frame, as far as it was understood."""
    return {"type": next((name for name, kind in FRAMES.items() if kind is type(frame)), "unknown"), **write(frame)}


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


class WebSocket:
    """As much of RFC 6455 as a client needs; pings are answered while somebody receives."""

    def __init__(self, base: str, timeout: float = 10.0):
        url = urlsplit(base)
        self.timeout, self.buffer, self.fragments, self.text_under_way = timeout, bytearray(), bytearray(), False
        secure = url.scheme == "https"
        self.socket = socket.create_connection((url.hostname, url.port or (443 if secure else 80)), timeout)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=url.hostname)
            self._shake_hands(url.netloc)
        except BaseException:
            self.socket.close()
            raise
        self.heard = time.monotonic()

    def _shake_hands(self, host: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n".encode())
        deadline = time.monotonic() + self.timeout
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._fill(deadline)
        status, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[:end + 4]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status.split(" ")[1:2] != ["101"]:
            raise Closed(reason=f"the handshake was answered with {status}")
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        if (headers.get("sec-websocket-accept") != accept or headers.get("sec-websocket-protocol") != PROTOCOL
                or headers.get("upgrade", "").lower() != "websocket" or "sec-websocket-extensions" in headers):
            raise ProtocolError("the handshake's answer is wrong")

    def _fill(self, deadline: float) -> None:
        """Read some more bytes before the deadline."""
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise
        except OSError as problem:
            self.socket.close()
            raise Closed(reason=str(problem)) from problem
        if not data:
            self.socket.close()
            raise Closed(reason="the connection just ended")
        self.heard = time.monotonic()
        self.buffer += data

    def _take_frame(self) -> Optional[tuple[bool, int, bytes]]:
        """Take one whole frame (final, opcode, payload) from the buffer, if it is there."""
        data = self.buffer
        if len(data) < 2:
            return None
        if data[0] & 0x70 or data[1] & 0x80:
            raise ProtocolError("a frame has reserved bits or a mask")
        start, size = 2, data[1] & 0x7F
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        frame = bool(data[0] & 0x80), data[0] & 0x0F, bytes(data[start:start + size])
        del data[:start + size]
        return frame

    def send(self, payload: bytes, opcode: int = 1, final: bool = True) -> None:
        """Send one frame: masked, as a client must."""
        size, mask = len(payload), os.urandom(4)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")).to_bytes(size, "big")
        try:
            self.socket.settimeout(self.timeout)
            self.socket.sendall(bytes([opcode | (0x80 if final else 0)]) + length + mask + masked)
        except OSError as problem:  # a time-out too: half a frame may be out, nothing can follow it
            raise Closed(reason=str(problem)) from problem

    def receive(self, timeout: float) -> str:
        """Wait for the next text message."""
        deadline = time.monotonic() + timeout
        while True:
            while (frame := self._take_frame()) is None:
                try:
                    self._fill(deadline)
                except TimeoutError:
                    if time.monotonic() - self.heard > SILENCE_SECONDS:
                        raise Closed(reason="the line is silent") from None
                    raise
            final, opcode, payload = frame
            if opcode == 9:
                self.send(payload, 10)
            elif opcode == 8:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                self.close(payload[:2])
                raise Closed(code, payload[2:].decode("utf-8", "replace"))
            elif opcode in (0, 1):
                if (opcode == 0) is not self.text_under_way:
                    raise ProtocolError("a fragment is out of place")
                self.fragments += payload
                self.text_under_way = not final
                if final:
                    text, self.fragments = self.fragments, bytearray()
                    return text.decode()
            elif opcode != 10:
                raise ProtocolError(f"a frame has the opcode {opcode}")

    def close(self, payload: bytes = struct.pack("!H", 1000)) -> None:
        try:
            self.send(payload, 8)
        except Closed:
            pass  # it has ended already
        self.socket.close()

    def cut(self) -> None:
        """End the TCP connection with a reset and without a close frame, as a lost network would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Session:
    """One WebSocket after `hello`. Answers are kept by `ref` until somebody asks for them, all other frames in order."""

    def __init__(self, base: str, token: Optional[str], positions: dict[str, Optional[str]], timeout: float = 10.0):
        self.timeout, self.next_ref = timeout, 1
        self.frames: deque[Any] = deque()
        self.answers: dict[int, Any] = {}
        self.bye: Optional[Bye] = None
        self.line = WebSocket(base, timeout)
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
    needs_snapshot: bool = False  # after a reset: events wait until the snapshot is there
    seen: dict[str, int] = field(default_factory=dict)      # by conversation, the n of the last event
    counted: dict[str, int] = field(default_factory=dict)   # by conversation, the n of the snapshot
    messages: dict[str, Message] = field(default_factory=dict)
    waiting: list[Event] = field(default_factory=list)

    def take_snapshot(self, summary: RoomSummary) -> list[Event]:
        """Begin with a snapshot; the events that waited for it are merged, those that are new are returned."""
        waiting, after_reset = self.waiting, self.needs_snapshot
        if not after_reset:  # after a reset the session's own position stays; without one the snapshot's is the start
            self.position = summary.position
        self.needs_snapshot, self.waiting, self.seen = False, [], {}
        self.counted = {one.conversation: one.n for one in summary.conversations}
        # Older messages may have changed without the snapshot saying so: only what it holds is known to be current.
        self.messages = {one.last.id: one.last for one in summary.conversations if one.last}
        return [event for event in waiting if self.take(event)]

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
        return {room.room: room.position for room in self.rooms.values()}

    def take(self, frame: Any) -> bool:
        """Take in a frame; true if it was an event that is new."""
        if isinstance(frame, Welcome):
            self.rooms = {place.room: self.rooms.get(place.room) or Room(place.room) for place in frame.rooms}
            for place in frame.rooms:
                room = self.rooms[place.room]
                room.position, room.caught_up, room.waiting = place.position, False, []  # what waited is told again
        elif isinstance(frame, Joined):
            self.rooms[frame.room.room] = Room(frame.room.room, frame.room.position)
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
