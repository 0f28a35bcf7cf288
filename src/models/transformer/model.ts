/**
 * The transformer as its paper has it (Vaswani et al. 2017, "Attention Is All You Need",
 * https://arxiv.org/abs/1706.03762):
 *
 *   x = dropout(sqrt(d) E[source] + P);  memory = encoder(x)                         P: sinusoids of positions
 *   y = decoder(dropout(sqrt(d) E[target] + P), memory);  logits = y Eᵀ
 *
 * with one table E for sources, targets and logits (section 3.4). B sources of S tokens, targets of L. `generate` keeps
 * keys and values, so that a token costs one position of the decoder.
 */
import { FoveaError } from '../../errors.js';
import { noGrad } from '../../autograd/backward.js';
import { beamSearch } from '../../generate/beam-search.js';
import { EncoderDecoderCache } from '../../generate/encoder-decoder-cache.js';
import { Embedding } from '../../nn/embedding.js';
import { normal_ } from '../../nn/init.js';
import { Linear } from '../../nn/linear.js';
import { Module } from '../../nn/module.js';
import { SinusoidalPositionalEncoding } from '../../nn/positions.js';
import { Transformer } from '../../nn/transformer.js';
import { crossEntropy, indexSelect, linear, narrow, tensor } from '../../ops/index.js';
import { argumentError, optionsArg } from '../../tensor/check.js';
import type { Device } from '../../tensor/device.js';
import { slotOf, type Tensor } from '../../tensor/tensor.js';
import { tidy } from '../../tensor/tidy.js';
import { type LoadOptions, loadPretrained, savePretrained } from '../pretrained.js';
import {
  type TransformerConfig,
  transformerConfig,
  transformerConfigFromJson,
  transformerConfigToJson,
  type TransformerOptions,
} from './config.js';

/** Arguments of {@link Seq2SeqTransformer.forward}. */
export interface Seq2SeqInput {
  /** int64 [B, S], padded at the end with `padTokenId`. */
  inputIds: Tensor;
  /** [B, S]; 1 or true where a source token is real (default: where it is not `padTokenId`). */
  attentionMask?: Tensor | undefined;
  /** int64 [B, L]: what the decoder has read, `bosTokenId` first. */
  decoderInputIds: Tensor;
  /** int64 [B, L]: what it should say, `eosTokenId` last; neither `padTokenId` nor -100 counts. */
  labels?: Tensor | undefined;
}

/** Results of {@link Seq2SeqTransformer.forward}. */
export interface Seq2SeqOutput {
  /** [B, L, vocabulary] */
  logits: Tensor;
  /** Mean cross entropy in nats, smoothed in training, a scalar, if there were labels. */
  loss?: Tensor;
}

/** Options of {@link Seq2SeqTransformer.generate}. */
export interface Seq2SeqGenerateOptions {
  /** int64 [B, S], padded at the end with `padTokenId`. */
  inputIds: Tensor;
  /** Default 20. */
  maxNewTokens?: number;
  /** Continuations carried on (default 1: greedy; the paper has 4). */
  numBeams?: number;
  /** Exponent of the length by which sums of log-probabilities are divided (default 1). */
  lengthPenalty?: number;
  /** See `beamSearch`. */
  earlyStopping?: boolean;
  /** Ends the generation: it then rejects with FOVEA_ABORTED. */
  signal?: AbortSignal;
}

/**
 * Encoder and decoder with embeddings and head. Keys: `shared.weight`, `transformer.*`, and `lm_head.weight` unless
 * tied.
 */
export class Seq2SeqTransformer extends Module {
  static override readonly stateDictKeys = { lmHead: 'lm_head' };
  /** Sizes and tokens. */
  readonly config: TransformerConfig;
  /** Of sources, targets and, where tied, logits. */
  shared: Embedding;
  /** Adds positions. */
  positions: SinusoidalPositionalEncoding;
  /** Both stacks. */
  transformer: Transformer;
  /** Width to vocabulary, where it is not tied. */
  lmHead: Linear | undefined;

