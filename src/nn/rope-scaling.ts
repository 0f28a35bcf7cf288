/**
 * Frequencies of rotary embeddings for contexts longer than those of training, by the formulas and names of Hugging
 * Face's `rope_scaling` (pair i of r = dim/2, f_i = base^(-2i/dim), L the length of training, s the factor):
 *
 *   default  f_i  (Su et al. 2021, https://arxiv.org/abs/2104.09864)
 *   linear   f_i / s  (Chen et al. 2023, https://arxiv.org/abs/2306.15595)
 *   dynamic  f_i with base · (s n/L - (s - 1))^(dim/(dim-2)), n = max(length, L): NTK-aware, by the length of the call
 *   yarn     f_i (1 - γ_i)/s + f_i γ_i, with γ 1 for pairs that turn more than `betaFast` times within L, 0 for those
 *            that turn less than `betaSlow` times, and linear in i between; cos and sin times 0.1 ln s + 1
 *            (Peng et al. 2023, https://arxiv.org/abs/2309.00071)
 *   llama3   by the wavelength w_i = 2π/f_i: f_i where it is below L/`highFreqFactor`, f_i / s where it is above
 *            L/`lowFreqFactor`, between them mixed by (L/w_i - low)/(high - low)
 *            (Dubey et al. 2024, https://arxiv.org/abs/2407.21783)
 */
import { argumentError, countArg, numberArg, optionsArg } from '../tensor/check.js';

/** How frequencies change with the context: Hugging Face's `rope_scaling` in camelCase. */
export type RopeScaling =
  | { ropeType: 'default' }
  | {
      ropeType: 'linear';
      /** How many times longer contexts become, at least 1. */
      factor: number;
    }
  | {
      ropeType: 'dynamic';
      /** How strongly the base grows with the length, at least 1. */
      factor: number;
      /** The longest context of training, up to which nothing changes. */
      originalMaxPositionEmbeddings: number;
    }
  | YarnScaling
  | Llama3Scaling;

/** NTK by parts, and a factor of the attention (Peng et al. 2023, sections 3.2 to 3.4). */
export interface YarnScaling {
  ropeType: 'yarn';
  /** How many times longer contexts become, at least 1. */
  factor: number;
  /** The longest context of training. */
  originalMaxPositionEmbeddings: number;
  /** Factor of cosines and sines (default 0.1 ln(factor) + 1, or by `mscale` and `mscaleAllDim`). */
  attentionFactor?: number;
  /** Pairs that turn more often than this in training's context stay as they are (default 32). */
  betaFast?: number;
  /** Pairs that turn less often than this are stretched by the whole factor (default 1). */
  betaSlow?: number;
  /** With `mscaleAllDim`: cosines and sines times (0.1 mscale ln s + 1)/(0.1 mscaleAllDim ln s + 1), as in DeepSeek. */
  mscale?: number;
  /** See `mscale`. */
  mscaleAllDim?: number;
  /** Whether the ends of the ramp between the two are whole numbers (default true). */
  truncate?: boolean;
}

/** What Llama 3.1 does to its frequencies. */
export interface Llama3Scaling {
  ropeType: 'llama3';
  /** How many times longer contexts become, at least 1. */
  factor: number;
  /** Wavelengths above the context of training divided by this are stretched by the factor. */
  lowFreqFactor: number;
  /** Wavelengths below the context of training divided by this stay. */
  highFreqFactor: number;
  /** The longest context of training. */
  originalMaxPositionEmbeddings: number;
}

/** What a rotation is made of. */
export interface RopeFrequencies {
  /** Of each pair, in radians per position: dim/2. */
  frequencies: readonly number[];
  /** Factor of cosines and sines. */
  attentionFactor: number;
}

const op = 'RotaryEmbedding';
const optionNames = {
  default: ['ropeType'],
  linear: ['ropeType', 'factor'],
  dynamic: ['ropeType', 'factor', 'originalMaxPositionEmbeddings'],
  yarn: [
    'ropeType',
    'factor',
    'originalMaxPositionEmbeddings',
    'attentionFactor',
    'betaFast',
    'betaSlow',
    'mscale',
    'mscaleAllDim',
    'truncate',
  ],
  llama3: ['ropeType', 'factor', 'lowFreqFactor', 'highFreqFactor', 'originalMaxPositionEmbeddings'],
} as const;

