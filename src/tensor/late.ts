/**
 * Functions of the room `ops` that the rooms below it need: imports go one way only, so ops fill them in when they are
 * loaded.
 */
import { FoveaError } from '../errors.js';
import type { Dtype } from './dtype.js';
import type { Tensor } from './tensor.js';

interface Late {
  add(a: Tensor, b: Tensor): Tensor;
  /** a += b, not recorded. */
  addInPlace(a: Tensor, b: Tensor): void;
  /** A copy in dense memory. */
  copy(x: Tensor): Tensor;
  cast(x: Tensor, dtype: Dtype): Tensor;
  full(shape: readonly number[], value: number, dtype: Dtype, device: number): Tensor;
}

function missing(): never {
  throw new FoveaError('FOVEA_INTERNAL', "fovea: the ops were not loaded; import 'fovea' or 'fovea/functional'");
}

/** Filled in by src/ops/install.ts. */
export const late: Late = { add: missing, addInPlace: missing, copy: missing, cast: missing, full: missing };
