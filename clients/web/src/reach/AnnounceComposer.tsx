/** Where staff announce: whom it reaches, the text, whether it can't wait. */
import { useState } from 'preact/hooks';
import { store } from '../page';
import { Composer } from '../conversation/Composer';
import { t } from '../i18n';
import type { Conversation } from '../store/conversation';
import type { Room } from '../store/room';
import { Facts } from '../ui/Facts';

export function AnnounceComposer({ room, conversation }: { room: Room; conversation: Conversation }) {
  const [urgent, setUrgent] = useState(false);
  const [seeing, setSeeing] = useState(false);
  const language = store.you.value?.language ?? 'en';
  const families = room.families.filter(({ guardians }) => guardians.length > 0);
  const guardians = families.flatMap((family) => family.guardians.map((guardian) => ({ guardian, student: family.student })));
  const languages = new Set(guardians.map(({ guardian }) => guardian.language)).size;
  const missing = guardians.filter(({ guardian }) => !guardian.reachable);
  return (
    <Composer draftKey={conversation.id} label={t.writeAnnouncement} action={t.announce} wide
      above={
        <div class="composer-note">
          <strong>{t.announceTo(room.title)}</strong>
          {room.detailed && room.kind === 'class' && (
            <p>
              <Facts of={[
                t.familiesCount(families.length),
                t.languagesCount(languages),
                missing.length > 0 && (
                  <>
                    {t.notReachableCount(missing.length)}{' '}
                    <button type="button" class="link-button" aria-expanded={seeing} onClick={() => setSeeing(!seeing)}>
                      {seeing ? t.hide : t.see}
                    </button>
                  </>
                ),
              ]} />
            </p>
          )}
          {seeing && (
            <div class="missing">
              <p>{t.neverSignedInAdvice}</p>
              <ul>
                {missing.map(({ guardian, student }) => <li key={guardian.conversation}>{t.guardianOf(guardian.name, student.name)}</li>)}
              </ul>
            </div>
          )}
        </div>
      }
      beside={
        <label class="check">
          <input type="checkbox" checked={urgent} onChange={(event) => setUrgent(event.currentTarget.checked)} />
          <span>{t.markUrgent} <span class="soft">{t.markUrgentHint}</span></span>
        </label>
      }
      submit={(text) => {
        void store.act(conversation, { kind: 'post', to: { kind: 'announcements' }, draft: { language, text, protected: [] }, urgent });
        setUrgent(false);
      }} />
  );
}
