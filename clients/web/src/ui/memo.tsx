/** Parts of a long list that are drawn again only when what they are given has changed. */
import { Component, type FunctionComponent } from 'preact';

/** The same component, which leaves what it has drawn as it is while each of its properties is the same. */
export function memo<P extends object>(Drawn: FunctionComponent<P>) {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const keys = new Set([...Object.keys(next), ...Object.keys(this.props)]) as Set<keyof P>;
      return [...keys].some((key) => next[key] !== this.props[key]);
    }
    override render() {
      // One inside: it hears of signals and of its own state by itself.
      return <Drawn {...(this.props as P)} />;
    }
  };
}
