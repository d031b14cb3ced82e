/**
 * Where something is written.
 *
 * Owns: the draft, its length, and the keys. Refuses to know: where the text goes.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { store } from '../page';
import { languageName, t } from '../i18n';
import { Icon } from '../ui/Icon';
import { draftOf, keepDraft } from './drafts';

/** As the server announces it in `welcome`; before the first one, this. */
const LONGEST = 8_000;
/** A sign of writing is sent at most so often. */
const TYPING_EVERY_MS = 3_000;

interface Props {
  /** Under what the draft is kept. */
  draftKey: string;
  /** A text to begin with, instead of the kept draft: a message that is edited. */
  initial?: string | undefined;
  label: string;
  action: string;
  /** Above the field: whom it goes to. */
  above?: ComponentChildren;
  /** Beside the button. */
  beside?: ComponentChildren;
  wide?: boolean;
  submit: (text: string) => void;
  cancel?: (() => void) | undefined;
  writing?: (() => void) | undefined;
}

export function Composer({ draftKey, initial, label, action, above, beside, wide = false, submit, cancel, writing }: Props) {
  const [text, setText] = useState(initial ?? draftOf(draftKey));
  const field = useRef<HTMLTextAreaElement>(null);
  const told = useRef(0);
  const language = store.you.value?.language ?? 'en';
  const longest = store.limits.value?.text_characters ?? LONGEST;
  const left = longest - [...text].length;
  const ready = text.trim() !== '' && left >= 0;

  useEffect(() => {
    if (initial !== undefined) field.current?.focus();
  }, [initial]);
  // The field is as high as its text, up to what the style sheet allows.
  useLayoutEffect(() => {
    const area = field.current;
    // Where the style sheet can do it, nothing is measured here: that lays the whole page out.
    if (!area || CSS.supports('field-sizing', 'content')) return;
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight + 2}px`;
  }, [text]);

  const change = (value: string) => {
    setText(value);
    if (initial === undefined) keepDraft(draftKey, value);
    if (value && writing && Date.now() - told.current > TYPING_EVERY_MS) {
      told.current = Date.now();
      writing();
    }
  };
  const send = () => {
    // From the field and not from the last drawing: the last letter may be newer than that.
    const area = field.current;
    const written = (area?.value ?? '').trim();
    if (!area || written === '' || [...written].length > longest) return;
    // At once and not with the next drawing: a second tap may come before that, and would send it again.
    area.value = '';
    submit(written);
    setText('');
    keepDraft(draftKey, '');
    area.focus();
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === 'Escape' && cancel) cancel();
    // On a keyboard Enter sends; on glass it makes a new line, and there is a button. Not while a word is being composed.
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !wide && matchMedia('(pointer: fine)').matches) {
      event.preventDefault();
      send();
    }
  };

  return (
    <form class={`composer${wide ? ' wide' : ''}`} onSubmit={(event) => { event.preventDefault(); send(); }}>
      {above}
      <div class="composer-line">
        <textarea ref={field} class="field" rows={wide ? 2 : 1} value={text} aria-label={label}
          placeholder={t.write(languageName(language))} lang={language} dir="auto"
          aria-invalid={left < 0} onInput={(event) => change(event.currentTarget.value)} onKeyDown={keys} />
        {!wide && (
          <button class="send" disabled={!ready} aria-label={action}><Icon name="send" /></button>
        )}
      </div>
      {left < 500 && <p class={left < 0 ? 'form-error' : 'small'} role="status">{t.charactersLeft(left)}</p>}
      {(wide || cancel) && (
        <div class="composer-foot">
          {beside}
          {cancel && <button type="button" class="button quiet" onClick={cancel}>{t.cancel}</button>}
          {wide && <button class="button primary" disabled={!ready}>{action}</button>}
        </div>
      )}
    </form>
  );
}
