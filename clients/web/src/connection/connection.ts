/**
 * One WebSocket to the server, made again whenever it is lost.
 *
 * Owns: hello, refs and their answers, coming back (backoff with full jitter, `bye`, close codes), giving up on a dead
 * line. Refuses to know: rooms, messages and pages on the screen.
 */
import { signal } from '@preact/signals';
import type { ClientFrame, EventId, RoomId, ServerFrame } from '../protocol';
import { backoff, mayReturn } from './backoff';
import { readFrame } from './wire';

/** `live`: signed in, events flow. `away`: not connected, trying again by itself. `stopped`: must sign in again. */
export type Line = 'connecting' | 'live' | 'away' | 'stopped';

type Command = Exclude<ClientFrame, { type: 'hello' }>;
/** A command without its ref. */
export type Unsent = Command extends infer C ? (C extends Command ? Omit<C, 'ref'> : never) : never;
export type Answer = Extract<ServerFrame, { type: 'ack' | 'page' }>;

/** The server refused the command. */
export class CommandRefused extends Error {
  constructor(readonly fault: Extract<ServerFrame, { type: 'error' }>) {
    super(fault.message);
    this.name = 'CommandRefused';
  }
}

/** The line was lost before the answer came: whether the command was done is not known. */
export class LineLost extends Error {
  constructor() {
    super('the line was lost');
    this.name = 'LineLost';
  }
}

/** What the connection needs from the rest of the app. */
export interface Wishes {
  /** Before each try: what must be known first. Throws `Stop` when there is no use in trying. */
  prepare(): Promise<Record<RoomId, EventId | null>>;
  /** Each frame but answers to commands, in order. */
  frame(frame: ServerFrame): void;
  /** The server says that this sign-in is over. */
  signedOut(): void;
}

/** Thrown by `prepare`: do not try again. */
export class Stop extends Error {}

/** What the browser gives; tests give their own. */
export interface Surroundings {
  open(): WebSocket;
  random(): number;
}

/** No answer to a command for so long: the line is dead, whatever the browser thinks. */
const ANSWER_MS = 10_000;
/** Connecting may take longer, with several round trips on a slow network. */
const WELCOME_MS = 20_000;
/** A session that lived for so long counts as a success; before that, backoff goes on growing. */
const SETTLED_MS = 5_000;

interface Waiting {
  resolve(answer: Answer): void;
  reject(error: Error): void;
  timer: ReturnType<typeof setTimeout>;
}

export class Connection {
  readonly line = signal<Line>('connecting');
  #socket: WebSocket | null = null;
  #waiting = new Map<number, Waiting>();
  #nextRef = 1;
  #attempt = 0;
  #welcomed = 0;
  #returnAfter: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** The try that is being prepared; whatever ends it puts nothing, or another one, in its place. */
  #opening: object | null = null;

  constructor(
    readonly wishes: Wishes,
    readonly surroundings: Surroundings = {
      open: () => new WebSocket(`${location.origin.replace(/^http/, 'ws')}/ws`, 'homeroom.v1'),
      random: Math.random,
    },
  ) {}

