/** Settings: the person's language, and signing out. */
import { useState } from 'preact/hooks';
import { HOME, store } from '../page';
import { OFFERED, ownName, t } from '../i18n';
import type { Language } from '../protocol';
import { Icon } from '../ui/Icon';

export function Settings({ leave }: { leave: () => void }) {
  const you = store.you.value;
  const [kept, setKept] = useState<'' | 'kept' | 'failed'>('');
  const [leaving, setLeaving] = useState<'' | 'busy' | 'failed'>('');
  if (!you) return null;
  const unsent = store.outbox.pending.value.filter((item) => item.state !== 'sent').length;
  const languages = OFFERED.includes(you.language) ? OFFERED : [you.language, ...OFFERED];

  const choose = async (language: Language) => {
    setKept('');
    try {
      await store.speak(language);
      setKept('kept');
    } catch {
      setKept('failed');
    }
  };
  const signOut = async () => {
    setLeaving('busy');
    try {
      await store.signOut();
    } catch {
      return setLeaving('failed');
    }
    leave();
  };

  return (
    <main class="page">
      <header class="pane-head">
        <a class="icon-button" href={HOME} aria-label={t.back}><Icon name="back" /></a>
        <h1 class="pane-title">{t.settings}</h1>
      </header>
      <div class="page-body">
        <section class="card padded">
          <p class="soft">{t.signedInAs}</p>
          <p class="strong">{you.name}</p>
        </section>
        <section class="card padded">
          <label for="language" class="strong">{t.language}</label>
          <p class="soft" id="language-hint">{t.languageHint}</p>
          <select id="language" class="field" aria-describedby="language-hint" value={you.language}
            onChange={(event) => void choose(event.currentTarget.value)}>
            {languages.map((tag) => <option value={tag} lang={tag} key={tag}>{ownName(tag)}</option>)}
          </select>
          <p role="status" class={kept === 'failed' ? 'form-error' : 'form-good'}>
            {kept === 'kept' ? t.languageKept : kept === 'failed' ? t.languageFailed : ''}
          </p>
        </section>
        <section class="card padded">
          <button type="button" class="button danger wide" disabled={leaving === 'busy'} onClick={() => void signOut()}>{t.signOut}</button>
          <p class="soft">{t.signOutHint}</p>
          {unsent > 0 && <p class="form-error"><Icon name="failed" /> <span>{t.signOutUnsent(unsent)}</span></p>}
          <p role="alert" class="form-error">{leaving === 'failed' ? t.signOutFailed : ''}</p>
        </section>
      </div>
    </main>
  );
}
