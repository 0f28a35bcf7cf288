/** Reads a JSON config field by field, so that nothing in it is overlooked: what nobody asked for is an error. */
import { FoveaError } from '../errors.js';
import { isJsonObject, type JsonObject, type JsonValue } from '../io/strict-json.js';

/** An object of a config. */
export class ConfigFields {
  readonly #values: JsonObject;
  readonly #source: string;
  readonly #place: string;
  readonly #taken = new Set<string>();

  /**
   * @param source what errors begin with: the command and, where there is one, the file
   * @param place the object's path with a dot behind it; empty for the whole
   */
  constructor(values: JsonObject, source: string, place = '') {
    this.#values = values;
    this.#source = source;
    this.#place = place;
  }

  /** Whether a field is there; one that may be. */
  has(name: string): boolean {
    this.#taken.add(name);
    return this.#values[name] !== undefined;
  }

  /** The error of a field. */
  error(name: string, expected: string): FoveaError {
    const value = this.#values[name];
    const received = value === undefined ? 'nothing' : JSON.stringify(value);
    return new FoveaError(
      'FOVEA_ARGUMENT',
      `${this.#source}: expected ${expected} for ${this.#place}${name}, received ${received}`,
    );
  }

  #take<T extends JsonValue>(
    name: string,
    expected: string,
    otherwise: T | undefined,
    is: (v: JsonValue) => v is T,
  ): T {
    this.#taken.add(name);
    const value = this.#values[name] ?? otherwise;
    if (value !== undefined && is(value)) return value;
    throw this.error(name, expected);
  }

  /** A whole number of at least `least`. */
  count(name: string, least: number, otherwise?: number): number {
    const is = (value: JsonValue): value is number => Number.isSafeInteger(value) && Number(value) >= least;
    return this.#take(name, `a whole number of at least ${least}`, otherwise, is);
  }

  /** A number from `least` up to `most`, or below `below`. */
  real(
    name: string,
    { least = 0, most = Number.MAX_VALUE }: { least?: number; most?: number },
    otherwise?: number,
  ): number {
    const is = (value: JsonValue): value is number => typeof value === 'number' && value >= least && value <= most;
    const range = most === Number.MAX_VALUE ? `of at least ${least}` : `from ${least} to ${most}`;
    return this.#take(name, `a number ${range}`, otherwise, is);
  }

  /** true or false. */
  boolean(name: string, otherwise?: boolean): boolean {
    return this.#take(name, 'true or false', otherwise, (value): value is boolean => typeof value === 'boolean');
  }

  /** A string that is not empty. */
  string(name: string, otherwise?: string): string {
    const is = (value: JsonValue): value is string => typeof value === 'string' && value !== '';
    return this.#take(name, 'a string', otherwise, is);
  }

  /** One of some strings. */
  oneOf<T extends string>(name: string, choices: readonly T[], otherwise?: T): T {
    const is = (value: JsonValue): value is T => choices.some((choice) => choice === value);
    return this.#take(name, `one of ${choices.join(', ')}`, otherwise, is);
  }

  /** A list of strings, or one alone. */
  strings(name: string): string[] {
    const is = (value: JsonValue): value is string[] =>
      Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string' && item !== '');
    const value = this.#values[name];
    if (typeof value === 'string') return [this.string(name)];
    return this.#take(name, 'a path or a list of paths', undefined, is);
  }

  /** Options for something that checks them; true stands for none, a string for the option `main`. */
  options(name: string, main: string): JsonObject {
    const is = (value: JsonValue): value is true | string | JsonObject =>
      value === true || typeof value === 'string' || isJsonObject(value);
    const value = this.#take(name, `true, the ${main} or an object`, undefined, is);
    if (value === true) return {};
    return typeof value === 'string' ? { [main]: value } : value;
  }

  /** An object within; an empty one stands for what is left out. */
  object(name: string): ConfigFields {
    const value = this.#take(name, 'an object', {}, isJsonObject);
    return new ConfigFields(value, this.#source, `${this.#place}${name}.`);
  }

  /** Everything that was not asked for by name; what takes it checks it, in {@link checked}. */
  rest(): JsonObject {
    const left = Object.entries(this.#values).filter(([name]) => !this.#taken.has(name));
    for (const [name] of left) this.#taken.add(name);
    return Object.fromEntries(left);
  }

  /**
   * What `work` gives.
   *
   * @throws what it throws; of its FOVEA_ARGUMENT it is said which object of the config it is about
   */
  checked<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof FoveaError && error.code === 'FOVEA_ARGUMENT')) throw error;
      const message = `${this.#source}: ${this.#place.slice(0, -1)}: ${error.message}`;
      throw new FoveaError('FOVEA_ARGUMENT', message, { cause: error });
    }
  }

  /** To be called last. @throws FOVEA_ARGUMENT naming the first field that nothing has read */
  finish(): void {
    const unknown = Object.keys(this.#values).find((name) => !this.#taken.has(name));
    if (unknown === undefined) return;
    const known = [...this.#taken].join(', ');
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `${this.#source}: ${this.#place}${unknown} is not known here; known are ${known}`,
    );
  }
}
