/**
 * Reads a Hugging Face `config.json` so that nothing in it is overlooked: every key is read, is known not to matter
 * here, or is an error that names it.
 */
import { FoveaError } from '../errors.js';
import type { JsonObject, JsonValue } from '../io/strict-json.js';

/**
 * Keys of every Hugging Face config that do not change what `forward` computes: provenance, labels of heads that are
 * not built, and how Python returns things. `task_specific_params` are for Python's pipelines alone.
 */
const neutralKeys: ReadonlySet<string> = new Set([
  'model_type',
  'architectures',
  'transformers_version',
  '_name_or_path',
  'name_or_path',
  'dtype',
  'torch_dtype',
  '_commit_hash',
  'id2label',
  'label2id',
  'num_labels',
  'problem_type',
  'finetuning_task',
  'task_specific_params',
  'tokenizer_class',
  'prefix',
  'output_attentions',
  'output_hidden_states',
  'output_scores',
  'return_dict',
  'return_dict_in_generate',
  'torchscript',
  'use_bfloat16',
  'tf_legacy_loss',
  'gradient_checkpointing',
  'is_decoder',
  'tie_encoder_decoder',
  '_attn_implementation',
  '_attn_implementation_autoset',
  'attn_implementation',
  'sep_token_id',
  'chunk_size_feed_forward',
]);

/**
 * Keys that change the computation in a way that no model of this package has, with the only value that is accepted.
 */
const rejectedUnless: ReadonlyMap<string, JsonValue> = new Map<string, JsonValue>([
  ['is_encoder_decoder', false],
  ['add_cross_attention', false],
  ['cross_attention_hidden_size', null],
  ['quantization_config', null],
  ['pruned_heads', null],
]);

function isEmpty(value: JsonValue): boolean {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

/** Takes options out of a config one by one, and at the end refuses what nobody took. */
export class ConfigReader {
  readonly #values: JsonObject;
  readonly #file: string;
  readonly #taken = new Set<string>();

  constructor(values: JsonObject, file: string) {
    this.#values = values;
    this.#file = file;
  }

  #take(key: string): JsonValue | undefined {
    this.#taken.add(key);
    return this.#values[key];
  }

  /** The error of an option whose value cannot be used. */
  error(key: string, expected: string): FoveaError {
    const received = JSON.stringify(this.#values[key]);
    return new FoveaError('FOVEA_UNSUPPORTED', `load: ${this.#file}: ${key} is ${received}; expected ${expected}`);
  }

  #number(key: string, expected: string, otherwise: number | undefined, accept: (value: number) => boolean): number {
    const value = this.#take(key) ?? otherwise;
    if (typeof value === 'number' && accept(value)) return value;
    throw this.error(key, expected);
  }

  /** A whole number of at least 1. */
  count(key: string, otherwise?: number): number {
    return this.#number(
      key,
      'a whole number of at least 1',
      otherwise,
      (value) => Number.isSafeInteger(value) && value >= 1,
    );
  }

  real(key: string, otherwise: number): number {
    return this.#number(key, 'a number', otherwise, () => true);
  }

  probability(key: string, otherwise: number): number {
    return this.#number(key, 'a probability', otherwise, (value) => value >= 0 && value <= 1);
  }

  boolean(key: string, otherwise: boolean): boolean {
    const value = this.#take(key) ?? otherwise;
    if (typeof value === 'boolean') return value;
    throw this.error(key, 'true or false');
  }

  string(key: string, otherwise: string): string {
    const value = this.#take(key) ?? otherwise;
    if (typeof value === 'string') return value;
    throw this.error(key, 'a string');
  }

  /** A whole number of at least 0. */
  wholeNumber(key: string, otherwise?: number): number {
    return this.#number(
      key,
      'a whole number of at least 0',
      otherwise,
      (value) => Number.isSafeInteger(value) && value >= 0,
    );
  }

  /** A whole number of at least 1, or undefined where the file says null or nothing. */
  optionalCount(key: string): number | undefined {
    return (this.#values[key] ?? null) === null ? void this.#take(key) : this.count(key);
  }

  /** Token numbers: one, several or none. */
  tokenIds(key: string): number[] {
    const value = this.#take(key) ?? [];
    const list = Array.isArray(value) ? value : [value];
    if (list.every((id): id is number => typeof id === 'number' && Number.isSafeInteger(id))) return list;
    throw this.error(key, 'a token number, a list of them, or null');
  }

  /** An option that is not supported: null and the `accepted` values do nothing, all others are refused. */
  only(key: string, accepted: readonly JsonValue[], expected: string): void {
    const value = this.#take(key) ?? null;
    if (isEmpty(value) || accepted.includes(value)) return;
    throw this.error(key, expected);
  }

  /** An option that has to have one of these values; null stands for none. */
  is(key: string, accepted: readonly JsonValue[]): void {
    if (accepted.includes(this.#take(key) ?? null)) return;
    throw this.error(key, accepted.map((value) => JSON.stringify(value)).join(' or '));
  }

  /** Marks options that are read elsewhere, or belong to parts that are not built, as known. */
  ignore(...keys: string[]): void {
    for (const key of keys) this.#taken.add(key);
  }

  /**
   * To be called last.
   *
   * @throws FOVEA_UNSUPPORTED naming the first option that nothing has read
   */
  finish(): void {
    for (const [key, value] of Object.entries(this.#values)) {
      if (this.#taken.has(key) || neutralKeys.has(key)) continue;
      const accepted = rejectedUnless.get(key);
      if (accepted === undefined) {
        throw new FoveaError(
          'FOVEA_UNSUPPORTED',
          `load: ${this.#file}: the option ${key} is not known for this model; remove it if it does not matter`,
        );
      }
      if (value !== accepted && !(accepted === null && isEmpty(value))) throw this.error(key, JSON.stringify(accepted));
    }
  }
}
