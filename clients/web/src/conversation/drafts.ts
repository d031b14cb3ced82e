/** Half-written texts, kept on the device by conversation, so that neither a reload nor another page costs a word. */
import type { ConversationId } from '../protocol';

const PREFIX = 'draft ';
/** Writing to the device waits for a pause of so long: it would be done for each letter. */
const SETTLED_MS = 300;

/** What has not been written to the device yet. */
const fresh = new Map<ConversationId, string>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Some private windows have no storage: then a draft lives as long as the page. */
function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

export function draftOf(conversation: ConversationId): string {
  return fresh.get(conversation) ?? storage()?.getItem(PREFIX + conversation) ?? '';
}

export function keepDraft(conversation: ConversationId, text: string): void {
  fresh.set(conversation, text);
  clearTimeout(timer);
  timer = setTimeout(write, SETTLED_MS);
}

function write(): void {
  clearTimeout(timer);
  try {
    for (const [conversation, text] of fresh) {
      if (text) storage()?.setItem(PREFIX + conversation, text);
      else storage()?.removeItem(PREFIX + conversation);
    }
  } catch {
    // Full: the draft lives as long as the page.
    return;
  }
  fresh.clear();
}

/** Forgets all: somebody signed out. */
export function dropDrafts(): void {
  fresh.clear();
  const kept = storage();
  if (!kept) return;
  for (const key of Object.keys(kept)) if (key.startsWith(PREFIX)) kept.removeItem(key);
}

// A page that is put away may never come back.
addEventListener('pagehide', write);
document.addEventListener('visibilitychange', write);
