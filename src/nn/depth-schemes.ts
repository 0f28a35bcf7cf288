/**
 * Initialisers of whole models, by their depth: with N layers of an encoder and M of a decoder,
 *
 *   gpt2_      all matrices N(0, 0.02²), those that end a residual branch N(0, 0.02²/(number of branches)), biases 0
 *              (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3)
 *   tFixup_    Xavier; values, outputs and feed-forward networks times 0.67 N^(-1/4) (encoder) or (9M)^(-1/4)
 *              (decoder); embeddings N(0, 1/d) times (9M)^(-1/4)
 *              (Huang et al. 2020, "Improving Transformer Optimization Through Better Initialization", section 3.2)
 *   deepNorm_  Xavier; values, outputs and feed-forward networks by gain β; what goes past a sublayer times α
 *              (Wang et al. 2022, https://arxiv.org/abs/2203.00555, figure 2):
 *                encoder or decoder alone   α = (2N)^(1/4),          β = (8N)^(-1/4)
 *                both, the encoder          α = 0.81 (N⁴ M)^(1/16),  β = 0.87 (N⁴ M)^(-1/16)
 *                both, the decoder          α = (3M)^(1/4),          β = (12M)^(-1/4)
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import type { Generator } from '../ops/index.js';
import { argumentError, countArg, numberArg, optionsArg } from '../tensor/check.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { Embedding } from './embedding.js';
import { FeedForward } from './feed-forward.js';
import { GatedFeedForward } from './gated-feed-forward.js';
import { normal_, type RandomOptions, xavierNormal_, zeros_ } from './init.js';
import { MixtureOfExperts } from './mixture-of-experts.js';
import { Module } from './module.js';
import { MultiheadAttention } from './multihead-attention.js';
import { TransformerDecoderLayer } from './transformer-decoder-layer.js';
import { TransformerEncoderLayer } from './transformer-encoder-layer.js';
import { TransformerLayer } from './transformer-layer.js';

/** Options of {@link gpt2_}. */
export interface Gpt2InitOptions extends RandomOptions {
  /** Deviation of all matrices (default 0.02). */
  std?: number;
  /**
   * How many branches end in one residual stream, at least 1 (default: all that the module has; two for each layer).
   */
  branches?: number;
}

function moduleArg(op: string, module: unknown): Module {
  if (module instanceof Module) return module;
  throw argumentError(op, 'module', 'a Module', module);
}

/** The matrix that ends a residual branch, if a module has one. */
function lastOfBranch(module: Module): Tensor | undefined {
  if (module instanceof MultiheadAttention) return module.outProj.weight;
  if (module instanceof TransformerLayer || module instanceof FeedForward) return module.linear2.weight;
  if (module instanceof GatedFeedForward) return module.downProj.weight;
  if (module instanceof MixtureOfExperts) return module.downProj;
  return undefined;
}

/**
 * GPT-2's initialisation of attention, feed-forward networks, layers of transformers, linear layers and embeddings: all
 * parameters of two and more axes normal, biases and rows of padding zero, norms as they are.
 *
 * @param module a stack of layers, or a model with one; for an encoder and a decoder, call it for each
 * @returns `module`
 * @throws FOVEA_ARGUMENT for options out of range
 */
export function gpt2_<M extends Module>(module: M, options: Gpt2InitOptions = {}): M {
  const op = 'gpt2_';
  const parts = moduleArg(op, module).modules();
  const { std = 0.02, branches, ...rest } = optionsArg(op, options, ['std', 'branches', 'generator']);
  if (!(numberArg(op, 'std', std) >= 0)) throw argumentError(op, 'std', 'a number of at least 0', std);
  const last = new Set(parts.flatMap((part) => lastOfBranch(part) ?? []));
  const count = branches === undefined ? Math.max(last.size, 1) : countArg(op, 'branches', branches, 1);
  for (const [key, x] of module.namedParameters()) {
    if (x.rank > 1) normal_(x, 0, last.has(x) ? std / Math.sqrt(count) : std, rest);
    else if (/(^|[._])bias$/.test(key)) zeros_(x);
  }
  for (const part of parts)
    if (part instanceof Embedding && part.paddingIdx !== undefined) {
      const { weight, paddingIdx } = part;
      tidy(() => noGrad(() => zeros_(weight.select(0, paddingIdx))));
    }
  return module;
}

interface Depth {
  readonly encoder: readonly TransformerEncoderLayer[];
  readonly decoder: readonly TransformerDecoderLayer[];
}

/** The layers of a model. @throws FOVEA_ARGUMENT where there are none */
function layersIn(op: string, module: Module): Depth {
  const parts = moduleArg(op, module).modules();
  const encoder = parts.filter((part) => part instanceof TransformerEncoderLayer);
  const decoder = parts.filter((part) => part instanceof TransformerDecoderLayer);
  if (encoder.length + decoder.length === 0)
    throw argumentError(
      op,
      'module',
      'a model with layers of the classes TransformerEncoderLayer or TransformerDecoderLayer',
      module,
    );
  return { encoder, decoder };
}

/** @throws FOVEA_UNSUPPORTED for what is quantised */
function matrixArg(op: string, weight: unknown): Tensor {
  if (isTensor(weight)) return weight;
  throw new FoveaError('FOVEA_UNSUPPORTED', `${op}: the model has quantised weights; initialise it before quantize_`);
}

