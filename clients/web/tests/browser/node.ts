/**
 * A real node of the tests' own: a temporary folder, the demo school, a free port.
 *
 * Owns: starting, killing and starting again. Refuses to know: browsers.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DEMO_SCHOOL } from './school';

const run = promisify(execFile);
/** A node that is not ready by then will not be. */
const PATIENCE_MS = 30_000;

function binary(): string {
  const named = process.env['HOMEROOM_BIN'];
  if (named) return named;
  for (const profile of ['release', 'debug']) {
    const path = new URL(`../../../../target/${profile}/homeroom`, import.meta.url).pathname;
    if (existsSync(path)) return path;
  }
  throw new Error('no homeroom binary: build it with "cargo build", or name one in HOMEROOM_BIN');
}

export class Node {
  #process: ChildProcess | null = null;
  #log = '';
  origin = '';

  private constructor(readonly folder: string, readonly school: string) {}

  /** A node on a free port that has the school in it. */
  static async start(school = DEMO_SCHOOL): Promise<Node> {
    const node = new Node(await mkdtemp(join(tmpdir(), 'homeroom-browser-')), school);
    await node.homeroom('import', school);
    await node.serve('127.0.0.1:0');
    return node;
  }

  /** Starts the server and waits until it says that it listens. */
  async serve(listen: string): Promise<void> {
    const child = spawn(binary(), ['serve', '--listen', listen], { env: this.#environment(), stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    this.origin = await new Promise<string>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${why}\n${this.#log}`));
      const timer = setTimeout(() => fail('the server is not ready'), PATIENCE_MS);
      const hear = (chunk: Buffer) => {
        this.#log += chunk.toString();
        const [, origin] = /listening on (http:\/\/127\.0\.0\.1:\d+)/.exec(this.#log.slice(this.#from)) ?? [];
        if (!origin) return;
        clearTimeout(timer);
        resolve(origin);
      };
      child.stdout.on('data', hear);
      child.stderr.on('data', hear);
      child.once('exit', (code, signal) => fail(`the server ended with ${code ?? signal}`));
    });
  }

  #from = 0;

  /** kill -9. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    this.#from = this.#log.length;
  }

  /** The same place again, after `kill`. */
  async serveAgain(): Promise<void> {
    await this.serve(new URL(this.origin).host);
  }

  /** A link to sign in with. */
  async link(person: string): Promise<string> {
    const [invitation] = JSON.parse(await this.homeroom('invite', person, '--json')) as { link: string; code: string; username: string }[];
    return `${this.origin}${new URL(invitation!.link).pathname}`;
  }

  /** The name and code of an invitation. */
  async code(person: string): Promise<{ name: string; code: string }> {
    const [invitation] = JSON.parse(await this.homeroom('invite', person, '--json')) as { code: string; username: string }[];
    return { name: invitation!.username, code: invitation!.code };
  }

  /** Runs `homeroom` with these arguments, and gives what it prints. */
  async homeroom(...args: string[]): Promise<string> {
    return (await run(binary(), args, { env: this.#environment(), maxBuffer: 16 << 20 })).stdout;
  }

  /** Ends the server and removes its folder. */
  async stop(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  #environment(): NodeJS.ProcessEnv {
    return { ...process.env, HOMEROOM_DATA_DIR: this.folder, HOMEROOM_METRICS_LISTEN: '127.0.0.1:0', HOMEROOM_DATABASE_URL: '', HOMEROOM_REDIS_URLS: '' };
  }
}
