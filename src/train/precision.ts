/** The precision of training, by the name of a dtype or a short name; what training computes with is the dtype. */
import { argumentError } from '../tensor/check.js';

const dtypes = {
  float32: 'float32',
  bfloat16: 'bfloat16',
  float16: 'float16',
  f32: 'float32',
  bf16: 'bfloat16',
  f16: 'float16',
} as const;

/**
 * 'bfloat16' and 'float16', in short 'bf16' and 'f16', run forward under `autocast`, and backward in the same dtypes;
 * weights and gradients stay float32 ('f32'). 'float16' scales the loss.
 */
export type Precision = keyof typeof dtypes;

/** A precision by its dtype. */
export type PrecisionDtype = (typeof dtypes)[Precision];

/** All names. */
export const precisionNames: readonly Precision[] = Object.keys(dtypes) as Precision[];

/** Checks a precision. @returns its dtype @throws FOVEA_ARGUMENT for what is none */
export function precisionArg(op: string, value: unknown): PrecisionDtype {
  const name = precisionNames.find((known) => known === value);
  if (name !== undefined) return dtypes[name];
  throw argumentError(op, 'precision', `one of ${precisionNames.join(', ')}`, value);
}
