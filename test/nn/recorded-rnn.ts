// What test/golden/rnn holds, and the numbers of which make.py there makes weights and inputs.
import type { Dtype, nn, Tensor } from 'fovea';
import * as golden from '../golden.js';

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
export const recorded = golden.readJson('rnn', 'layers.json') as { layers: RecordedLayer[]; cells: RecordedCell[] };
export const { runs: recordedRuns } = golden.readJson('rnn', 'training.json') as {
  runs: (golden.RecordedTraining & { kind: 'LSTM' | 'GRU' })[];
};

/** Sizes and seeds of make.py. */
export const sizes = { input: 3, hidden: 4, batch: 3, length: 5 };
export const seeds = { x: 101, h: 102, c: 103, dy: 104, dh: 105, dc: 106 };

/** Numbers of [-1, 1), as make.py takes them. */
export const numbers = (seed: number, shape: readonly number[], dtype?: Dtype): Tensor =>
  golden.numbers(seed, shape, dtype, 2);
export const fill = <M extends nn.Module>(module: M): M => golden.fill(module, 2);
