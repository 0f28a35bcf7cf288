/**
 * A JSON parser for files that nobody vouches for (RFC 8259).
 *
 * `JSON.parse` keeps the last of two equal keys, so that two readers can see two different files in the same bytes, and
 * lets `__proto__` name a property. Here a duplicate is an error, objects have no prototype, the depth is bounded, and
 * numbers are finite.
 */

/** A value of a JSON document; objects have a null prototype. */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
/** An object of a JSON document, with a null prototype. */
export interface JsonObject {
  [key: string]: JsonValue;
}

const maxDepth = 128;
const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const spacePattern = /[ \t\n\r]*/y;

/** Why a document is not accepted, with the character at which that shows. */
export class JsonError extends Error {
  /** Index into the text, in UTF-16 code units. */
  readonly position: number;

  constructor(reason: string, position: number) {
    super(`${reason} at character ${position}`);
    this.name = 'JsonError';
    this.position = position;
  }
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): JsonValue {
    const value = this.#value(0);
    this.#skipSpace();
    if (this.#at < this.#text.length) throw this.#error('something follows the JSON value');
    return value;
  }

  #error(reason: string): JsonError {
    return new JsonError(reason, this.#at);
  }

  #skipSpace(): void {
    spacePattern.lastIndex = this.#at;
    spacePattern.exec(this.#text);
    this.#at = spacePattern.lastIndex;
  }

  /** Takes `character` if it comes next, after white space. */
  #take(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#take(character)) throw this.#error(`expected "${character}"`);
  }

  #value(depth: number): JsonValue {
    if (depth > maxDepth) throw this.#error(`nested deeper than ${maxDepth}`);
    this.#skipSpace();
    const next = this.#text[this.#at];
    if (next === undefined) throw this.#error('the JSON ends early');
    if (next === '{') return this.#object(depth);
    if (next === '[') return this.#array(depth);
    if (next === '"') return this.#string();
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (!this.#text.startsWith(word, this.#at)) continue;
      this.#at += word.length;
      return value;
    }
    return this.#number();
  }

  #object(depth: number): JsonObject {
    const object = Object.create(null) as JsonObject;
    this.#expect('{');
    if (this.#take('}')) return object;
    do {
      this.#skipSpace();
      const key = this.#string();
      if (key in object) throw this.#error(`the key ${JSON.stringify(key)} occurs twice`);
      this.#expect(':');
      object[key] = this.#value(depth + 1);
    } while (this.#take(','));
    this.#expect('}');
    return object;
  }

  #array(depth: number): JsonValue[] {
    const array: JsonValue[] = [];
    this.#expect('[');
    if (this.#take(']')) return array;
    do array.push(this.#value(depth + 1));
    while (this.#take(','));
    this.#expect(']');
    return array;
  }

  #string(): string {
    const start = this.#at;
    if (this.#text[start] !== '"') throw this.#error('expected a string');
    let end = start + 1;
    for (let c = this.#text[end]; c !== '"'; c = this.#text[end]) {
      if (c === undefined) throw this.#error('a string has no end');
      end += c === '\\' ? 2 : 1;
    }
    try {
      // The slice is one string token, so that JSON.parse only has the escapes and control characters to judge.
      const value = JSON.parse(this.#text.slice(start, end + 1)) as string;
      this.#at = end + 1;
      return value;
    } catch {
      throw this.#error('a string holds a bad escape or a control character');
    }
  }

  #number(): number {
    numberPattern.lastIndex = this.#at;
    const match = numberPattern.exec(this.#text);
    if (!match) throw this.#error('expected a JSON value');
    const value = Number(match[0]);
    if (!Number.isFinite(value)) throw this.#error('a number is too large');
    this.#at = numberPattern.lastIndex;
    return value;
  }
}

/**
 * Parses one JSON document strictly.
 *
 * @throws JsonError on a syntax error, a duplicate key, nesting deeper than 128, or a number that overflows
 */
export function parseStrictJson(text: string): JsonValue {
  return new Parser(text).document();
}

/** Whether a value is a JSON object. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
