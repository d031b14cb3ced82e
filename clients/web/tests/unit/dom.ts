/** As much of a document as Preact draws into. What is drawn stays until the test draws anew: so a second tap comes before the next frame. */
import { type ComponentChildren, options, render } from 'preact';
import { vi } from 'vitest';

export class FakeNode {
  parentNode: FakeNode | null = null;
  childNodes: FakeNode[] = [];
  readonly attributes = new Map<string, string>();
  readonly style: Record<string, string> = {};
  readonly #listeners = new Map<string, (event: object) => void>();
  value = '';
  disabled = false;
  constructor(readonly nodeType: 1 | 3, readonly localName?: string, public data = '') {}
  get firstChild(): FakeNode | null {
    return this.childNodes[0] ?? null;
  }
  get nextSibling(): FakeNode | null {
    const beside = this.parentNode?.childNodes ?? [];
    return beside[beside.indexOf(this) + 1] ?? null;
  }
  get text(): string {
    return this.data + this.childNodes.map((child) => child.text).join('');
  }
  insertBefore(child: FakeNode, before: FakeNode | null) {
    child.remove();
    this.childNodes.splice(before ? this.childNodes.indexOf(before) : this.childNodes.length, 0, child);
    child.parentNode = this;
  }
  remove() {
    const beside = this.parentNode?.childNodes;
    beside?.splice(beside.indexOf(this), 1);
    this.parentNode = null;
  }
  setAttribute(name: string, value: unknown) {
    this.attributes.set(name, String(value));
  }
  removeAttribute(name: string) {
    this.attributes.delete(name);
  }
  addEventListener(kind: string, listener: (event: object) => void) {
    this.#listeners.set(kind, listener);
  }
  removeEventListener(kind: string) {
    this.#listeners.delete(kind);
  }
  focus() {}
  /** All of its kind in it, in order. */
  all(name: string): FakeNode[] {
    return this.childNodes.flatMap((child) => [...(child.localName === name ? [child] : []), ...child.all(name)]);
  }
  /** The first of its kind in it, with this text if one is given. */
  one(name: string, text?: string): FakeNode {
    const found = this.all(name).find((node) => text === undefined || node.text.trim() === text);
    if (!found) throw new Error(`no ${name} ${text ?? ''} in ${this.text}`);
    return found;
  }
  /** Something happens to it. */
  does(kind: string, event: object = {}) {
    this.#listeners.get(kind)?.call(this, { currentTarget: this, preventDefault: () => undefined, ...event });
  }
}

/** Stands in for what the modules of the page look at as soon as they are loaded; to be called before they are. */
export function stubPage(): void {
  vi.stubGlobal('addEventListener', () => undefined);
  vi.stubGlobal('location', { hash: '', reload: () => undefined });
  vi.stubGlobal('CSS', { supports: () => true });
  vi.stubGlobal('matchMedia', () => ({ matches: true }));
  vi.stubGlobal('requestAnimationFrame', (then: () => void) => setTimeout(then));
  vi.stubGlobal('cancelAnimationFrame', clearTimeout);
  vi.stubGlobal('document', {
    addEventListener: () => undefined,
    createElementNS: (_: string, name: string) => new FakeNode(1, name),
    createTextNode: (data: string) => new FakeNode(3, undefined, data),
  });
}

/** Draws it, and gives the root and a way to draw what has changed since. */
export function drawn(what: ComponentChildren): { root: FakeNode; draw: () => void } {
  const root = new FakeNode(1, 'div');
  let due: (() => void)[] = [];
  options.debounceRendering = (again) => void due.push(again);
  render(what, root as unknown as Element);
  const draw = () => {
    for (const again of due.splice(0)) again();
  };
  return { root, draw };
}
