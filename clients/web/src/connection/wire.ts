/**
 * What the server says, checked at the edge: frames of the socket and bodies of the HTTP API.
 *
 * Owns: the only JSON.parse for the server's words. Refuses to know: what to do about them.
 *
 * The types come from the server's own source (`src/protocol/`); the readers here are typed by them, so that a field
 * that is added there does not compile here until it is read. `protocol/fixtures/` holds the two together.
 */
import type {
  About, Address, ConversationSummary, Envelope, Event, Family, Fault, Guardian, HistoryPage, Home, Limits, Mark,
  Message, Person, ProtectedSpan, Reach, ReachedGuardian, Role, RoomDetail, RoomPosition, RoomSummary, ServerFrame, SignedIn,
  Translation, You,
} from '../protocol';
import { type Reader, either, fieldsOf, list, map, nullable, number, object, oneOf, optional, text, truth } from './read';

const role = oneOf('staff', 'guardian', 'unknown');
const span = object<ProtectedSpan>({ start: number, end: number, kind: oneOf('name', 'date', 'number', 'link', 'unknown') });
const translation = object<Translation>({
  text, engine: text, at: text, checks: either(list(text), []), review: either(nullable(text), null),
});
const envelope = object<Envelope>({
  language: text,
  direction: oneOf('ltr', 'rtl'),
  text,
  protected: either(list(span), []),
  translations: either(map(translation), {}),
});
const message = object<Message>({
  id: text,
  n: number,
  author: text,
  client_id: text,
  at: text,
  urgent: either(truth, false),
  envelope: optional(envelope),
  edited_at: optional(text),
  retracted_at: optional(text),
});
const about = object<About>({ guardian: text, student: text });
const address: Reader<Address> = (value, at) => {
  const kind = oneOf('announcements', 'private')(fieldsOf(value, at).kind, `${at}.kind`);
  return kind === 'announcements' ? { kind } : { kind, ...about(value, at) };
};
const markFields = { person: text, delivered: number, read: number };
const mark = object<Mark>(markFields);
const you = object<You>({ person: text, name: text, language: text });
const faultFields = {
  code: oneOf(
    'malformed', 'unknown_type', 'invalid', 'too_long', 'unauthenticated', 'forbidden', 'not_found', 'conflict',
    'out_of_turn', 'ref_in_use', 'rate_limited', 'unavailable', 'unknown',
  ),
  message: text,
  retryable: truth,
  retry_after_ms: optional(number),
};
const position = object<RoomPosition>({ room: text, title: text, role, position: nullable(text) });
const limits = object<Limits>({
  frame_bytes: number, text_characters: number, commands_per_second: number, command_burst: number, history_page: number,
});

type EventHead = Omit<Event, 'kind'>;
const head = object<EventHead>({
  room: text, id: text, conversation: optional(text), about: optional(about), n: optional(number), at: text,
});
const member = object<{ person: string; role: Role; student?: string }>({
  person: text, role, student: optional(text),
});

function event(value: unknown): Event {
  const kind = oneOf(
    'posted', 'edited', 'retracted', 'withheld', 'member_joined', 'member_left', 'unknown',
  )(fieldsOf(value).kind, 'kind');
  switch (kind) {
    case 'posted':
    case 'edited':
    case 'retracted':
      return { ...head(value), kind, message: message(fieldsOf(value).message, 'message') };
    case 'member_joined':
    case 'member_left':
      return { ...head(value), kind, ...member(value) };
    case 'withheld':
    case 'unknown':
      return { ...head(value), kind };
  }
}

type Type = ServerFrame['type'];
type Body<T extends Type> = Omit<Extract<ServerFrame, { type: T }>, 'type'>;
const typed =
  <T extends Type>(type: T, body: Reader<Body<T>>): Reader<ServerFrame> =>
  (value) => ({ type, ...body(value) }) as ServerFrame;

const frames: { [T in Type]: Reader<ServerFrame> } = {
  welcome: typed('welcome', object<Body<'welcome'>>({ session: text, you, rooms: list(position), limits })),
  event: (value) => ({ type: 'event', ...event(value) }),
  caught_up: typed('caught_up', object<Body<'caught_up'>>({ room: text })),
  reset: typed('reset', object<Body<'reset'>>({
    room: text,
    position: nullable(text),
    reason: oneOf('unknown_position', 'too_far_behind', 'rights_changed', 'unknown'),
  })),
  joined: typed('joined', object<Body<'joined'>>({ room: position })),
  left: typed('left', object<Body<'left'>>({ room: text })),
  ack: typed('ack', object<Body<'ack'>>({ ref: number, id: optional(text), n: optional(number) })),
  page: typed('page', object<Body<'page'>>({
    ref: number, room: text, conversation: text, messages: list(message), more: truth,
  })),
  mark: typed('mark', object<Body<'mark'>>({ room: text, conversation: text, ...markFields })),
  typing: typed('typing', object<Body<'typing'>>({ room: text, conversation: text, person: text })),
  error: typed('error', object<Body<'error'>>({ ref: optional(number), ...faultFields })),
  bye: typed('bye', object<Body<'bye'>>({
    reason: oneOf('draining', 'signed_out', 'unknown'), reconnect_after_ms: number,
  })),
  unknown: () => ({ type: 'unknown' }),
};

/** Reads a frame. One of a type that this version does not know becomes `unknown`; throws when it is no frame at all. */
export function readFrame(json: string): ServerFrame {
  const value: unknown = JSON.parse(json);
  const type = text(fieldsOf(value).type, 'type');
  const read = Object.hasOwn(frames, type) ? frames[type as Type] : frames.unknown;
  return read(value);
}

const person = object<Person>({ person: text, name: text });
const conversationSummary = object<ConversationSummary>({
  conversation: text, address, n: number, unread: number, mine: mark, others: list(mark), last: optional(message),
});
const roomSummary = object<RoomSummary>({
  room: text,
  kind: oneOf('class', 'school', 'unknown'),
  title: text,
  school: text,
  role,
  students: list(person),
  conversations: list(conversationSummary),
  position: nullable(text),
});
const guardian = object<Guardian>({ person: text, name: text, language: text, reachable: truth, conversation: text });
const family = object<Family>({ student: person, guardians: list(guardian) });

/** `GET home`. */
export const home = object<Home>({ you, rooms: list(roomSummary) });
/** `GET rooms/{room}`. */
export const roomDetail = object<RoomDetail>({ summary: roomSummary, staff: list(person), families: list(family) });
/** `GET rooms/{room}/conversations/{conversation}/messages`. */
export const historyPage = object<HistoryPage>({ messages: list(message), more: truth });
/** `GET rooms/{room}/messages/{message}/reach`. */
export const reach = object<Reach>({
  message: text,
  guardians: list(object<ReachedGuardian>({
    about, guardian_name: text, student_name: text, delivered: truth, read: truth,
  })),
});
/** `POST sign-in/link` and `POST sign-in/code`. */
export const signedIn = object<SignedIn>({ you, token: optional(text), expires_at: text });
/** `GET me` and `PATCH me`. */
export const me = you;
/** The body of a refusal. */
export const fault = object<Fault>(faultFields);
