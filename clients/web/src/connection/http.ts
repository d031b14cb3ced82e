/**
 * Calls of the HTTP API under `/api/v1`.
 *
 * Owns: the difference between a refusal and no answer at all, and waiting for what is refused only now. Refuses to know:
 * what is asked for.
 */
import type { Fault } from '../protocol';
import { backoff } from './backoff';
import type { Reader } from './read';
import { fault } from './wire';

/** The server answered, and said no. `message` is a sentence for people. */
export class Refused extends Error {
  constructor(readonly fault: Fault, readonly status: number) {
    super(fault.message);
    this.name = 'Refused';
  }
}

/** No answer: no network, no server, or none in time. */
export class NoAnswer extends Error {
  constructor(cause: unknown) {
    super('no answer', { cause });
    this.name = 'NoAnswer';
  }
}

/** A phone in a bus may take long; longer than this it does not help to wait. */
const PATIENCE_MS = 15_000;

/** A refusal that will pass: a database that fails over is back within seconds. Whoever asked is told after so many tries. */
const TRIES = 4;
/** Where the server names no time. */
const PAUSE_MS = 1_000;
/** If it is to last longer than this, whoever asked had better know. */
const LONGEST_PAUSE_MS = 5_000;

type Method = 'GET' | 'POST' | 'PATCH';

/** Calls `path` under `/api/v1` and reads the answer; again, if it is refused only now. Throws `Refused` or `NoAnswer`. */
export async function call<T>(method: Method, path: string, read: Reader<T>, body?: unknown): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await once(method, path, read, body);
    } catch (error) {
      if (!(error instanceof Refused && error.fault.retryable) || attempt + 1 === TRIES) throw error;
      const pause = error.fault.retry_after_ms ?? PAUSE_MS;
      if (pause > LONGEST_PAUSE_MS) throw error;
      // All who were refused were told the same time.
      await new Promise((resolve) => setTimeout(resolve, pause + backoff(attempt)));
    }
  }
}

async function once<T>(method: Method, path: string, read: Reader<T>, body: unknown): Promise<T> {
  // Not AbortSignal.timeout: Safari has it only from version 16 on.
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  let response: Response;
  let content: string;
  try {
    response = await fetch(`/api/v1/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: patience.signal,
    });
    content = await response.text();
  } catch (error) {
    throw new NoAnswer(error);
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok) {
    let refusal: Fault;
    try {
      refusal = fault(JSON.parse(content));
    } catch (error) {
      // Something in between answered, not Homeroom: a gateway while the server restarts.
      throw new NoAnswer(error);
    }
    throw new Refused(refusal, response.status);
  }
  return read(content === '' ? undefined : JSON.parse(content));
}