/** Xavier's normal distribution for every matrix of a layer, with a gain for what is not queries and keys. */
function xavierLayer_(
  op: string,
  layer: TransformerEncoderLayer | TransformerDecoderLayer,
  gain: number,
  rest: RandomOptions,
): void {
  const attentions =
    layer instanceof TransformerDecoderLayer ? [layer.selfAttn, layer.multiheadAttn] : [layer.selfAttn];
  tidy(() =>
    noGrad(() => {
      for (const attention of attentions) {
        // One matrix holds three, each of which has fans of its own.
        const [q, k, v] = matrixArg(op, attention.inProjWeight).chunk(3, 0);
        for (const weight of [q!, k!]) xavierNormal_(weight, rest);
        for (const weight of [v!, attention.outProj.weight]) xavierNormal_(matrixArg(op, weight), { gain, ...rest });
      }
      for (const { weight } of [layer.linear1, layer.linear2]) xavierNormal_(matrixArg(op, weight), { gain, ...rest });
    }),
  );
}

/** Options of schemes. */
export interface DepthSchemeOptions {
  /** Default: the one that `manualSeed` seeds. */
  generator?: Generator;
}

/**
 * T-Fixup's initialisation, by which the paper trains transformers without norms and without warm-up; layers here keep
 * their norms. Biases, norms and tables of positions stay as they are.
 *
 * @param module a model with TransformerEncoderLayers or TransformerDecoderLayers, which it counts, and Embeddings of
 *   tokens
 * @returns the factors
 * @throws FOVEA_ARGUMENT for a model without such layers
 */
export function tFixup_(
  module: Module,
  options: DepthSchemeOptions = {},
): { encoder: number; decoder: number; embedding: number } {
  const op = 'tFixup_';
  const { encoder, decoder } = layersIn(op, module);
  const rest = optionsArg(op, options, ['generator']);
  const scales = {
    encoder: encoder.length ? 0.67 * encoder.length ** -0.25 : 1,
    decoder: decoder.length ? (9 * decoder.length) ** -0.25 : 1,
    embedding: (9 * (decoder.length || encoder.length)) ** -0.25,
  };
  for (const layer of encoder) xavierLayer_(op, layer, scales.encoder, rest);
  for (const layer of decoder) xavierLayer_(op, layer, scales.decoder, rest);
  for (const part of module.modules())
    if (part instanceof Embedding) normal_(part.weight, 0, scales.embedding / Math.sqrt(part.embeddingDim), rest);
  return scales;
}

/** The numbers of DeepNorm: the factor of what goes past a sublayer, and the gain of its matrices. */
export interface DeepNormScale {
  /** α */
  alpha: number;
  /** β */
  beta: number;
}

/**
 * DeepNorm's numbers (Wang et al. 2022, figure 2).
 *
 * @param encoderLayers N, 0 for a decoder alone @param decoderLayers M, 0 for an encoder alone
 * @throws FOVEA_ARGUMENT for what are no counts
 */
export function deepNormScales(
  encoderLayers: number,
  decoderLayers: number,
): { encoder: DeepNormScale; decoder: DeepNormScale } {
  const n = countArg('deepNormScales', 'encoderLayers', encoderLayers);
  const m = countArg('deepNormScales', 'decoderLayers', decoderLayers);
  const alone = (layers: number): DeepNormScale => ({ alpha: (2 * layers) ** 0.25, beta: (8 * layers) ** -0.25 });
  if (n === 0 || m === 0) return { encoder: alone(n), decoder: alone(m) };
  const both = (n ** 4 * m) ** (1 / 16);
  return {
    encoder: { alpha: 0.81 * both, beta: 0.87 / both },
    decoder: { alpha: (3 * m) ** 0.25, beta: (12 * m) ** -0.25 },
  };
}

/**
 * Makes a post-norm model one of DeepNorm: matrices by Xavier with gain β where they do not make queries and keys, and
 * α as the `residualScale` of each layer. Biases, norms and embeddings stay as they are.
 *
 * @param module a model with TransformerEncoderLayers or TransformerDecoderLayers, which it counts; causal language
 *   models made of encoder layers have the numbers of a decoder alone, which are the same
 * @returns the numbers
 * @throws FOVEA_ARGUMENT for a model without such layers, or with pre-norm ones
 */
export function deepNorm_(
  module: Module,
  options: DepthSchemeOptions = {},
): { encoder: DeepNormScale; decoder: DeepNormScale } {
  const op = 'deepNorm_';
  const { encoder, decoder } = layersIn(op, module);
  const rest = optionsArg(op, options, ['generator']);
  if ([...encoder, ...decoder].some(({ normFirst }) => normFirst))
    throw argumentError(op, 'module', 'post-norm layers', 'normFirst: true', 'make them with normFirst: false');
  const scales = deepNormScales(encoder.length, decoder.length);
  for (const [layers, { alpha, beta }] of [
    [encoder, scales.encoder],
    [decoder, scales.decoder],
  ] as const)
    for (const layer of layers) {
      xavierLayer_(op, layer, beta, rest);
      layer.residualScale = alpha;
    }
  return scales;
}
