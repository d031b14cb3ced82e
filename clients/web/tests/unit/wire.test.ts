import { readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as wire from '../../src/connection/wire';
import { conversationId, newId } from '../../src/store/uuid';

const folder = new URL('../../../../protocol/fixtures/', import.meta.url);
const names = readdirSync(folder).filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -5));
const fixture = (name: string) => JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'));
const starting = (prefix: string) => names.filter((name) => name.startsWith(prefix));

describe('golden fixtures', () => {
  it('are found', () => expect(names.length).toBeGreaterThan(60));

  it.each(starting('server.'))('%s is read as it was written', (name) => {
    expect(wire.readFrame(JSON.stringify(fixture(name)))).toEqual(fixture(name));
  });

  it.each(starting('newer.server.'))('%s of a newer server is survived', (name) => {
    const { received, read_as } = fixture(name);
    expect(wire.readFrame(JSON.stringify(received))).toEqual(read_as);
  });

  const bodies: Record<string, (value: unknown) => unknown> = {
    home: wire.home, room: wire.roomDetail, history_page: wire.historyPage, reach: wire.reach,
    signed_in: wire.signedIn, fault: wire.fault,
  };
  const requests = ['sign_in_link', 'sign_in_code', 'change_me'];
  it.each(starting('api.'))('%s is read as it was written', (name) => {
    const kind = name.split('.')[1]!;
    if (requests.includes(kind)) return;
    expect(bodies[kind]!(fixture(name))).toEqual(fixture(name));
  });
  it.each(starting('newer.api.'))('%s of a newer server is survived', (name) => {
    const { received, read_as } = fixture(name);
    expect(bodies[name.split('.')[2]!]!(received)).toEqual(read_as);
  });
});

describe('what is no frame', () => {
  it.each(['', 'null', '[]', '{}', '{"type":7}', '{"type":"caught_up"}', '{"type":"ack","ref":"1"}',
    '{"type":"event","room":"r","id":"e","at":"t","kind":"posted"}'])('%s is refused', (json) => {
    expect(() => wire.readFrame(json)).toThrow();
  });

  it('a type named like an inherited property is an unknown one', () => {
    expect(wire.readFrame('{"type":"constructor"}')).toEqual({ type: 'unknown' });
  });
});

describe('ids', () => {
  it('of conversations follow from their address', () => {
    for (const { room, address, conversation } of fixture('conversation_ids')) {
      expect(conversationId(room, address)).toBe(conversation);
    }
  });

  it('made here are random, of version 4', () => {
    const ids = Array.from({ length: 200 }, newId);
    expect(new Set(ids).size).toBe(200);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
