/**
 * GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"), with Hugging Face's names:
 *
 *   h = wte[token] + wpe[position]
 *   h = h + c_proj(attention(c_attn(ln_1(h))));  h = h + mlp(ln_2(h))     for each block
 *   logits = ln_f(h) · lm_headᵀ
 *
 * B sequences of n new tokens, m = all tokens so far; shapes below use these.
 */
import {
  addmm,
  arange,
  attention,
  concat,
  crossEntropy,
  empty,
  fullLike,
  linearCrossEntropy,
} from '../../ops/index.js';
import type { FusedActivation } from '../../ops/index.js';
import { Mask } from '../../ops/mask.js';
import { checkpoint } from '../../autograd/checkpoint.js';
import { FoveaError } from '../../errors.js';
import { type Activation, activationOf, fusedActivation } from '../../nn/activations.js';
import { attentionWithWeights } from '../../nn/attention-weights.js';
import { Dropout } from '../../nn/dropout.js';
import { Embedding } from '../../nn/embedding.js';
import { normal_, zeros_ } from '../../nn/init.js';
import { AffineLayer, Linear } from '../../nn/linear.js';
import { LoraLinear, LoraTerm, LoraTerms } from '../../nn/lora-layer.js';
import { Module, runsOnly } from '../../nn/module.js';
import { addThenNorm, LayerNorm } from '../../nn/norm.js';
import { parameter } from '../../nn/parameter.js';
import { QuantizedLinear } from '../../nn/quantized-linear.js';
import type { Dtype } from '../../tensor/dtype.js';
import { argumentError, optionsArg } from '../../tensor/check.js';
import { getAutocastDtype } from '../../tensor/modes.js';
import { slotOf, type Tensor } from '../../tensor/tensor.js';
import { KvCache } from '../../generate/kv-cache.js';
import type { CausalLMInput, CausalLMOutput } from '../../generate/language-model.js';
import { CausalLM } from '../causal-lm.js';
import { type GPT2Config, gpt2Config, gpt2ConfigToJson, type GPT2Options } from './config.js';

/** What attention may see and what it should return. */
interface AttentionContext {
  /** Beside causality and `real`; undefined if there is nothing. */
  mask: Mask | undefined;
  /** Bool [B, 1, 1, m], true where a key is real; undefined if all are. */
  real: Tensor | undefined;
  cache: KvCache | undefined;
  outputAttentions: boolean;
}

/** Like Linear, but with the weight as [in, out], as GPT-2's checkpoints have it. */
class Conv1D extends AffineLayer {
  override weight: Tensor;
  override bias: Tensor;

  constructor(inputs: number, outputs: number, std: number) {
    super();
    this.weight = parameter(normal_(empty([inputs, outputs]), 0, std));
    this.bias = parameter(zeros_(empty([outputs])));
  }

  override get matrix(): Tensor {
    return this.weight.transpose(0, 1);
  }

  /** @param activation applied to the result by the same kernel, where no gradient is wanted */
  override forward(x: Tensor, activation?: FusedActivation): Tensor {
    const rows = x.reshape([-1, x.shape.at(-1)!]);
    return addmm(this.bias, rows, this.weight, activation && { activation }).reshape([
      ...x.shape.slice(0, -1),
      this.bias.shape[0]!,
    ]);
  }
}

class GPT2Attention extends Module {
  static override readonly stateDictKeys = { cAttn: 'c_attn', cProj: 'c_proj' };
  readonly layer: number;
  readonly nHead: number;
  readonly attnPdrop: number;
  readonly scale: number;
  cAttn: Conv1D | QuantizedLinear | LoraLinear;
  cProj: Conv1D | QuantizedLinear | LoraLinear;
  residDropout: Dropout;

  constructor(config: GPT2Config, layer: number) {
    super();
    const { nEmbd, nHead, initializerRange: std, nLayer } = config;
    this.layer = layer;
    this.nHead = nHead;
    this.attnPdrop = config.attnPdrop;
    const widthScale = config.scaleAttnWeights ? 1 / Math.sqrt(nEmbd / nHead) : 1;
    this.scale = config.scaleAttnByInverseLayerIdx ? widthScale / (layer + 1) : widthScale;
    this.cAttn = new Conv1D(nEmbd, 3 * nEmbd, std);
    // Each of the 2 · nLayer sums into the residual stream adds variance; this keeps the total (section 2.3).
    this.cProj = new Conv1D(nEmbd, nEmbd, std / Math.sqrt(2 * nLayer));
    this.residDropout = new Dropout(config.residPdrop);
  }

