// The side of a peer in JavaScript: a process that reads one JSON object per line and answers each with one.
//
//   first, unasked   {"name": …, "version": …}, or {"missing": why} where the library is not installed
//   {"case": a case of bench/cases.mjs, "threads": n, "milliseconds": how long a batch should take}
//                    {"milliseconds": of one call, "calls": of the batch}, {"unsupported": why} or {"error": message}
//   {"limit": a case, "tiny": …}, which fovea alone is asked
//                    {"limit": {"name": …, "rate": per second}} of what bounds it; none if nothing does
//
// The first question about a case makes its inputs and warms up; further ones about the same case only time a batch.
// The next case frees them. The process ends with its standard input.
import { createInterface } from 'node:readline';
import { callsFor } from '../timing.mjs';

/** Thrown by `prepare` for what a library does not have. */
export class Unsupported extends Error {}

const put = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

/** What a library is asked to prepare: one case at a time. */
class Server {
  #prepare;
  #limit;
  #id;
  #current;
  #calls = 0;

  constructor({ prepare, limit }) {
    this.#prepare = prepare;
    this.#limit = limit;
  }

  async answer({ case: test, threads, milliseconds, limit, tiny }) {
    try {
      if (limit) return { limit: await this.#limit?.(limit, tiny) };
      if (test.id !== this.#id) await this.#change(test, threads, milliseconds);
      return { milliseconds: (await this.#current.batch(this.#calls)) / this.#calls, calls: this.#calls };
    } catch (error) {
      this.#id = undefined;
      if (error instanceof Unsupported) return { unsupported: error.message };
      return { error: String(error?.message ?? error).split('\n')[0] };
    }
  }

  async #change(test, threads, milliseconds) {
    this.#id = undefined;
    await this.#current?.release();
    this.#current = undefined;
    this.#current = await this.#prepare(test, threads);
    this.#calls = await callsFor(this.#current, milliseconds);
    this.#id = test.id;
  }
}

/**
 * Runs a peer.
 *
 * @param load gives `name`, `version` and `prepare(case, threads)`, which gives `batch`, `count` and `release` as
 * bench/kinds.mjs does, or throws {@link Unsupported}; rejects where the library is not installed
 */
export async function serve(load) {
  let loaded;
  try {
    loaded = await load();
  } catch (error) {
    put({ missing: String(error.message).split('\n')[0] });
    process.exit(0);
  }
  const server = new Server(loaded);
  put(loaded); // functions are no JSON
  for await (const line of createInterface({ input: process.stdin })) put(await server.answer(JSON.parse(line)));
  process.exit(0);
}