function numberAbove(name: string, value: unknown, least: number): void {
  const x = numberArg(op, `scaling.${name}`, value);
  if (!(x > least && x < Infinity)) throw argumentError(op, `scaling.${name}`, `a finite number above ${least}`, value);
}

/** @returns a checked copy @throws FOVEA_ARGUMENT for unknown types and options, and for what is out of range */
export function ropeScalingArg(scaling: RopeScaling): RopeScaling {
  const { ropeType } = optionsArg<RopeScaling>(op, scaling, Object.values(optionNames).flat() as 'ropeType'[]);
  if (!Object.hasOwn(optionNames, ropeType))
    throw argumentError(op, 'scaling.ropeType', Object.keys(optionNames).join(', '), ropeType);
  optionsArg<RopeScaling>(`${op}: scaling ${ropeType}`, scaling, optionNames[ropeType] as readonly 'ropeType'[]);
  if (scaling.ropeType === 'default') return { ropeType: 'default' };
  if (!(numberArg(op, 'scaling.factor', scaling.factor) >= 1 && scaling.factor < Infinity))
    throw argumentError(op, 'scaling.factor', 'a finite number of at least 1', scaling.factor);
  if (scaling.ropeType === 'linear') return { ...scaling };
  countArg(op, 'scaling.originalMaxPositionEmbeddings', scaling.originalMaxPositionEmbeddings, 1);
  if (scaling.ropeType === 'llama3') {
    numberAbove('lowFreqFactor', scaling.lowFreqFactor, 0);
    numberAbove('highFreqFactor', scaling.highFreqFactor, scaling.lowFreqFactor);
  }
  if (scaling.ropeType === 'yarn') {
    const { attentionFactor = 1, betaFast = 32, betaSlow = 1, mscale = 1, mscaleAllDim = 1 } = scaling;
    for (const [name, value] of Object.entries({ attentionFactor, betaSlow, mscale, mscaleAllDim }))
      numberAbove(name, value, 0);
    numberAbove('betaFast', betaFast, betaSlow);
  }
  return { ...scaling };
}

/** base^(-2i/dim) */
function plain(dim: number, base: number): number[] {
  return Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim));
}

function yarn(dim: number, base: number, scaling: YarnScaling): RopeFrequencies {
  const { factor, originalMaxPositionEmbeddings: length, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
  // The pair that turns so often within the context of training, as a real number.
  const pairOf = (turns: number): number => (dim * Math.log(length / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [first, last] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, dim - 1);
  const width = high === low ? 0.001 : high - low;
  const frequencies = plain(dim, base).map((f, i) => {
    const stretched = Math.min(Math.max((i - low) / width, 0), 1);
    return (f / factor) * stretched + f * (1 - stretched);
  });
  const grown = (m: number): number => 0.1 * m * Math.log(factor) + 1;
  const { mscale, mscaleAllDim } = scaling;
  const byPaper = mscale !== undefined && mscaleAllDim !== undefined ? grown(mscale) / grown(mscaleAllDim) : grown(1);
  return { frequencies, attentionFactor: scaling.attentionFactor ?? byPaper };
}

function llama3(dim: number, base: number, scaling: Llama3Scaling): number[] {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: length } = scaling;
  return plain(dim, base).map((f) => {
    const wavelength = (2 * Math.PI) / f;
    const share = Math.min(Math.max((length / wavelength - low) / (high - low), 0), 1);
    return (1 - share) * (f / factor) + share * f;
  });
}

/**
 * Internal: the frequencies of a call.
 *
 * @param dim how many places of a head are rotated, an even number
 * @param length the longest position of the call and one, which `dynamic` looks at
 */
export function ropeFrequencies(dim: number, base: number, scaling: RopeScaling, length: number): RopeFrequencies {
  switch (scaling.ropeType) {
    case 'linear':
      return { frequencies: plain(dim, base).map((f) => f / scaling.factor), attentionFactor: 1 };
    case 'dynamic': {
      const { factor, originalMaxPositionEmbeddings: trained } = scaling;
      const grown = (factor * Math.max(length, trained)) / trained - (factor - 1);
      return { frequencies: plain(dim, base * grown ** (dim / (dim - 2))), attentionFactor: 1 };
    }
    case 'yarn':
      return yarn(dim, base, scaling);
    case 'llama3':
      return { frequencies: llama3(dim, base, scaling), attentionFactor: 1 };
    default:
      return { frequencies: plain(dim, base), attentionFactor: 1 };
  }
}