  /** @returns output [B, n, nEmbd]; weights [B, nHead, n, m] if asked for */
  override forward(x: Tensor, context: AttentionContext): { output: Tensor; weights: Tensor | undefined } {
    const [batch, n, width] = x.shape as [number, number, number];
    const heads = this.cAttn
      .forward(x)
      .reshape([batch, n, 3, this.nHead, width / this.nHead])
      .permute([2, 0, 3, 1, 4]);
    const [q, k, v] = heads.unbind(0) as [Tensor, Tensor, Tensor];
    const past = context.cache?.update(this.layer, k, v) ?? { k, v };
    const { output, weights } = this.#attend(q, past.k, past.v, context);
    const merged = output.transpose(1, 2).reshape([batch, n, width]);
    return { output: this.residDropout.forward(this.cProj.forward(merged)), weights };
  }

  #attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    { mask: given, real, outputAttentions }: AttentionContext,
  ): { output: Tensor; weights: Tensor | undefined } {
    const { scale } = this;
    const dropoutP = this.training ? this.attnPdrop : 0;
    const mask = given && real ? given.and(real) : (given ?? real);
    // Query i is position m - n + i.
    const asked = { mask, causal: 'bottomRight', scale, dropoutP } as const;
    if (outputAttentions) return attentionWithWeights(q, k, v, asked);
    return { output: attention(q, k, v, asked), weights: undefined };
  }
}

class GPT2MLP extends Module {
  static override readonly stateDictKeys = { cFc: 'c_fc', cProj: 'c_proj' };
  readonly act: Activation;
  cFc: Conv1D | QuantizedLinear | LoraLinear;
  cProj: Conv1D | QuantizedLinear | LoraLinear;
  dropout: Dropout;

  constructor({ nEmbd, nInner, nLayer, initializerRange: std, activationFunction, residPdrop }: GPT2Config) {
    super();
    this.act = activationOf(activationFunction);
    this.cFc = new Conv1D(nEmbd, nInner, std);
    this.cProj = new Conv1D(nInner, nEmbd, std / Math.sqrt(2 * nLayer));
    this.dropout = new Dropout(residPdrop);
  }

  override forward(x: Tensor): Tensor {
    return this.dropout.forward(this.cProj.forward(this.#expand(x)));
  }

  #expand(x: Tensor): Tensor {
    const fused = fusedActivation(this.act);
    const { cFc } = this;
    if (fused !== undefined && cFc instanceof Conv1D && runsOnly(cFc, Conv1D)) return cFc.forward(x, fused);
    return this.act(cFc.forward(x));
  }
}

class GPT2Block extends Module {
  static override readonly stateDictKeys = { ln1: 'ln_1', ln2: 'ln_2' };
  ln1: LayerNorm;
  attn: GPT2Attention;
  ln2: LayerNorm;
  mlp: GPT2MLP;

  constructor(config: GPT2Config, layer: number) {
    super();
    const eps = config.layerNormEpsilon;
    this.ln1 = new LayerNorm(config.nEmbd, { eps });
    this.attn = new GPT2Attention(config, layer);
    this.ln2 = new LayerNorm(config.nEmbd, { eps });
    this.mlp = new GPT2MLP(config);
  }

  override forward(x: Tensor, context: AttentionContext): { hidden: Tensor; weights: Tensor | undefined } {
    const { output, weights } = this.attn.forward(this.ln1.forward(x), context);
    const { sum: attended, y } = addThenNorm(this.ln2, output, x);
    return { hidden: attended.add(this.mlp.forward(y)), weights };
  }

  /** The same, but that backward computes it again instead of keeping it. */
  recomputed(x: Tensor, { real, ...context }: AttentionContext): { hidden: Tensor; weights: Tensor | undefined } {
    const run = (h: Tensor, r: Tensor | undefined): [Tensor, Tensor | undefined] => {
      const { hidden, weights } = this.forward(h, { ...context, real: r });
      return [hidden, weights];
    };
    const [hidden, weights] = checkpoint(run, x, real);
    return { hidden, weights };
  }
}

/** The model below its head. */
class GPT2Model extends Module {
  readonly config: GPT2Config;
  wte: Embedding;
  wpe: Embedding;
  drop: Dropout;
  h: GPT2Block[];
  lnF: LayerNorm;

