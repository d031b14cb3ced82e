/**
 * Fails when the built page's JavaScript is over its budget, gzipped as a server would send it.
 *
 * usage: node scripts/size.mjs [--limit BYTES] [--dist FOLDER]
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

// 60 KB: on a phone with 400 kbit/s the page is there in little more than a second.
const { values } = parseArgs({ options: { limit: { type: 'string', default: '60000' }, dist: { type: 'string', default: 'dist' } } });
const limit = Number(values.limit);
if (!Number.isInteger(limit) || limit <= 0) {
  console.error(`--limit ${values.limit} is not a number of bytes`);
  process.exit(2);
}
const files = readdirSync(values.dist, { recursive: true }).map(String).filter((name) => name.endsWith('.js'));
if (files.length === 0) {
  console.error(`no JavaScript in ${values.dist}: run 'npm run build' first`);
  process.exit(2);
}
let total = 0;
for (const name of files) {
  const bytes = gzipSync(readFileSync(join(values.dist, name)), { level: 9 }).length;
  total += bytes;
  console.log(`${String(bytes).padStart(7)}  ${name}`);
}
console.log(`${String(total).padStart(7)}  in all, gzipped; ${limit} allowed`);
if (total > limit) {
  console.error(`The page's JavaScript is ${total - limit} bytes over its budget.`);
  process.exit(1);
}
