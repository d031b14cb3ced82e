/**
 * Fetching the pages before what is held of a conversation.
 *
 * Owns: one page at a time, and whether one could not be fetched. Refuses to know: when somebody wants one.
 */
import { batch, signal } from '@preact/signals';
import type { ConversationId, Event, Message } from '../protocol';
import { call } from '../connection/http';
import * as wire from '../connection/wire';
import { type Conversation, withPage } from './conversation';

const PAGE = 50;

/** What it needs. */
export interface Shelf {
  conversation(id: ConversationId): Conversation | undefined;
  put(conversation: Conversation): void;
  failed(error: unknown): void;
}

/** A page that is on its way. One that is no longer the conversation's when it comes is for nobody. */
interface Fetch {
  over: Promise<unknown>;
  /** What events said meanwhile of the messages that may be in it, in their order. */
  later: Message[];
}

export class History {
  /** Conversations whose older messages are being fetched, or could not be. */
  readonly state = signal<ReadonlyMap<ConversationId, 'loading' | 'failed'>>(new Map());
  readonly #underWay = new Map<ConversationId, Fetch>();

  constructor(readonly shelf: Shelf) {}

  /** Fetches the page before what is held. Whoever asks while it is on its way waits for the same one. Gives what went wrong. */
  older(id: ConversationId, limit = PAGE): Promise<unknown> {
    const underWay = this.#underWay.get(id);
    if (underWay) return underWay.over;
    const held = this.shelf.conversation(id);
    if (!held?.more) return Promise.resolve(null);
    const fetch: Fetch = { over: Promise.resolve(null), later: [] };
    this.#underWay.set(id, fetch);
    this.#note(id, 'loading');
    fetch.over = this.#fetch(fetch, held, limit);
    return fetch.over;
  }

  /** What could not be fetched may be asked for again. */
  retry(): void {
    this.state.value = new Map([...this.state.value].filter(([, state]) => state === 'loading'));
  }

  /** An event came: what it says of a message whose page is on its way is newer than the page may be. */
  heard(event: Event): void {
    if (event.conversation && 'message' in event) this.#underWay.get(event.conversation)?.later.push(event.message);
  }

  /** The conversation is forgotten: what was asked for may be of another one by now, under the same id. */
  forget(id: ConversationId): void {
    this.#underWay.delete(id);
    this.#note(id, null);
  }

  /** What was asked for is for nobody any more: somebody signed out. */
  clear(): void {
    this.#underWay.clear();
    this.state.value = new Map();
  }

  async #fetch(fetch: Fetch, { id, room, from }: Conversation, limit: number): Promise<unknown> {
    const wanted = () => this.#underWay.get(id) === fetch;
    const settle = (state: 'failed' | null) => {
      this.#underWay.delete(id);
      this.#note(id, state);
    };
    try {
      const page = await call('GET', `rooms/${room}/conversations/${id}/messages?before=${from}&limit=${limit}`, wire.historyPage);
      if (!wanted()) return null;
      batch(() => {
        const now = this.shelf.conversation(id);
        if (now) this.shelf.put(withPage(now, from, page.messages, page.more, fetch.later));
        settle(null);
      });
      return null;
    } catch (error) {
      if (!wanted()) return null;
      settle('failed');
      this.shelf.failed(error);
      return error;
    }
  }

  #note(id: ConversationId, state: 'loading' | 'failed' | null): void {
    const next = new Map(this.state.value);
    if (state) next.set(id, state);
    else next.delete(id);
    this.state.value = next;
  }
}