  constructor(config: GPT2Config) {
    super();
    this.config = config;
    this.wte = new Embedding(config.vocabSize, config.nEmbd);
    this.wpe = new Embedding(config.nPositions, config.nEmbd);
    for (const { weight } of [this.wte, this.wpe]) normal_(weight, 0, config.initializerRange);
    this.drop = new Dropout(config.embdPdrop);
    this.h = Array.from({ length: config.nLayer }, (_, layer) => new GPT2Block(config, layer));
    this.lnF = new LayerNorm(config.nEmbd, { eps: config.layerNormEpsilon });
  }

  #embed({ inputIds, positionIds, pastKeyValues: cache }: CausalLMInput): Tensor {
    const [, n] = inputIds.shape as [number, number];
    const past = cache?.length ?? 0;
    const { nPositions } = this.config;
    if (past + n > nPositions) {
      throw new FoveaError(
        'FOVEA_ARGUMENT',
        `GPT2: ${past + n} positions, but the model has ${nPositions} (nPositions); shorten the input`,
      );
    }
    const positions =
      positionIds ?? cache?.positions(n) ?? arange(0, n, 1, { dtype: 'int64', device: inputIds.device });
    return this.drop.forward(this.wte.forward(inputIds).add(this.wpe.forward(positions)));
  }

  /** @returns hidden states after the embeddings and after each block, the last one normalised; weights by block */
  override forward(input: CausalLMInput, recompute = false): { hidden: Tensor[]; attentions: Tensor[] } {
    const { attentionMask, mask, outputAttentions = false, outputHiddenStates = false, pastKeyValues: cache } = input;
    const [batch, n] = input.inputIds.shape as [number, number];
    const real = attentionMask?.to('bool').reshape([batch, 1, 1, (cache?.length ?? 0) + n]);
    let x = this.#embed(input);
    const hidden = [x];
    const attentions: Tensor[] = [];
    for (const block of this.h) {
      const context = { mask, real, cache, outputAttentions };
      const result = recompute ? block.recomputed(x, context) : block.forward(x, context);
      x = result.hidden;
      hidden.push(x);
      if (result.weights) attentions.push(result.weights);
    }
    cache?.advance(n);
    // Hugging Face's last hidden state is the normalised one.
    const last = this.lnF.forward(x);
    return { hidden: outputHiddenStates ? [...hidden.slice(0, -1), last] : [last], attentions };
  }
}

/** GPT-2 with its language-model head. */
export class GPT2LMHeadModel extends CausalLM {
  override readonly config: GPT2Config;
  /** Embeddings, blocks and the last norm. */
  transformer: GPT2Model;
  /** Width to vocabulary. */
  lmHead: Linear | QuantizedLinear | LoraLinear;

  /** Freshly initialised as in the paper; `load` reads a checkpoint instead. */
  constructor(options: Partial<GPT2Options> = {}) {
    super();
    this.config = gpt2Config(options);
    const { nEmbd, vocabSize, initializerRange, tieWordEmbeddings } = this.config;
    this.transformer = new GPT2Model(this.config);
    const head = new Linear(nEmbd, vocabSize, { bias: false });
    if (tieWordEmbeddings) {
      head.weight.dispose();
      head.weight = this.transformer.wte.weight;
    } else normal_(head.weight, 0, initializerRange);
    this.lmHead = head;
  }

  /** Checkpoints of the bare model lack the prefix, and old ones hold the causal mask, which is no parameter. */
  override checkpointKey(key: string): string | undefined {
    if (/(^|\.)h\.\d+\.attn\.(bias|masked_bias)$/.test(key)) return undefined;
    return key.startsWith('transformer.') || key.startsWith('lm_head.') ? key : `transformer.${key}`;
  }

  override configJson(): Record<string, unknown> {
    return gpt2ConfigToJson(this.config);
  }

  /** Unless it trains, or a module of it has a hook or another `forward`. */
  override get recordable(): boolean {
    return this.modules().every((module) => !module.training && parts.some((type) => runsOnly(module, type)));
  }

  override makeCache(batch: number, capacity: number): KvCache {
    const { nLayer: layers, nHead: heads, nEmbd } = this.config;
    const { dtype: own } = this.transformer.wte.weight;
    // Under autocast keys and values come in its dtype, and attention wants them in it.
    const dtype: Dtype = own === 'float64' ? own : (getAutocastDtype() ?? own);
    return new KvCache({ layers, batch, heads, capacity, headDim: nEmbd / heads, dtype, device: this.device });
  }

