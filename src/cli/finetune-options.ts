import type { Device } from '../tensor/device.js';
import type { Precision } from '../train/precision.js';

/** What is trained, on what, and for how long. */
export interface FinetuneOptions {
  /** Files and folders of text, or `.bin` files of token numbers (little-endian uint16). */
  data: readonly string[];
  /** Where the adapter goes, and the checkpoints, the log and the curve of the run. */
  out: string;
  /** Of the adapter's terms. */
  rank: number;
  /** The terms are multiplied by alpha / rank. */
  alpha: number;
  /** Of what the terms take. */
  dropout: number;
  /** Names of the modules with terms, separated by commas, or `all-linear`. */
  targetModules: string;
  steps: number;
  batch: number;
  /** Tokens that the model sees at once; as many as it takes where left out. */
  context?: number;
  lr: number;
  /** Steps from one evaluation to the next; one at the end where left out. */
  evaluateEvery?: number;
  /** Steps from one checkpoint to the next; one at the end where left out. */
  saveEvery?: number;
  seed: number;
  device: Device;
  precision: Precision;
  signal?: AbortSignal | undefined;
}

/** Rank and modules are PEFT's for GPT-2. */
export const defaultFinetuneOptions: Readonly<Omit<FinetuneOptions, 'data'>> = {
  out: 'adapter',
  rank: 8,
  alpha: 16,
  dropout: 0,
  targetModules: 'c_attn',
  steps: 500,
  batch: 8,
  lr: 1e-3,
  seed: 0,
  device: 'cpu',
  precision: 'float32',
};
