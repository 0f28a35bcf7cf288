/**
 * Biases of attention that depend on how far key and query are apart: values that attention adds to its scores inside
 * of the kernel, from a table of each head with a place for each distance, and that give their gradients to what they
 * are made of. Memory is linear in the lengths.
 *
 *   positionBias.alibi(8)      positionBias.relative(table)      positionBias.t5(weight)
 *
 * Distances are key minus query, queries being the last of the keys (query i at key i + m - n), as with a cache.
 */
import { argumentError } from '../tensor/check.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';

/** A bias by distance, for the lengths of a call. */
export interface DistanceBias {
  /** [h or 1, size]: the last axis counts distances; beyond its ends it goes on as it ends. */
  table: Tensor;
  /** The place of distance 0. */
  zero: number;
}
/** The lengths of a call. */
export interface BiasPlace {
  /** Query heads. */
  h: number;
  /** Queries. */
  n: number;
  /** Keys. */
  m: number;
  /** Where the queries are. */
  device: Device;
  /** The keys, whose length a replay may choose. */
  keys?: Tensor | undefined;
}

/** A bias of attention by position. Made by the functions of `positionBias`. */
export class PositionBias {
  /** @internal */
  readonly make: (op: string, place: BiasPlace) => DistanceBias;
  readonly #text: string;

  /** @internal */
  constructor(text: string, make: (op: string, place: BiasPlace) => DistanceBias) {
    this.#text = text;
    this.make = make;
    Object.freeze(this);
  }
  /** @returns the call that makes it */
  toString(): string {
    return this.#text;
  }
}

/** A bias by position. @returns it @throws FOVEA_ARGUMENT for anything else */
export function positionBiasArg(op: string, value: unknown): PositionBias {
  if (value instanceof PositionBias) return value;
  throw argumentError(op, 'positionBias', 'a value of positionBias.alibi, relative or t5', value);
}