  constructor(options: Partial<TransformerOptions> & Pick<TransformerOptions, 'vocabSize'>) {
    super();
    this.config = transformerConfig(options);
    const { vocabSize, dModel, dropout, padTokenId, tieWordEmbeddings, ...rest } = this.config;
    const { nHead, numEncoderLayers, numDecoderLayers, dimFeedforward, activation, normFirst } = rest;
    this.shared = new Embedding(vocabSize, dModel);
    // Times sqrt(d) in the input, and without it in the logits, both have a variance near 1.
    normal_(this.shared.weight, 0, dModel ** -0.5);
    noGrad(() => tidy(() => void this.shared.weight.select(0, padTokenId).zero_()));
    this.positions = new SinusoidalPositionalEncoding(dModel, { dropout, batchFirst: true });
    const layers = { dModel, nHead, dimFeedforward, dropout, activation, normFirst, batchFirst: true };
    this.transformer = new Transformer({ ...layers, numEncoderLayers, numDecoderLayers });
    this.lmHead = tieWordEmbeddings ? undefined : new Linear(dModel, vocabSize, { bias: false });
  }

  /**
   * Loads a model that {@link savePretrained} saved (`config.json`, `model.safetensors` or shards with an index), in
   * evaluation mode. Weights are mapped, so that loading takes no time and no memory until they are used.
   *
   * @throws FOVEA_UNSUPPORTED or FOVEA_ARGUMENT naming the file and the option that is not supported or does not fit;
   *   FOVEA_FILE_FORMAT; FOVEA_IO; FOVEA_ABORTED
   */
  static fromPretrained(folder: string, options: LoadOptions = {}): Promise<Seq2SeqTransformer> {
    return loadPretrained('Seq2SeqTransformer.fromPretrained', folder, options, (values, file) => {
      const config = transformerConfigFromJson(values, file);
      return { make: () => new Seq2SeqTransformer(config), key: (_, key) => key };
    });
  }

  /**
   * Writes a checkpoint directory: `config.json`, whose keys are the options in snake_case, and `model.safetensors`.
   * Each file is replaced atomically; the weights come last, so a directory without them is an unfinished save.
   *
   * @throws FOVEA_UNSUPPORTED for a model with adapters, which `saveAdapter` saves; FOVEA_IO, FOVEA_ABORTED
   */
  async savePretrained(folder: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    await savePretrained(this, folder, { 'config.json': transformerConfigToJson(this.config) }, options);
  }

  /** Where the weights are: inputs have to be there, too. */
  get device(): Device {
    return this.shared.weight.device;
  }

