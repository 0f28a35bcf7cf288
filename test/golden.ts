// Reads the folders of test/golden: small models with the outputs that PyTorch and transformers gave.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Tensor } from 'fovea';
import { loadFile } from 'fovea/io';
import { expect } from 'vitest';
import { device } from './helpers.js';

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
