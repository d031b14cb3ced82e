/**
 * Ids made on the device: random client ids, and conversation ids derived from their address.
 *
 * Owns: UUID version 4 and version 5. Refuses to know: what the ids stand for.
 *
 * `crypto.randomUUID` and `crypto.subtle` are missing on pages served without TLS, as a school's own server on its own
 * network may be; hence the few lines of SHA-1. It names things here, it guards nothing.
 */
import type { Address, ConversationId, RoomId } from '../protocol';

/** A new random id (version 4). */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return formatted(bytes, 4);
}

/** The id of the conversation with this address, as every node derives it. */
export function conversationId(room: RoomId, address: Address): ConversationId {
  const name =
    address.kind === 'announcements'
      ? new TextEncoder().encode('announcements')
      : new Uint8Array([...bytesOf(address.guardian), ...bytesOf(address.student)]);
  return formatted(sha1(new Uint8Array([...bytesOf(room), ...name])).slice(0, 16), 5);
}

function bytesOf(id: string): number[] {
  const digits = id.replaceAll('-', '');
  return Array.from({ length: 16 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

function formatted(bytes: Uint8Array, version: number): string {
  bytes[6] = (bytes[6]! & 0x0f) | (version << 4);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** FIPS 180-4, section 6.1. */
function sha1(message: Uint8Array): Uint8Array {
  const padded = new Uint8Array((((message.length + 8) >> 6) + 1) << 6);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, message.length * 8);
  const rotate = (x: number, by: number) => (x << by) | (x >>> (32 - by));
  const hash = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  const words = new Int32Array(80);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(block + 4 * i);
    for (let i = 16; i < 80; i++) words[i] = rotate(words[i - 3]! ^ words[i - 8]! ^ words[i - 14]! ^ words[i - 16]!, 1);
    let [a, b, c, d, e] = hash as [number, number, number, number, number];
    for (let i = 0; i < 80; i++) {
      const [mixed, constant] =
        i < 20 ? [(b & c) | (~b & d), 0x5a827999]
        : i < 40 ? [b ^ c ^ d, 0x6ed9eba1]
        : i < 60 ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc]
        : [b ^ c ^ d, 0xca62c1d6];
      const next = (rotate(a, 5) + mixed! + e + constant! + words[i]!) | 0;
      [e, d, c, b, a] = [d, c, rotate(b, 30), a, next];
    }
    [a, b, c, d, e].forEach((word, i) => (hash[i] = (hash[i]! + word) | 0));
  }
  const digest = new DataView(new ArrayBuffer(20));
  hash.forEach((word, i) => digest.setInt32(4 * i, word));
  return new Uint8Array(digest.buffer);
}
