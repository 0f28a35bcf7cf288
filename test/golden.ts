// Reads the folders of test/golden: what PyTorch and transformers gave for small models and layers. And makes the
// numbers of which recording.py there makes weights and inputs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Dtype, type nn, type Tensor, tensor, tidy } from 'fovea';
import { loadFile } from 'fovea/io';
import { expect } from 'vitest';
import { device, list } from './helpers.js';

/** What golden.json holds of a causal model. */
export interface GoldenInfo {
  reference_error: Record<
    'fp32_vs_fp64' | 'bf16_vs_fp64' | 'fp16_vs_fp64',
    Record<string, [error: number, largest: number]>
  >;
  train_param_order: string[];
  generation: { eos_case_token: number };
}

export interface Golden {
  folder: string;
  info: GoldenInfo;
  inputs: Record<string, Tensor>;
  expected: Record<string, Tensor>;
}

/** One folder of test/golden. */
export function readGolden(name: string): Golden {
  const folder = join(import.meta.dirname, 'golden', name);
  return {
    folder,
    info: JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as GoldenInfo,
    inputs: onDevice(loadFile(join(folder, 'inputs.safetensors'))),
    expected: onDevice(loadFile(join(folder, 'expected.safetensors'))),
  };
}

/** A JSON file of a room of test/golden, whose form its make.py says. */
export function readJson(room: string, name: string): unknown {
  return JSON.parse(readFileSync(join(import.meta.dirname, 'golden', room, name), 'utf8'));
}

/** Numbers of [-scale/2, scale/2) that any language makes alike. */
export function numbers(seed: number, shape: readonly number[], dtype: Dtype = 'float64', scale = 1): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float64Array.from(
    { length: count },
    (_, k) => (((seed * 7919 + k * 104729) % 2003) / 2003 - 0.5) * scale,
  );
  return tensor(values, { device }).to(dtype).reshape(shape);
}

/** Gives the parameters of a module the numbers that recording.py gives them. */
export function fill<M extends nn.Module>(module: M, scale = 1): M {
  module.to(device);
  const entries = module.namedParameters().map(([key, { shape }], seed) => {
    const values = numbers(seed + 1, shape, 'float64', scale);
    return [key, key.includes('norm') && key.endsWith('weight') ? values.mul(0.4).add(1) : values] as const;
  });
  module.loadStateDict(Object.fromEntries(entries), { strict: false });
  return module;
}

/** The dtypes of tests against float64 results, which are written with ten digits. */
export const precisions = ['float64', 'float32'] as const;
export type Precision = (typeof precisions)[number];
/** How far results may be off, as a share of the largest. */
export const tolerances: Record<Precision, number> = { float64: 1e-9, float32: 2e-5 };

/** Asserts that all numbers of a tensor are within a share of the largest of those recorded. */
export function expectNear(
  what: string,
  actual: Tensor | null | undefined,
  expected: readonly number[],
  tolerance: number,
): void {
  expect(actual, what).toBeTruthy();
  const { difference, largest } = compare(list(actual!), expected);
  expect(difference, what).toBeLessThanOrEqual(tolerance * largest);
}

/** Asserts that a module has the parameters recorded and their gradients. */
export function expectGradients(module: nn.Module, expected: Record<string, number[]>, tolerance: number): void {
  expect(module.namedParameters().map(([key]) => key)).toEqual(Object.keys(expected));
  for (const [key, { grad }] of module.namedParameters()) expectNear(key, grad, expected[key]!, tolerance);
}

/** Twenty steps of training, recorded in float64. */
export interface RecordedTraining {
  losses: number[];
  firstGradientNorms: Record<string, number>;
}

/**
 * Asserts that training goes the recorded way: the first loss within 1e-5 (float64: 1e-10), each first norm of a
 * gradient and all losses within 1e-4 (1e-9).
 */
export function expectTraining(
  model: nn.Module,
  optimizer: { step(): void; zeroGrad(): void },
  loss: (step: number) => Tensor,
  { losses, firstGradientNorms }: RecordedTraining,
  dtype: Precision,
): void {
  const [first, all] = dtype === 'float32' ? [1e-5, 1e-4] : [1e-10, 1e-9];
  expect(losses).toHaveLength(20);
  losses.forEach((expected, step) => {
    optimizer.zeroGrad();
    const value = tidy(() => {
      const made = loss(step);
      made.backward();
      return made.detach();
    });
    expect(Math.abs(Number(value.itemSync()) / expected - 1), `loss ${step}`).toBeLessThanOrEqual(step ? all : first);
    if (step === 0) {
      expect(model.namedParameters().map(([key]) => key)).toEqual(Object.keys(firstGradientNorms));
      for (const [key, { grad }] of model.namedParameters()) {
        const off = Math.abs(Math.hypot(...list(grad!)) / firstGradientNorms[key]! - 1);
        expect(off, `gradient of ${key}`).toBeLessThanOrEqual(all);
      }
    }
    optimizer.step();
  });
}

function onDevice(tensors: Record<string, Tensor>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, x]) => [name, x.to(device)]));
}

/** What tensors are read into. */
export type Numbers = ArrayLike<number | bigint>;

/** The largest difference and the largest value. */
export function compare(actual: Numbers, expected: Numbers): { difference: number; largest: number } {
  expect(actual.length).toBe(expected.length);
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(Number(actual[i]) - Number(expected[i]));
    // A NaN is as different as can be.
    difference = Number.isNaN(d) ? Number.POSITIVE_INFINITY : Math.max(difference, d);
    largest = Math.max(largest, Math.abs(Number(expected[i])));
  }
  return { difference, largest };
}

/** Asserts that float32 results agree: within 4 times PyTorch's own error against float64, or 2e-5 of the largest. */
export async function expectClose(name: string, actual: Tensor, expected: Tensor, referenceError = 0): Promise<void> {
  expect([...actual.shape], `shape of ${name}`).toEqual([...expected.shape]);
  const { difference, largest } = compare(await actual.data({ as: 'float32' }), await expected.data({ as: 'float32' }));
  expect(difference, name).toBeLessThanOrEqual(Math.max(4 * referenceError, 2e-5 * largest));
}