  /** @param offset the position of the first token */
  #embed(ids: Tensor, offset = 0): Tensor {
    return this.positions.forward(this.shared.forward(ids).mul(Math.sqrt(this.config.dModel)), { offset });
  }

  /** Whether a source is real: bool [B, S]. */
  #real(inputIds: Tensor, attentionMask?: Tensor): Tensor {
    if (!attentionMask) return inputIds.ne(this.config.padTokenId);
    sameShapeArg('attentionMask', attentionMask, 'inputIds', inputIds);
    return attentionMask.to('bool');
  }

  /**
   * @param inputIds int64 [B, S]
   * @param attentionMask [B, S]; 1 or true where a token is real; default: where it is not `padTokenId`
   * @returns what the encoder makes of them, [B, S, dModel]
   */
  encode(inputIds: Tensor, attentionMask?: Tensor): Tensor {
    idsArg('inputIds', inputIds);
    const srcKeyPaddingMask = this.#real(inputIds, attentionMask);
    return this.transformer.encoder.forward(this.#embed(inputIds), { srcKeyPaddingMask });
  }

  /**
   * @param decoderInputIds int64 [B, L]; with a cache, those that are not in it
   * @param memory what `encode` gave, [B, S, dModel]; read by the first call with a cache only
   * @param inputIds int64 [B, S], of which padding is not seen
   * @param attentionMask as of `encode`
   * @param options `pastKeyValues` has keys and values of calls before, and those of this one are appended, without
   *   gradients (default none)
   * @returns hidden states [B, L, dModel], which {@link logitsOf} turns into logits
   */
  decode(
    decoderInputIds: Tensor,
    memory: Tensor,
    inputIds: Tensor,
    attentionMask?: Tensor,
    options: { pastKeyValues?: EncoderDecoderCache | undefined } = {},
  ): Tensor {
    const { pastKeyValues } = optionsArg('Seq2SeqTransformer.decode', options, ['pastKeyValues']);
    const [, added] = idsArg('decoderInputIds', decoderInputIds);
    const hidden = this.transformer.decoder.forward(this.#embed(decoderInputIds, pastKeyValues?.length), memory, {
      tgtIsCausal: true,
      memoryKeyPaddingMask: this.#real(inputIds, attentionMask),
      pastKeyValues: pastKeyValues?.layers,
    });
    pastKeyValues?.advance(added);
    return hidden;
  }

  /** @param hidden [..., dModel] @returns [..., vocabulary] */
  logitsOf(hidden: Tensor): Tensor {
    return this.lmHead ? this.lmHead.forward(hidden) : linear(hidden, this.shared.weight);
  }

  /**
   * Takes the batches of `seq2seqCollator` and `spanCorruptionCollator` as they are.
   *
   * @throws FOVEA_SHAPE for ids that are not [B, n], labels of another shape than `decoderInputIds`, or a mask of
   *   another than `inputIds`
   */
  override forward(input: Seq2SeqInput): Seq2SeqOutput {
    const names = ['inputIds', 'attentionMask', 'decoderInputIds', 'labels'] as const;
    const { inputIds, attentionMask, decoderInputIds, labels } = optionsArg('Seq2SeqTransformer', input, names);
    const memory = this.encode(inputIds, attentionMask);
    const logits = this.logitsOf(this.decode(decoderInputIds, memory, inputIds, attentionMask));
    if (!labels) return { logits };
    sameShapeArg('labels', labels, 'decoderInputIds', decoderInputIds);
    const { vocabSize, padTokenId, labelSmoothing: smoothing } = this.config;
    const counted = labels.maskedFill(labels.eq(padTokenId), -100).reshape([-1]);
    const labelSmoothing = this.training ? smoothing : 0;
    return { logits, loss: crossEntropy(logits.reshape([-1, vocabSize]), counted, { labelSmoothing }) };
  }

  /**
   * Translates. The model must be in evaluation mode for the answer to be the same each time.
   *
   * @returns int64 [B, n]: the tokens behind `bosTokenId`, `eosTokenId` included, filled with `padTokenId`
   * @throws FOVEA_ARGUMENT for options out of range, FOVEA_ABORTED
   */
  async generate(options: Seq2SeqGenerateOptions): Promise<Tensor> {
    const op = 'Seq2SeqTransformer.generate';
    if (options === undefined) throw argumentError(op, 'options', 'an object with inputIds', options);
    const names = ['inputIds', 'maxNewTokens', 'numBeams', 'lengthPenalty', 'earlyStopping', 'signal'] as const;
    const { inputIds, ...search } = optionsArg(op, options, names);
    const [batch] = idsArg('inputIds', inputIds);
    const { bosTokenId, eosTokenId, padTokenId } = this.config;
    const { device } = this;
    const memory = noGrad(() => tidy(() => this.encode(inputIds)));
    const pastKeyValues = new EncoderDecoderCache({ layers: this.transformer.decoder.layers.length });
    try {
      const found = await beamSearch(
        (tokens, sequence, parents) => {
          pastKeyValues.reorder(parents);
          const last = narrow(tokens, 1, tokens.shape[1]! - 1, 1);
          const sources = indexSelect(inputIds, 0, tensor([...sequence], { dtype: 'int64', device }));
          return this.logitsOf(this.decode(last, memory, sources, undefined, { pastKeyValues })).squeeze(1);
        },
        {
          ...search,
          start: Array.from({ length: batch }, () => [bosTokenId]),
          eosTokenIds: [eosTokenId],
          device,
        },
      );
      const longest = Math.max(...found.map(({ tokens }) => tokens.length));
      const padded = found.map(({ tokens }) => Array.from({ length: longest }, (_, i) => tokens[i] ?? padTokenId));
      return tensor(padded, { dtype: 'int64', device });
    } finally {
      memory.dispose();
      pastKeyValues.dispose();
    }
  }
}

/** @throws FOVEA_SHAPE for a tensor of another shape than another argument */
function sameShapeArg(name: string, given: Tensor, like: string, { shape }: Tensor): void {
  if (String(slotOf(given, 'Seq2SeqTransformer', name).shape) === String(shape)) return;
  throw new FoveaError(
    'FOVEA_SHAPE',
    `Seq2SeqTransformer: ${name} must have the shape of ${like} [${shape}], but has [${given.shape}]`,
  );
}

/** @returns its shape @throws FOVEA_SHAPE for what is not [B, n] with a token at least */
function idsArg(name: string, ids: Tensor): [number, number] {
  const { shape } = slotOf(ids, 'Seq2SeqTransformer', name);
  const [batch, n] = shape;
  if (shape.length === 2 && batch && n) return [batch, n];
  throw new FoveaError(
    'FOVEA_SHAPE',
    `Seq2SeqTransformer: ${name} must be [batch, tokens] with a token at least, but has shape [${shape}]`,
  );
}
