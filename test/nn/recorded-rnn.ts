// What test/golden/rnn holds, and the formula by which make.py there makes weights and inputs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Dtype, type nn, type Tensor, tensor } from 'fovea';
import { device } from '../helpers.js';

/** One module with PyTorch's results in float64. */
export interface RecordedCell {
  kind: string;
  options: object;
  h: number[];
  c?: number[];
  dx: number[];
  dh0?: number[];
  dc0?: number[];
  /** Gradients. */
  parameters: Record<string, number[]>;
}
export interface RecordedLayer extends RecordedCell {
  options: { batchFirst?: boolean; numLayers?: number; bidirectional?: boolean };
  lengths: number[] | null;
  /** Whether the first states were given. */
  states: boolean;
  /** Whether there is an axis for the batch. */
  batch: boolean;
  shape: number[];
  output: number[];
}
interface RecordedTraining {
  kind: 'LSTM' | 'GRU';
  losses: number[];
  firstGradientNorms: Record<string, number>;
}

const read = (name: string): unknown =>
  JSON.parse(readFileSync(join(import.meta.dirname, '../golden/rnn', name), 'utf8'));
export const recorded = read('layers.json') as { layers: RecordedLayer[]; cells: RecordedCell[] };
export const recordedRuns = (read('training.json') as { runs: RecordedTraining[] }).runs;

/** Sizes and seeds of make.py. */
export const sizes = { input: 3, hidden: 4, batch: 3, length: 5 };
export const seeds = { x: 101, h: 102, c: 103, dy: 104, dh: 105, dc: 106 };

/** Numbers of [-1, 1) that any language makes alike. */
export function numbers(seed: number, shape: readonly number[], dtype: Dtype = 'float64'): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float64Array.from({ length: count }, (_, k) => ((seed * 7919 + k * 104729) % 2003) / 1001.5 - 1);
  return tensor(values, { device }).to(dtype).reshape(shape);
}

/** Gives the parameters of a module the values that make.py gives them. */
export function fill<M extends nn.Module>(module: M): M {
  module.to(device);
  const entries = module.namedParameters().map(([key, { shape }], seed) => [key, numbers(seed + 1, shape)] as const);
  module.loadStateDict(Object.fromEntries(entries));
  return module;
}
