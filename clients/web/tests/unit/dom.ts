/** As much of a document as Preact draws into. What is drawn stays until the test draws anew: so a second tap comes before the next frame. */
import { type ComponentChildren, options, render } from 'preact';
import { vi } from 'vitest';

/** The layout, in pixels: each item of a list is so high, */
const ROW = 100;
/** and each box so high that six of them are seen. */
const BOX = 600;

export class FakeNode {
  #scrollTop = 0;
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
  get children(): FakeNode[] {
    return this.childNodes.filter(({ nodeType }) => nodeType === 1);
  }
  get dataset(): Record<string, string | undefined> {
    return Object.fromEntries([...this.attributes].map(([name, value]) => [name.replace('data-', ''), value]));
  }
  querySelector(what: string): FakeNode | null {
    return this.querySelectorAll(what)[0] ?? null;
  }
  /** By `.class` or `[attribute]`. */
  querySelectorAll(what: string): FakeNode[] {
    const name = what.replace(/[.[\]]/g, '');
    const is = ({ attributes }: FakeNode) => (what[0] === '.' ? attributes.get('class')?.split(' ').includes(name) : attributes.has(name));
    return this.childNodes.flatMap((child) => [...(is(child) ? [child] : []), ...child.querySelectorAll(what)]);
  }
  readonly clientHeight = BOX;
  get scrollHeight(): number {
    return Math.max(BOX, this.all('li').length * ROW);
  }
  get scrollTop(): number {
    return this.#scrollTop;
  }
  set scrollTop(to: number) {
    this.#scrollTop = Math.max(0, Math.min(to, this.scrollHeight - BOX));
  }
  scrollIntoView() {
    const box = this.parentNode?.parentNode;
    if (box) box.scrollTop = this.above;
  }
  /** How far from the top of its list. */
  get above(): number {
    return (this.parentNode?.childNodes.indexOf(this) ?? 0) * ROW;
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

/** Notes what is watched; the test says when the browser looks. */
export class FakeIntersections {
  static all: FakeIntersections[] = [];
  #watched = new Set<FakeNode>();
  constructor(readonly then: (changes: object[]) => void, readonly options: { root: FakeNode }) {
    FakeIntersections.all.push(this);
  }
  observe(node: FakeNode) {
    this.#watched.add(node);
  }
  disconnect() {
    this.#watched.clear();
  }
  looks() {
    const { scrollTop } = this.options.root;
    const changes = [...this.#watched].map((target) => {
      const isIntersecting = target.parentNode !== null && target.above >= scrollTop && target.above + ROW <= scrollTop + BOX;
      return { target, isIntersecting, intersectionRatio: Number(isIntersecting), boundingClientRect: { height: ROW } };
    });
    this.then(changes);
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
  vi.stubGlobal('BroadcastChannel', undefined);
  vi.stubGlobal('ResizeObserver', class { observe() {} disconnect() {} });
  vi.stubGlobal('IntersectionObserver', FakeIntersections);
  vi.stubGlobal('removeEventListener', () => undefined);
  vi.stubGlobal('document', {
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    visibilityState: 'visible',
    hasFocus: () => true,
    querySelector: () => null,
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
