/** Who is writing where. Owns: when a sign of writing is over. Refuses to know: how it comes and how it looks. */
import { signal } from '@preact/signals';
import type { ConversationId, PersonId } from '../protocol';

/** A writer is shown for so long after the last sign of them. */
const TYPING_MS = 6_000;

export class Typing {
  readonly now = signal<ReadonlyMap<ConversationId, { person: PersonId; until: number }>>(new Map());

  /** A sign that somebody writes. */
  seen(conversation: ConversationId, person: PersonId): void {
    const until = Date.now() + TYPING_MS;
    this.now.value = new Map(this.now.value).set(conversation, { person, until });
    setTimeout(() => {
      if (this.now.value.get(conversation)?.until === until) this.stopped(conversation, person);
    }, TYPING_MS);
  }

  /** They have said it, or gave up. */
  stopped(conversation: ConversationId, person: PersonId): void {
    if (this.now.value.get(conversation)?.person !== person) return;
    const now = new Map(this.now.value);
    now.delete(conversation);
    this.now.value = now;
  }

  /** Whoever was shown it is not there any more. */
  clear(): void {
    this.now.value = new Map();
  }
}
