/**
 * Cross entropy of the logits of a linear map, without the logits. Rows are taken in chunks, and the logits of a chunk
 * become its losses and its share of the gradients at once (Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary
 * Language Models", https://arxiv.org/abs/2411.09009; Hsu et al. 2024, "Liger Kernel",
 * https://arxiv.org/abs/2410.10989):
 *
 *   z = h W^T + b,  loss = crossEntropy(z, t),  dz = softmax(z) - t,  dh = dz W,  dW += dz^T h,  db += sum dz
 *
 * h [n, k], W [v, k], b [v], t [n]. Beside the gradients there is room for the z of one chunk, which its dz replaces,
 * and a block of dW.
 *
 * The gradients are those of the sum of the losses; backward multiplies them by d total / d loss, which for 'sum' and
 * 'mean' is one number for all rows (and in float16 would often be too small to multiply dz by). For 'none' it differs
 * between rows, so backward takes the chunks once more.
 */
import { FoveaError } from '../errors.js';
import { propagate } from '../autograd/engine.js';
import { attach, edgeOf, Node, record, save, wantsGradient, type Edge, type Gradient } from '../autograd/node.js';
import { argumentError, countArg, integerArg, optionsArg, probabilityArg, shapeError } from '../tensor/check.js';
import { accumulatorOf, Code, dtypeBytes, isFloat } from '../tensor/dtype.js';
import { sameShape, sizeOf } from '../tensor/layout.js';
import { runUnder } from '../tensor/modes.js';
import type { Slot } from '../tensor/slot.js';
import { allocate } from '../tensor/storage.js';
import { alias, live, slotOf, Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { lowered, toLowered } from './autocast.js';
import { sumOver } from './broadcast.js';
import { castTo } from './cast.js';
import { filled } from './creation.js';
import { div, maximum } from './elementwise.js';
import { kernels } from './kernels.gen.js';
import { countTargets, reductionArg, type Reduction } from './loss-common.js';
import { crossEntropy, type CrossEntropyOptions } from './loss.js';
import { linear } from './linear.js';
import { resultType } from './promote.js';
import { sum } from './reduce.js';
import { narrow, reshape, transpose, unsqueeze } from './shape.js';

/** Logits of a chunk, by default. */
const CHUNK_BYTES = 40 << 20;
/** Its most rows where there are many classes: so far products that sum over them pack no operand whole. */
const MANY_CLASSES = 8192;
const ROWS_OF_MANY = 512;
/** Of dW at a time: what is added is still in the cache. */
const BLOCK_BYTES = 4 << 20;

/** Options of `linearCrossEntropy`. */
export interface LinearCrossEntropyOptions extends Omit<CrossEntropyOptions, 'weight'> {
  /** [v], added to the logits. */
  bias?: Tensor | null;
  /** Rows whose logits exist at the same time; default: as many as fit in 40 MB, 512 of more than 8192 classes. */
  chunkSize?: number;
}

const inputNames = ['hidden', 'weight', 'bias'] as const;
type Inputs<T> = Partial<Record<(typeof inputNames)[number], T>>;
/** What the chunks are computed from. */
interface Operands {
  hidden: Tensor;
  weight: Tensor;
  bias: Tensor | undefined;
  target: Tensor;
}
interface Plan {
  reduction: Reduction;
  ignoreIndex: number;
  labelSmoothing: number;
  /** Rows of a chunk. */
  rows: number;
  /** The code of the dtype of losses and sums. */
  sums: number;
  /** The codes of the dtypes that the gradients get. */
  dtypes: Inputs<number>;
}

function writeRows(y: Tensor, at: number, x: Tensor): void {
  kernels.copy_({ y: narrow(y, 0, at, x.shape[0]!), x }, {});
}

/** dW += dz^T h, block by block of classes, so that no second dW exists. */
function addOuter(dW: Tensor, dz: Tensor, h: Tensor): void {
  const [v, k] = dW.shape as [number, number];
  const { dtype } = dW.slot!;
  const block = Math.max(1, Math.floor(BLOCK_BYTES / (Math.max(1, k) * dtypeBytes[dtype]!)));
  for (let at = 0; at < v; at += block) {
    const n = Math.min(block, v - at);
    tidy(() => {
      const part = kernels.matmul({ a: transpose(narrow(dz, 1, at, n), 0, 1), b: h }, {}).c;
      kernels.add_({ a: narrow(dW, 0, at, n), b: castTo(part, dtype) }, {});
    });
  }
}

/** The losses of rows `at` to `at + n`, and with `dloss` their share of the gradients. */
function takeChunk(o: Operands, plan: Plan, at: number, losses: Tensor, dloss: Tensor | undefined, d: Inputs<Tensor>) {
  const n = Math.min(plan.rows, losses.shape[0]! - at);
  const { ignoreIndex, labelSmoothing } = plan;
  const attrs = { ignoreIndex, labelSmoothing };
  const h = narrow(o.hidden, 0, at, n);
  const target = narrow(o.target, 0, at, n);
  const bias = o.bias && unsqueeze(o.bias, 0);
  const z = kernels.matmul({ a: h, b: transpose(o.weight, 0, 1), bias }, {}).c;
  const { loss, lse } = kernels.crossEntropy({ logits: z, target }, attrs);
  writeRows(losses, at, loss);
  if (dloss === undefined) return;
  kernels.crossEntropyBackward_({ logits: z, target, lse, dloss: narrow(dloss, 0, at, n) }, attrs);
  const dz = z;
  if (d.hidden) writeRows(d.hidden, at, kernels.matmul({ a: dz, b: o.weight }, {}).c);
  if (d.weight) addOuter(d.weight, dz, h);
  if (d.bias) kernels.add_({ a: d.bias, b: castTo(sumOver(dz, [0]), plan.sums) }, {});
}

/**
 * All chunks, one after the other.
 *
 * @param dloss [n], d total / d loss; undefined: no gradients
 * @returns losses [n] and the gradients of the inputs named by `wants`, in the dtype of sums
 */
function takeChunks(
  o: Operands,
  plan: Plan,
  dloss: Tensor | undefined,
  wants: readonly string[],
): { losses: Tensor; d: Inputs<Tensor> } {
  const { device } = o.hidden.slot!;
  const [n] = o.hidden.shape as [number];
  const losses = allocate([n], plan.sums, device);
  const d: Inputs<Tensor> = {};
  for (const name of dloss ? inputNames : [])
    if (wants.includes(name)) d[name] = filled('linearCrossEntropy', o[name]!.shape, 0, plan.sums, device);
  for (let at = 0; at < n; at += plan.rows) tidy(() => takeChunk(o, plan, at, losses, dloss, d));
  return { losses, d };
}

/** For the gradients of the sum of the losses. */
const unitGradient = ({ target }: Operands, { sums }: Plan): Tensor =>
  filled('linearCrossEntropy', target.shape, 1, sums, target.slot!.device);

class LinearCrossEntropyNode extends Node {
  readonly #plan: Plan;
  /** Gradients of the sum, until backward has taken them. */
  #ready: Inputs<Slot> | null;

  constructor(operands: Operands, plan: Plan, d: Inputs<Tensor>) {
    const { hidden, weight, bias, target } = operands;
    const edges: (Edge | null)[] = [edgeOf(hidden), edgeOf(weight), edgeOf(bias)];
    const saved = [save('hidden', hidden, 0), save('weight', weight, 1), save('target', target, 3)];
    if (bias) saved.push(save('bias', bias, 2));
    super('linearCrossEntropy', edges, saved);
    this.#plan = plan;
    this.#ready = plan.reduction === 'none' ? null : {};
    for (const name of inputNames) {
      const t = d[name];
      if (!t) continue;
      const slot = live(t);
      slot.users++;
      this.#ready![name] = slot;
    }
  }

  override free(): void {
    for (const slot of Object.values(this.#ready ?? {})) slot.release();
    this.#ready = null;
    super.free();
  }

  override differentiate([dy]: readonly Gradient[], again: boolean): readonly Gradient[] {
    const { hidden, weight, bias, target } = this.values(again);
    const values: Operands = { hidden: hidden!, weight: weight!, bias, target: target! };
    if (again) return this.#composed(values, dy!);
    const d = this.#gradients(values, dy!);
    return inputNames.map((name) => d[name] && castTo(d[name], this.#plan.dtypes[name]!));
  }

  #gradients(o: Operands, dy: Tensor): Inputs<Tensor> {
    const plan = this.#plan;
    const wants = inputNames.filter((_, i) => this.edges[i] !== null);
    if (plan.reduction === 'none') return takeChunks(o, plan, dy, wants).d;
    // A graph that is walked a second time has handed its gradients out.
    const d = this.#take() ?? takeChunks(o, plan, unitGradient(o, plan), wants).d;
    // Where no target counts the gradients are zeros, as those of crossEntropy are.
    const counted = (): Tensor => maximum(countTargets(o.target, plan.ignoreIndex, plan.sums), 1);
    const factor = plan.reduction === 'mean' ? div(dy, counted()) : dy;
    for (const t of Object.values(d)) kernels.mul_({ a: t, b: factor }, {});
    return d;
  }

  #take(): Inputs<Tensor> | undefined {
    const ready = this.#ready;
    this.#ready = null;
    if (ready === null) return undefined;
    return Object.fromEntries(Object.entries(ready).map(([name, slot]) => [name, new Tensor(slot)]));
  }

  /** To be differentiated again, all logits are computed, and so are the gradients, by ops that record themselves. */
  #composed({ target, ...values }: Operands, dy: Tensor): readonly Gradient[] {
    const { reduction, ignoreIndex, labelSmoothing } = this.#plan;
    // Fresh nodes before the inputs bound the inner walk.
    const x = inputNames.map((name, i) => {
      const value = values[name];
      return value && (this.edges[i] ? record('input', [value], alias(value), (g) => [g]) : value);
    });
    const logits = linear(x[0]!, x[1]!, x[2]);
    const total = crossEntropy(logits, target, { reduction, ignoreIndex, labelSmoothing });
    const wanted = inputNames.flatMap((_, i) => (this.edges[i] ? [i] : []));
    const gradients = propagate([total], [dy], {
      inputs: wanted.map((i) => x[i]!),
      createGraph: true,
      retainGraph: true,
    });
    const result = new Array<Gradient>(inputNames.length).fill(undefined);
    wanted.forEach((i, at) => (result[i] = gradients[at]));
    return result;
  }
}

function run(operands: Operands, plan: Plan): Tensor {
  const wanted = [operands.hidden, operands.weight, operands.bias].map(wantsGradient);
  const wants = inputNames.filter((_, i) => wanted[i]);
  const atOnce = wants.length > 0 && plan.reduction !== 'none';
  const { total, d } = runUnder({ recording: false, autocast: null }, () => {
    const found = takeChunks(operands, plan, atOnce ? unitGradient(operands, plan) : undefined, wants);
    return { total: reduce(found.losses, operands.target, plan), d: found.d };
  });
  if (wants.length > 0) attach(total, new LinearCrossEntropyNode(operands, plan, d), 0);
  for (const t of Object.values(d)) t.dispose();
  return total;
}

function reduce(losses: Tensor, target: Tensor, { reduction, ignoreIndex, sums }: Plan): Tensor {
  if (reduction === 'none') return losses;
  const total = sum(losses);
  return reduction === 'sum' ? total : div(total, countTargets(target, ignoreIndex, sums));
}

const optionNames = ['bias', 'chunkSize', 'reduction', 'ignoreIndex', 'labelSmoothing'] as const;

function checkShapes(hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | undefined): void {
  const op = 'linearCrossEntropy';
  const { shape } = slotOf(hidden, op, 'hidden');
  const w = slotOf(weight, op, 'weight').shape;
  const t = slotOf(target, op, 'target');
  if (shape.length === 0 || w.length !== 2 || shape.at(-1) !== w[1])
    throw shapeError(
      op,
      `hidden [${shape.join(',')}] needs a weight [v,${shape.at(-1) ?? 1}], received [${w.join(',')}]`,
    );
  if (isFloat(t.dtype) || t.dtype === Code.bool)
    throw new FoveaError('FOVEA_DTYPE', `${op}: expected class numbers (int64) for target, received ${target.dtype}`);
  if (!sameShape(t.shape, shape.slice(0, -1)))
    throw shapeError(
      op,
      `hidden [${shape.join(',')}] needs a target [${shape.slice(0, -1).join(',')}], received [${t.shape.join(',')}]`,
    );
  if (bias && !sameShape(slotOf(bias, op, 'bias').shape, [w[0]!]))
    throw shapeError(op, `the weight [${w.join(',')}] needs a bias [${w[0]}], received [${bias.shape.join(',')}]`);
}

/** What the operands promote to, or what `autocast` makes of it. @throws FOVEA_DTYPE for integers and bool */
function dtypeOf(tensors: readonly Tensor[]): number {
  const code = lowered(resultType(tensors));
  if (isFloat(code)) return code;
  throw new FoveaError(
    'FOVEA_DTYPE',
    `linearCrossEntropy: expected floats for hidden and weight, received ${tensors.map((t) => t.dtype).join(' and ')}; convert them with .to('float32')`,
  );
}

/**
 * `crossEntropy(linear(hidden, weight, bias), target)` without the logits of all rows, which for large vocabularies are
 * the largest tensor of a model (Wijmans et al. 2024, https://arxiv.org/abs/2411.09009). Beyond inputs and gradients it
 * takes about the logits of a chunk. Where a gradient is wanted, 'mean' and 'sum' compute it along with the loss,
 * and 'none' in backward.
 *
 * @param hidden [..., k], floats
 * @param weight [v, k], floats
 * @param target [...], class numbers (integers)
 * @returns 0-d, or with reduction 'none' the losses in the shape of the target; float32 (float64 for float64). The mean
 *   over no targets is NaN
 * @throws FOVEA_SHAPE for operands that do not fit, FOVEA_DTYPE for operands that are no floats or a target of floats
 *   or bool, FOVEA_ARGUMENT for options out of range; rejects with FOVEA_INDEX if a target is neither a class nor
 *   `ignoreIndex`
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  target: Tensor,
  options?: LinearCrossEntropyOptions,
): Tensor {
  const op = 'linearCrossEntropy';
  const given = optionsArg(op, options, optionNames);
  const { ignoreIndex = -100, labelSmoothing = 0, chunkSize } = given;
  const bias = given.bias ?? undefined;
  const reduction = reductionArg(op, given.reduction);
  integerArg(op, 'ignoreIndex', ignoreIndex);
  probabilityArg(op, 'labelSmoothing', labelSmoothing);
  checkShapes(hidden, weight, target, bias);
  const code = dtypeOf(bias ? [hidden, weight, bias] : [hidden, weight]);
  const [v, k] = weight.shape as [number, number];
  if (v === 0) throw argumentError(op, 'weight', 'at least one class [v,k]', weight.shape);
  const most = v > MANY_CLASSES ? ROWS_OF_MANY : Infinity;
  const fitting = Math.max(1, Math.min(most, Math.floor(CHUNK_BYTES / (v * dtypeBytes[code]!))));
  const n = sizeOf(target.shape);
  const operands = {
    hidden: toLowered(reshape(hidden, [n, k]), code),
    weight: toLowered(weight, code),
    bias: bias && toLowered(bias, code),
    target: reshape(castTo(target, Code.int64), [n]),
  };
  const dtypes = { hidden: hidden.slot!.dtype, weight: weight.slot!.dtype, ...(bias && { bias: bias.slot!.dtype }) };
  const rows = chunkSize === undefined ? fitting : countArg(op, 'chunkSize', chunkSize, 1);
  const plan = { reduction, ignoreIndex, labelSmoothing, rows, sums: accumulatorOf(code), dtypes };
  const total = run(operands, plan);
  return reduction === 'none' ? reshape(total, target.shape) : total;
}
