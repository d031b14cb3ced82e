/** Half-written texts, kept on the device by conversation, so that neither a reload nor another page costs a word. */
import type { ConversationId } from '../protocol';

const PREFIX = 'draft ';

/** Some private windows have no storage: then a draft lives as long as the page. */
function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

export function draftOf(conversation: ConversationId): string {
  return storage()?.getItem(PREFIX + conversation) ?? '';
}

export function keepDraft(conversation: ConversationId, text: string): void {
  try {
    if (text) storage()?.setItem(PREFIX + conversation, text);
    else storage()?.removeItem(PREFIX + conversation);
  } catch {
    // Full: the draft lives as long as the page.
  }
}

/** Forgets all: somebody signed out. */
export function dropDrafts(): void {
  const kept = storage();
  if (!kept) return;
  for (const key of Object.keys(kept)) if (key.startsWith(PREFIX)) kept.removeItem(key);
}
