// What test/golden holds of layers, and how its cases are run.
import { nn, type Tensor } from 'fovea';
import type { Precision } from '../golden.js';

/** A layer of `nn`, by its name there and what its constructor takes; null: it takes no options. */
export interface RecordedLayer {
  name: string;
  arguments: unknown[];
  options: Record<string, unknown> | null;
}
export function makeLayer({ name, arguments: given, options }: RecordedLayer, dtype: Precision): nn.Module {
  const Layer = (nn as unknown as Record<string, new (...args: unknown[]) => nn.Module>)[name]!;
  return new Layer(...given, ...(options ? [options] : [])).to(dtype);
}
export const titleOf = ({ name, arguments: given, options }: RecordedLayer): string =>
  `${name}(${JSON.stringify([...given, ...(options ? [options] : [])]).slice(1, -1)})`;

/** The sum of a tensor times numbers of its own: a loss whose gradients all differ. */
export const weighted = (x: Tensor, weights: Tensor): Tensor => x.mul(weights).sum();
