/** Short facts in one line, each kept together, with a real separator between them: readers hear it as a pause. */
import { type ComponentChildren, Fragment } from 'preact';

export function Facts({ of }: { of: ComponentChildren[] }) {
  return of.filter(Boolean).map((fact, i) => (
    <Fragment key={i}>
      {i > 0 && ' · '}
      <span class="fact">{fact}</span>
    </Fragment>
  ));
}
