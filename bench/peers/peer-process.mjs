// The runner's side of the protocol that bench/peers/serve.mjs describes: a peer as a process that is asked questions.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** The object that a line holds; libraries print other things, too. */
function objectOf(line) {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A peer; where its process has ended, the next question starts it anew. */
export class PeerProcess {
  #command;
  #environment;
  #child;
  #lines;
  #errors = '';
  #failure;

  /** @param command program and parameters @param environment added to the runner's own */
  constructor(command, environment = {}) {
    this.#command = command;
    this.#environment = environment;
  }

  /** Starts the process. @returns what it says of itself: `name` and `version`, or `missing` with the reason */
  async start() {
    const [program, ...parameters] = this.#command;
    const environment = { ...process.env, ...this.#environment };
    this.#errors = '';
    this.#failure = undefined;
    this.#child = spawn(program, parameters, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.on('error', (error) => (this.#failure = error.message));
    this.#child.stdin.on('error', () => {}); // it has ended; the answer says so
    this.#child.stderr.on('data', (text) => (this.#errors = `${this.#errors}${text}`.slice(-2000)));
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    const said = await this.#next();
    return said.error ? { missing: said.error } : said;
  }

  /** The answer to a question; `error` where the peer fails or ends. */
  async ask(question) {
    if (this.#child === undefined) {
      const { missing } = await this.start();
      if (missing) return { error: missing };
    }
    this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    return this.#next();
  }

  async #next() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) {
        this.#child = undefined;
        return { error: this.#failure ?? `it ended${this.#lastWords()}` };
      }
      const answer = objectOf(value);
      if (answer) return answer;
    }
  }

  #lastWords() {
    const lines = this.#errors.trim().split('\n');
    const last = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1);
    return last ? `: ${last.trim()}` : '';
  }

  /** Ends the process. */
  async stop() {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end();
    child.kill();
    await ended;
  }
}
