/**
 * The ways in: a link from the school, or the name and code of an invitation.
 *
 * Owns: the two forms and what can go wrong with them. Refuses to know: what is behind them.
 *
 * Opening a link only shows a button: mail scanners open links too, and must not use them up.
 */
import { useRef, useState } from 'preact/hooks';
import { NoAnswer, Refused, call } from '../connection/http';
import * as wire from '../connection/wire';
import { t } from '../i18n';
import type { SignInWithCode, SignInWithLink } from '../protocol';
import { Icon } from '../ui/Icon';

type Attempt = { state: 'idle' } | { state: 'busy' } | { state: 'failed'; refused: boolean; message: string };

function useAttempt(path: string, entered: () => void, otherwise?: () => Promise<void>) {
  const [attempt, setAttempt] = useState<Attempt>({ state: 'idle' });
  // A second tap may come before the button is drawn as busy, and a link is good for one use.
  const busy = useRef(false);
  const submit = async (body: SignInWithLink | SignInWithCode) => {
    if (busy.current) return;
    busy.current = true;
    setAttempt({ state: 'busy' });
    try {
      await call('POST', path, wire.signedIn, body);
      entered();
    } catch (error) {
      if (!(error instanceof Refused) && !(error instanceof NoAnswer)) console.error(error);
      const refused = error instanceof Refused;
      if (refused && otherwise) {
        try {
          return await otherwise();
        } catch {
          // Then the refusal stands, and says why.
        }
      }
      busy.current = false;
      setAttempt({ state: 'failed', refused: refused && !error.fault.retryable, message: refused ? error.message : t.noAnswer });
    }
  };
  return { attempt, submit, fail: (message: string) => setAttempt({ state: 'failed', refused: true, message }) };
}

function Failure({ attempt }: { attempt: Attempt }) {
  return (
    <div role="alert">
      {attempt.state === 'failed' && <p class="form-error"><Icon name="failed" /> <span>{attempt.message}</span></p>}
    </div>
  );
}

function Mark() {
  return (
    <svg class="brand" viewBox="0 0 64 64" width="64" height="64" aria-hidden="true">
      <rect class="brand-field" x="2" y="2" width="60" height="60" rx="16" />
      <path class="brand-line" d="M14 31L32 16l18 15v17H14z" />
      <path class="brand-fill" d="M22 33h20v9H31l-5 4v-4h-4z" />
    </svg>
  );
}

interface LinkProps {
  secret: string;
  /** Signed in by the link. */
  entered: () => void;
  /** The link is used up, but this device is signed in already. */
  back: () => void;
  useCode: () => void;
}

/** `/i/SECRET`: a welcome that does not say for whom, and one button. */
export function LinkPage({ secret, entered, back, useCode }: LinkProps) {
  const { attempt, submit } = useAttempt('sign-in/link', entered, async () => {
    // People keep the message with their link, and tap it again: on a device that is signed in that just opens the page.
    await call('GET', 'me', wire.me);
    back();
  });
  const over = attempt.state === 'failed' && attempt.refused;
  return (
    <main class="door">
      <Mark />
      <h1>{over ? t.linkRefused : t.welcome}</h1>
      {over ? (
        <>
          <p role="alert">{attempt.message}</p>
          <button type="button" class="button wide" key="code" onClick={useCode}>{t.useCode}</button>
        </>
      ) : (
        <>
          <p>{t.welcomeHint}</p>
          <Failure attempt={attempt} />
          <button type="button" class="button primary wide" key="open" disabled={attempt.state === 'busy'}
            onClick={() => void submit({ secret, keep: 'cookie' })}>
            {attempt.state === 'busy' ? t.opening : t.openHomeroom}
          </button>
          <p class="small">{t.linkOnce}</p>
          <p class="small">{t.linkNotYours}</p>
        </>
      )}
    </main>
  );
}

/** Name and code. */
export function CodePage({ entered, said }: { entered: () => void; said?: string | undefined }) {
  const { attempt, submit, fail } = useAttempt('sign-in/code', entered);
  const [name, setName] = useState('');
  const [code, setCode] = useState('');
  const send = (event: Event) => {
    event.preventDefault();
    // From the fields and not from the last drawing: the last letter may be newer than that.
    const given = new FormData(event.currentTarget as HTMLFormElement);
    const written = (field: string) => String(given.get(field) ?? '').trim();
    if (!written('name') || !written('code')) fail(t.signInBoth);
    else void submit({ name: written('name'), code: written('code'), keep: 'cookie' });
  };
  const invalid = attempt.state === 'failed';
  return (
    <main class="door">
      <Mark />
      <h1>{t.homeroom}</h1>
      {said && <p role="status" class="said">{said}</p>}
      <p>{t.signInHint}</p>
      <form onSubmit={send} noValidate>
        <label for="name">{t.signInName}</label>
        <input id="name" name="name" class="field" value={name} onInput={(event) => setName(event.currentTarget.value)}
          autocomplete="username" autocapitalize="none" autocorrect="off" spellcheck={false} aria-invalid={invalid} />
        <label for="code">{t.signInCode}</label>
        <input id="code" name="code" class="field code" value={code} onInput={(event) => setCode(event.currentTarget.value)}
          autocomplete="one-time-code" autocapitalize="characters" autocorrect="off" spellcheck={false} maxLength={20}
          aria-describedby="code-hint" aria-invalid={invalid} />
        <p id="code-hint" class="small">{t.signInCodeHint}</p>
        <Failure attempt={attempt} />
        <button class="button primary wide" disabled={attempt.state === 'busy'}>
          {attempt.state === 'busy' ? t.signingIn : t.signIn}
        </button>
      </form>
      <p class="small">{t.noInvitation}</p>
    </main>
  );
}
