// What the suites of data share.
import { FoveaError, type Tensor } from 'fovea';
import type { BatchContext, DataLoader } from 'fovea/train';
import { expect } from 'vitest';
import { list } from '../../helpers.js';

/** Everything that an iterable gives. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** The first `count` of what an iterable gives; the loop is left behind the last. */
export async function first<T>(items: AsyncIterable<T>, count: number): Promise<T[]> {
  const list: T[] = [];
  if (count === 0) return list;
  for await (const item of items) {
    list.push(item);
    if (list.length === count) break;
  }
  return list;
}

/** What a promise rejects with, which has to be a FoveaError. */
export async function errorOf(promise: Promise<unknown>): Promise<FoveaError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was thrown'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(FoveaError);
  return error as FoveaError;
}

/** Numbers 0 … n - 1. */
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Gives the state of a loader to another through JSON, as a checkpoint does. */
export function handOver<T, B>(from: DataLoader<T, B>, to: DataLoader<T, B>): DataLoader<T, B> {
  to.loadStateDict(JSON.parse(JSON.stringify(from.stateDict())) as ReturnType<typeof from.stateDict>);
  return to;
}

/** The rows of a matrix. */
export function rows(x: Tensor): number[][] {
  const [count, width] = x.shape as [number, number];
  const values = list(x);
  return range(count).map((i) => values.slice(i * width, (i + 1) * width));
}

/** A batch of an epoch. */
export const at = (epoch: number, batch: number): BatchContext => ({ epoch, batch });