  override forward(input: CausalLMInput): CausalLMOutput {
    checkInput(input);
    const { inputIds, labels, logitsToKeep = 0, outputLogits = true, outputHiddenStates, outputAttentions } = input;
    const [batch, n] = inputIds.shape as [number, number];
    // A cache grows with each run of a block.
    const recompute = this.gradientCheckpointing && this.training && input.pastKeyValues === undefined;
    const { hidden, attentions } = this.transformer.forward(input, recompute);
    const last = hidden.at(-1)!;
    const kept = logitsToKeep > 0 && logitsToKeep < n ? last.narrow(1, n - logitsToKeep, logitsToKeep) : last;
    const logits = outputLogits
      ? this.lmHead.forward(kept)
      : empty([batch, 0, this.config.vocabSize], { dtype: last.dtype, device: last.device });
    return {
      logits,
      ...(outputHiddenStates ? { hiddenStates: hidden } : {}),
      ...(outputAttentions ? { attentions } : {}),
      ...(labels && outputLogits ? { loss: nextTokenLoss(logits, labels) } : {}),
      ...(labels && !outputLogits ? { loss: this.#lossWithoutLogits(last, labels) } : {}),
    };
  }

  /**
   * The loss of hidden states [B, n, width], whose logits exist all at once only where the head is more than a weight.
   */
  #lossWithoutLogits(hidden: Tensor, labels: Tensor): Tensor {
    const { lmHead } = this;
    if (!(lmHead instanceof Linear && runsOnly(lmHead, Linear))) return nextTokenLoss(lmHead.forward(hidden), labels);
    return linearCrossEntropy(hidden, lmHead.weight, nextTokens(labels));
  }
}

/** Modules whose `forward` queues the same ops whatever it is given. */
const parts = [
  GPT2LMHeadModel,
  GPT2Model,
  GPT2Block,
  GPT2Attention,
  GPT2MLP,
  Conv1D,
  QuantizedLinear,
  LoraLinear,
  LoraTerms,
  LoraTerm,
  Linear,
  Embedding,
  LayerNorm,
  Dropout,
];

const inputNames = [
  'inputIds',
  'attentionMask',
  'mask',
  'positionIds',
  'labels',
  'pastKeyValues',
  'logitsToKeep',
  'outputLogits',
  'outputHiddenStates',
  'outputAttentions',
] as const;

function checkInput(input: CausalLMInput): void {
  const { inputIds, labels, logitsToKeep, attentionMask, mask, pastKeyValues } = optionsArg('GPT2', input, inputNames);
  slotOf(inputIds, 'GPT2', 'inputIds');
  if (mask !== undefined && !(mask instanceof Mask))
    throw argumentError('GPT2', 'mask', 'a mask', mask, 'masks are made by mask.documents(ids) and the like');
  if (inputIds.rank !== 2) {
    throw new FoveaError('FOVEA_SHAPE', `GPT2: inputIds must be [batch, tokens], but has shape [${inputIds.shape}]`);
  }
  const [batch, n] = inputIds.shape as [number, number];
  const all = (pastKeyValues?.length ?? 0) + n;
  if (attentionMask && String(attentionMask.shape) !== String([batch, all])) {
    throw new FoveaError(
      'FOVEA_SHAPE',
      `GPT2: attentionMask must be [${batch}, ${all}], past tokens included, but has shape [${attentionMask.shape}]`,
    );
  }
  if (!labels) return;
  if (logitsToKeep) throw new FoveaError('FOVEA_ARGUMENT', 'GPT2: labels need all logits; leave out logitsToKeep');
  if (String(labels.shape) !== String(inputIds.shape)) {
    throw new FoveaError(
      'FOVEA_SHAPE',
      `GPT2: labels must have the shape of inputIds [${inputIds.shape}], but has [${labels.shape}]`,
    );
  }
}

/** What each position has to predict; nothing (-100) at the last. Moving the labels spares moving the logits. */
function nextTokens(labels: Tensor): Tensor {
  return concat([labels.slice(1, 1), fullLike(labels.narrow(1, 0, 1), -100)], 1);
}

/** Mean cross entropy of each token given those before it; labels of -100 do not count. */
function nextTokenLoss(logits: Tensor, labels: Tensor): Tensor {
  const [batch, n, vocabulary] = logits.shape as [number, number, number];
  return crossEntropy(logits.reshape([batch * n, vocabulary]), nextTokens(labels).reshape([batch * n]));
}
