// What test/golden/transformer holds, and the formula by which make.py there makes weights and inputs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Dtype, type nn, type Tensor, tensor } from 'fovea';

/** One module with PyTorch's results in float64. */
export interface RecordedCase {
  name: string;
  output: number[];
  /** Gradients of the inputs. */
  inputs: Record<string, number[]>;
  /** Gradients of the parameters. */
  gradients: Record<string, number[]>;
}
export interface RecordedTraining {
  losses: number[];
  firstGradientNorms: Record<string, number>;
}

const read = (room: string, name: string): unknown =>
  JSON.parse(readFileSync(join(import.meta.dirname, '../golden', room, name), 'utf8'));
export const recordedStacks = read('transformer', 'stacks.json') as RecordedCase[];
export const recordedTraining = read('transformer', 'training.json') as Record<'float32' | 'float64', RecordedTraining>;
/** Frequencies of rotary embeddings by scaling. */
export const recordedFrequencies = read('rope', 'frequencies.json') as {
  name: string;
  dim: number;
  base: number;
  scaling: nn.RopeScaling;
  seqLen: number;
  frequencies: number[];
  attentionFactor: number;
}[];

/** Numbers of [-0.5, 0.5) that any language makes alike. */
export function numbers(seed: number, shape: readonly number[], dtype: Dtype = 'float64'): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float64Array.from({ length: count }, (_, k) => ((seed * 7919 + k * 104729) % 2003) / 2003 - 0.5);
  return tensor(values, { dtype: 'float64' })
    .to(dtype)
    .reshape([...shape]);
}

/** Gives the parameters of a module the values that make.py gives them. */
export function fill<M extends nn.Module>(module: M): M {
  const dict = module.namedParameters().map(([key, { shape }], seed) => {
    const values = numbers(seed + 1, shape);
    return [key, key.includes('norm') && key.endsWith('weight') ? values.mul(0.4).add(1) : values] as const;
  });
  module.loadStateDict(Object.fromEntries(dict));
  return module;
}
