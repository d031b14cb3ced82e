import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const css = readFileSync(new URL('../../src/styles/tokens.css', import.meta.url), 'utf8');
const [light = '', dark = ''] = css.split('@media (prefers-color-scheme: dark)');
const tokens = (part: string) => Object.fromEntries([...part.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value]));

/** WCAG 2.2, relative luminance. */
function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const share = parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}
function contrast(a: string, b: string): number {
  const [bright, dim] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (bright! + 0.05) / (dim! + 0.05);
}

const surfaces = ['paper', 'card', 'own', 'their'];
const texts: [string, string[]][] = [
  ['ink', [...surfaces, 'needs', 'urgent']],
  ['soft', [...surfaces]],
  ['accent', ['paper', 'card']],
  ['on-accent', ['accent']],
  ['needs-ink', ['paper', 'card', 'needs']],
  ['urgent-ink', ['paper', 'card', 'urgent']],
  ['good', ['paper', 'card']],
  ...Array.from({ length: 8 }, (_, hue): [string, string[]] => [`on-hue-${hue}`, [`hue-${hue}`]]),
];

describe.each([['light', tokens(light)], ['dark', { ...tokens(light), ...tokens(dark) }]])('in %s', (_, colours) => {
  it.each(texts.flatMap(([text, on]) => on.map((surface) => [text, surface] as const)))('%s on %s has 7:1', (text, surface) => {
    expect(contrast(colours[text]!, colours[surface]!)).toBeGreaterThanOrEqual(7);
  });

  it.each(['paper', 'card'])('the edges of controls stand out from %s', (surface) => {
    expect(contrast(colours['edge']!, colours[surface]!)).toBeGreaterThanOrEqual(3);
  });
});