  /** Connects, and stays connected until `stop`. */
  start(): void {
    if (this.#socket || this.#opening) return;
    this.line.value = 'connecting';
    void this.#open();
  }

  /** Closes for good. */
  stop(): void {
    this.line.value = 'stopped';
    this.#opening = null;
    this.#drop();
  }

  /** Tries at once instead of when the backoff ends: the network is back, or somebody is looking. */
  hurry(): void {
    // While one is connecting the line is away, too: a second one beside it would live on unheard.
    if (this.line.value !== 'away' || this.#socket || this.#opening) return;
    clearTimeout(this.#timer);
    void this.#open();
  }

  /** The device says that it has no network: do not wait for a timeout to believe it. */
  lost(): void {
    if (this.#socket) this.#gone();
  }

  /** Sends a command. Rejects with `CommandRefused` or `LineLost`. */
  send(command: Unsent): Promise<Answer> {
    const socket = this.#socket;
    if (!socket || this.line.value !== 'live') return Promise.reject(new LineLost());
    const ref = this.#nextRef;
    this.#nextRef = (this.#nextRef % 0xffff_ffff) + 1;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#socket === socket && this.#gone(), ANSWER_MS);
      this.#waiting.set(ref, { resolve, reject, timer });
      socket.send(JSON.stringify({ ...command, ref }));
    });
  }

  async #open(): Promise<void> {
    if (this.#opening) return;
    const mine = (this.#opening = {});
    let positions: Record<RoomId, EventId | null>;
    try {
      positions = await this.wishes.prepare();
    } catch (error) {
      if (this.#opening !== mine) return;
      this.#opening = null;
      if (error instanceof Stop) this.#end();
      else this.#later();
      return;
    }
    if (this.#opening !== mine) return;
    this.#opening = null;
    this.#drop();
    const socket = this.surroundings.open();
    this.#socket = socket;
    this.#returnAfter = null;
    this.#timer = setTimeout(() => this.#socket === socket && this.#gone(), WELCOME_MS);
    socket.onopen = () => this.#socket === socket && socket.send(JSON.stringify({ type: 'hello', positions } satisfies ClientFrame));
    socket.onmessage = (message: MessageEvent) => this.#socket === socket && this.#hear(message.data);
    socket.onclose = (close: CloseEvent) => {
      if (this.#socket !== socket) return;
      if (mayReturn(close.code)) this.#gone();
      else this.#end();
    };
  }

  #hear(data: unknown): void {
    let frame: ServerFrame;
    try {
      frame = readFrame(String(data));
    } catch (error) {
      // A server that breaks the protocol in one frame may have broken the order too: start over from our positions.
      console.error('unreadable frame', error);
      this.#gone();
      return;
    }
    switch (frame.type) {
      case 'ack':
      case 'page':
        return this.#settle(frame.ref)?.resolve(frame);
      case 'error': {
        const waiting = frame.ref === undefined ? undefined : this.#settle(frame.ref);
        if (waiting) return waiting.reject(new CommandRefused(frame));
        return this.wishes.frame(frame);
      }
      case 'bye':
        if (frame.reason === 'signed_out') this.#end();
        else this.#returnAfter = frame.reconnect_after_ms;
        return;
      case 'welcome':
        clearTimeout(this.#timer);
        this.#welcomed = Date.now();
        // The rooms are told before anybody sends: what they hear next depends on it.
        this.wishes.frame(frame);
        // Unless it is for somebody else, and ended the line.
        if (this.#socket) this.line.value = 'live';
        return;
      default:
        return this.wishes.frame(frame);
    }
  }

  #settle(ref: number): Waiting | undefined {
    const waiting = this.#waiting.get(ref);
    if (waiting) {
      clearTimeout(waiting.timer);
      this.#waiting.delete(ref);
    }
    return waiting;
  }

  /** The line is lost: come back later. */
  #gone(): void {
    this.#drop();
    this.#later();
  }

  #later(): void {
    if (this.line.value === 'stopped') return;
    if (this.#welcomed && Date.now() - this.#welcomed > SETTLED_MS) this.#attempt = 0;
    this.#welcomed = 0;
    const wait = this.#returnAfter ?? backoff(this.#attempt, this.surroundings.random);
    this.#returnAfter = null;
    this.#attempt += 1;
    this.line.value = 'away';
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#open(), wait);
  }

  /** The server does not want this sign-in again. */
  #end(): void {
    this.stop();
    this.wishes.signedOut();
  }

  /** Lets go of the socket and of all that waits for it. */
  #drop(): void {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { timer, reject } of waiting) {
      clearTimeout(timer);
      reject(new LineLost());
    }
  }
}
