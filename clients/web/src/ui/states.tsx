/**
 * The states that every list has besides full: loading, empty, error, offline.
 *
 * Owns: how they look alike everywhere. Refuses to know: what the lists hold.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { store } from '../page';
import { t } from '../i18n';
import { Icon } from './Icon';

/** Sooner than this nothing is shown to be loading: a flash explains less than a short nothing. */
const PATIENCE_MS = 200;
/** A line that is back sooner than this was never missed. */
const OFFLINE_AFTER_MS = 1_500;

/** Whether `on` has been true for `ms` without a break. */
export function useLasting(on: boolean, ms: number): boolean {
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    setLasting(false);
    if (!on) return;
    const timer = setTimeout(() => setLasting(true), ms);
    return () => clearTimeout(timer);
  }, [on, ms]);
  return on && lasting;
}

/** Grey shapes of what will be here. */
export function Skeleton({ rows = 4 }: { rows?: number }) {
  const shown = useLasting(true, PATIENCE_MS);
  if (!shown) return null;
  return (
    <div class="skeleton" role="status">
      <span class="visually-hidden">{t.loading}</span>
      {Array.from({ length: rows }, (_, i) => (
        <div class="skeleton-row" key={i} aria-hidden="true">
          <span class="skeleton-circle" />
          <span class="skeleton-lines">
            <span class="skeleton-line" />
            <span class="skeleton-line short" />
          </span>
        </div>
      ))}
    </div>
  );
}

/** Nothing here yet, and what will be. */
export function Empty({ title, children }: { title?: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      {title && <p class="empty-title">{title}</p>}
      {children && <p>{children}</p>}
    </div>
  );
}

/** Something went wrong, and a way on. */
export function Trouble({ title, children, retry }: { title: string; children?: ComponentChildren; retry?: () => void }) {
  return (
    <div class="trouble" role="alert">
      <p class="empty-title">
        <Icon name="failed" /> {title}
      </p>
      {children && <p>{children}</p>}
      {retry && (
        <button type="button" class="button" onClick={retry}>
          {t.tryAgain}
        </button>
      )}
    </div>
  );
}

/** Says that there is no connection, and that nothing is lost. */
export function Banner() {
  const away = useLasting(store.line.value === 'away', OFFLINE_AFTER_MS);
  const waiting = store.outbox.pending.value.filter((item) => item.state === 'waiting').length;
  return (
    <div class="banner-place" role="status">
      {away && (
        <p class="banner">
          <Icon name="offline" />
          <span>{waiting > 0 ? t.offlineWaiting(waiting) : t.offline}</span>
          <button type="button" class="button quiet" onClick={() => store.connection.hurry()}>
            {t.tryNow}
          </button>
        </p>
      )}
    </div>
  );
}
