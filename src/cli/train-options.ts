import type { Device } from '../tensor/device.js';
import type { Precision } from '../train/precision.js';

/** Size of a model that is trained on text, and length of its training. */
export interface TrainTextOptions {
  /** Files and folders of text. */
  paths: readonly string[];
  /** The checkpoint directory to write. */
  out: string;
  steps: number;
  layers: number;
  width: number;
  heads: number;
  /** Bytes that the model sees at once. */
  context: number;
  batch: number;
  lr: number;
  seed: number;
  device: Device;
  precision: Precision;
  signal?: AbortSignal | undefined;
}

/**
 * About 90 seconds of training on two cores with AVX-512; chosen by measurement among models that differ in width,
 * depth, context, batch and rate, by the bits per byte that they reach in this time.
 */
export const defaultTrainOptions: Readonly<Omit<TrainTextOptions, 'paths' | 'out'>> = {
  steps: 3900,
  layers: 4,
  width: 128,
  heads: 4,
  context: 128,
  batch: 8,
  lr: 3e-3,
  seed: 0,
  device: 'cpu',
  precision: 'float32',
};
