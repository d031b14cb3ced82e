/** Under an announcement, for staff: how many it has reached, filling live, and by name who is missing and what to do. */
import { useEffect, useState } from 'preact/hooks';
import { store } from '../page';
import { t } from '../i18n';
import type { Message, ReachedGuardian } from '../protocol';
import type { Room } from '../store/room';
import { fetchReach, grouped, reports } from './reach';

interface Props {
  room: Room;
  message: Message;
  own: boolean;
  /** Whether to fetch the report unasked: the newest few. */
  unasked: boolean;
}

export function ReachLine({ room, message, own, unasked }: Props) {
  const [open, setOpen] = useState(false);
  const live = store.line.value === 'live';
  // Marks that came while the line was lost are in nobody's frames: ask again when it is back.
  useEffect(() => {
    if (live && (unasked || reports.peek().has(message.id))) void fetchReach(room.id, message.id, message.n, true);
  }, [room.id, message.id, live, unasked]);
  const report = reports.value.get(message.id);
  if (!report && !unasked) {
    return (
      <p class={`reach-wait ${own ? 'own' : ''}`}>
        <button type="button" class="button quiet" onClick={() => void fetchReach(room.id, message.id, message.n)}>{t.reachAsk}</button>
      </p>
    );
  }
  if (!report || report.state === 'loading') return <p class={`reach-wait ${own ? 'own' : ''}`}>{live ? t.reachLoading : ''}</p>;
  if (report.state === 'failed') {
    return (
      <p class="reach-wait">
        {t.reachFailed}{' '}
        <button type="button" class="button quiet" onClick={() => void fetchReach(room.id, message.id, message.n)}>{t.tryAgain}</button>
      </p>
    );
  }
  const { not, delivered, read } = grouped(report.reach);
  const all = report.reach.guardians.length;
  if (all === 0) return <p class="reach-wait">{t.nobodyYet}</p>;
  const reachable = (line: ReachedGuardian) =>
    room.families.some(({ guardians }) => guardians.some(({ person, reachable }) => person === line.about.guardian && reachable));
  const strangers = not.filter((line) => !reachable(line));
  const others = not.filter(reachable);
  const share = (n: number) => (100 * n) / all;
  return (
    <div class={`reach ${own ? 'own' : 'their'}`}>
      <button type="button" class="reach-line" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class="reach-words">{t.reachLine(delivered.length + read.length, read.length, all)}</span>
        <svg class="reach-bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
          <rect class="bar-all" width="100" height="6" />
          <rect class="bar-delivered" width={share(delivered.length + read.length)} height="6" />
          <rect class="bar-read" width={share(read.length)} height="6" />
        </svg>
        <span class="link-word">{open ? t.hide : t.see}</span>
      </button>
      {open && (
        <div class="reach-names">
          {not.length === 0 && <p>{t.everybodyReached}</p>}
          <Group title={t.neverSignedIn(strangers.length)} advice={t.neverSignedInAdvice} lines={strangers} />
          <Group title={t.notReachedYet(others.length)} advice={t.notReachedAdvice} lines={others} />
          <Group title={t.reachedNotRead(delivered.length)} lines={delivered} />
          <Group title={t.haveRead(read.length)} lines={read} />
        </div>
      )}
    </div>
  );
}

function Group({ title, advice, lines }: { title: string; advice?: string; lines: ReachedGuardian[] }) {
  if (lines.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      {advice && <p>{advice}</p>}
      <ul>
        {lines.map((line) => (
          <li key={`${line.about.guardian} ${line.about.student}`}>{t.guardianOf(line.guardian_name, line.student_name)}</li>
        ))}
      </ul>
    </section>
  );
}
