/**
 * Fetching the pages before what is held of a conversation.
 *
 * Owns: one page at a time, and whether one could not be fetched. Refuses to know: when somebody wants one.
 */
import { batch, signal } from '@preact/signals';
import type { ConversationId } from '../protocol';
import { call } from '../connection/http';
import * as wire from '../connection/wire';
import { type Conversation, withPage } from './conversation';

const PAGE = 50;

/** What it needs. */
export interface Shelf {
  conversation(id: ConversationId): Conversation | undefined;
  put(conversation: Conversation): void;
  /** Changes when somebody else signs in: what was asked for before is not for their eyes. */
  visit(): number;
  failed(error: unknown): void;
}

export class History {
  /** Conversations whose older messages are being fetched, or could not be. */
  readonly state = signal<ReadonlyMap<ConversationId, 'loading' | 'failed'>>(new Map());

  constructor(readonly shelf: Shelf) {}

  /** Fetches the page before what is held. */
  async older(id: ConversationId, limit = PAGE): Promise<void> {
    const held = this.shelf.conversation(id);
    if (!held?.more || this.state.value.get(id) === 'loading') return;
    this.#note(id, 'loading');
    const before = held.from;
    const visit = this.shelf.visit();
    const path = `rooms/${held.room}/conversations/${id}/messages?before=${before}&limit=${limit}`;
    try {
      const page = await call('GET', path, wire.historyPage);
      if (visit !== this.shelf.visit()) return;
      batch(() => {
        const now = this.shelf.conversation(id);
        if (now) this.shelf.put(withPage(now, before, page.messages, page.more));
        this.#note(id, null);
      });
    } catch (error) {
      this.#note(id, 'failed');
      this.shelf.failed(error);
    }
  }

  /** What could not be fetched may be asked for again. */
  retry(): void {
    this.state.value = new Map([...this.state.value].filter(([, state]) => state === 'loading'));
  }

  #note(id: ConversationId, state: 'loading' | 'failed' | null): void {
    const next = new Map(this.state.value);
    if (state) next.set(id, state);
    else next.delete(id);
    this.state.value = next;
  }
}
