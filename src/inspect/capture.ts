/**
 * One call of attention, kept by what its scores are made of (q, k, mask, bias), so that memory is linear in the
 * lengths:
 *
 *   weights[rows] = softmax(scale q[rows] k^T + bias[rows], where mask[rows])
 *
 * is computed when somebody asks, for the rows and heads asked for.
 */
import { noGrad } from '../autograd/backward.js';
import { FoveaError } from '../errors.js';
import { attentionProbabilities, causalCodes, patternVisible, type ScoreAttrs } from '../ops/attention-reference.js';
import { indexSelect, logicalAnd, narrow, tensor, unsqueeze } from '../ops/index.js';
import { optionsArg } from '../tensor/check.js';
import { alias, slotOf, type Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { apart, wide } from './apart.js';
import { headsArg, indexArg, rowsArg } from './arguments.js';
import type { WatchedCall } from './watch.js';

/** Which weights of a capture to compute. */
export interface WeightsOptions {
  /** Queries, from the first to before the second (default: all). */
  rows?: readonly [from: number, to: number];
  /** Heads, in the order wanted (default: all). */
  heads?: readonly number[];
  /** One sequence of the batch (default: all). */
  batch?: number;
}

/** A tensor that is held, and how often its storage had been written to then. */
interface Held {
  readonly tensor: Tensor;
  readonly writes: number;
}

/** The same handle under a tensor that no `tidy` frees, with axes in front until there are `axes`. */
function hold(x: Tensor, axes: number): Held {
  const writes = slotOf(x, 'inspect.observe', 'tensor').sharedVersion().count;
  let held = noGrad(() => alias(x));
  while (held.rank < axes) {
    const grown = noGrad(() => unsqueeze(held, 0));
    held.dispose();
    held = grown;
  }
  return { tensor: keep(held), writes };
}

const heldInputs = ['q', 'k', 'bias', 'mask', 'pattern', 'distance', 'vector'] as const;
const knownTerms: readonly string[] = [
  ...heldInputs,
  'v',
  'scale',
  'causal',
  'maskInPattern',
  'softcap',
  'distanceZero',
  'distanceAligned',
  'lookup',
  'dropoutP',
  'seed',
  'offset',
];
/** What decides scores, but is not known here: better no weights than wrong ones. */
function unknownTerm({ inputs, attrs }: WatchedCall): string | undefined {
  const present = Object.entries({ ...inputs, ...attrs }).filter(([, value]) => Boolean(value));
  return present.map(([name]) => name).find((name) => !knownTerms.includes(name));
}

/** The part of a mask or bias that broadcasts to a part of the scores: an axis of size 1 stays. */
function part(x: Tensor, axis: number, take: (x: Tensor) => Tensor): Tensor {
  return x.shape[axis] === 1 ? x : take(x);
}

/** A call of attention that an observer has seen. All numbers are those of the call. */
export class AttentionCapture implements Disposable {
  /**
   * Dotted name of the module that called, as in state dicts: `transformer.h.0.attn`; '' for the observed model itself.
   */
  readonly module: string;
  /** Which of this module's calls it was since the observer began, or was cleared: 0, 1, … */
  readonly call: number;
  /** Sequences b. */
  readonly batch: number;
  /** Query heads h. */
  readonly heads: number;
  /** Key heads g, which divides h. */
  readonly keyHeads: number;
  /** Queries n. */
  readonly queries: number;
  /** Keys m. */
  readonly keys: number;
  /** Whether query i saw keys j <= i ('topLeft') or j <= i + m - n ('bottomRight') only, beside its mask. */
  readonly causal: 'topLeft' | 'bottomRight' | false;
  /** Factor of the scores. */
  readonly scale: number;
  readonly #held: Partial<Record<(typeof heldInputs)[number], Held>> = {};
  readonly #attrs: ScoreAttrs;
  readonly #unknown: string | undefined;
  #disposed = false;

  /** Observers make these. */
  constructor(watched: WatchedCall, call: number) {
    const { module, inputs, attrs } = watched;
    this.#unknown = unknownTerm(watched);
    this.module = module;
    this.call = call;
    for (const name of heldInputs) {
      const x = inputs[name];
      if (x) this.#held[name] = hold(x, name === 'q' || name === 'k' || name === 'bias' || name === 'mask' ? 4 : 1);
    }
    const [q, k] = [this.#held.q!.tensor.shape, this.#held.k!.tensor.shape];
    [this.batch, this.heads, this.queries] = q as [number, number, number];
    [, this.keyHeads, this.keys] = k as [number, number, number];
    const codes: Record<number, 'topLeft' | 'bottomRight'> = {
      [causalCodes.topLeft]: 'topLeft',
      [causalCodes.bottomRight]: 'bottomRight',
    };
    this.causal = codes[attrs.causal ?? causalCodes.none] ?? false;
    this.scale = attrs.scale ?? 1;
    this.#attrs = attrs;
  }

  /** Whether its tensors were freed. */
  get isDisposed(): boolean {
    return this.#disposed;
  }

  /**
   * The probabilities, before dropout, of the rows and heads asked for. Beside them only their scores are made, and the
   * keys of their heads.
   *
   * @param options.rows e.g. `[0, 64]`; all of them take n · m numbers per head
   * @returns [b, heads, rows, m] (b = 1 with `batch`) in float32, float64 for float64, outside of the graph; a row that
   *   saw no key is zero
   * @throws FOVEA_INDEX for rows, heads or a sequence that are not there, FOVEA_ARGUMENT for other options,
   *   FOVEA_DISPOSED after the observer's end, FOVEA_UNSUPPORTED if q, k, mask or bias were written to since the call,
   *   or where scores have a term that is not known here
   */
  weights(options?: WeightsOptions): Tensor {
    const op = 'AttentionCapture.weights';
    const { rows, heads, batch } = optionsArg(op, options, ['rows', 'heads', 'batch']);
    const [from, to] = rowsArg(op, rows, this.queries);
    const chosen = heads === undefined ? undefined : headsArg(op, heads, this.heads);
    const sequence = batch === undefined ? undefined : indexArg(op, 'batch', batch, this.batch);
    this.#check(op);
    return apart(() => this.#compute(from, to, chosen, sequence));
  }

  #check(op: string): void {
    if (this.#disposed)
      throw new FoveaError(
        'FOVEA_DISPOSED',
        `${op}: the capture of ${this.module || 'the model'} was disposed; ask before its observer ends or is cleared`,
      );
    if (this.#unknown !== undefined)
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        `${op}: ${this.module || 'the model'} attends with ${this.#unknown}, of which no weights can be computed here`,
      );
    for (const [name, { tensor: held, writes }] of Object.entries(this.#held)) {
      const version = slotOf(held, op, name).sharedVersion();
      if (version.count !== writes && !version.appends)
        throw new FoveaError(
          'FOVEA_UNSUPPORTED',
          `${op}: ${name} of ${this.module || 'the model'} was written to since attention read it; ask before that`,
        );
    }
  }

  #compute(from: number, to: number, heads: readonly number[] | undefined, batch: number | undefined): Tensor {
    const { q, k, bias, distance, vector } = this.#held;
    const { maskInPattern = false, ...attrs } = this.#attrs;
    const mask = maskInPattern ? undefined : this.#held.mask;
    const pattern = this.#pattern(from, to);
    const { device } = q!.tensor;
    const index = (list: readonly number[]): Tensor => tensor([...list], { dtype: 'int64', device });
    const ofBatch = (x: Tensor): Tensor => (batch === undefined ? x : part(x, 0, (y) => narrow(y, 0, batch, 1)));
    const ofHeads = (x: Tensor): Tensor => (heads ? part(x, 1, (y) => indexSelect(y, 1, index(heads))) : x);
    const ofRows = (x: Tensor): Tensor => part(x, 2, (y) => narrow(y, 2, from, to - from));
    const shared = this.heads / this.keyHeads;
    const keyHeads = heads && index(heads.map((head) => Math.floor(head / shared)));
    const keys = ofBatch(k!.tensor);
    const queries = narrow(ofBatch(q!.tensor), 2, from, to - from);
    const visible = [mask && ofRows(ofHeads(ofBatch(mask.tensor))), pattern && ofHeads(ofBatch(pattern))].filter(
      (x) => x !== undefined,
    );
    const ofTable = (x: Held | undefined): Tensor | undefined =>
      x && heads && x.tensor.shape[0] !== 1 ? indexSelect(x.tensor, 0, index(heads)) : x?.tensor;
    const { p } = attentionProbabilities(
      {
        q: wide(heads ? indexSelect(queries, 1, index(heads)) : queries),
        k: wide(keyHeads ? indexSelect(keys, 1, keyHeads) : keys),
        bias: bias && wide(ofRows(ofHeads(ofBatch(bias.tensor)))),
        mask: visible.length ? visible.reduce(logicalAnd) : undefined,
        distance: ofTable(distance),
        vector: ofTable(vector),
      },
      attrs,
      { first: from, queries: this.queries },
    );
    return p;
  }

  /** What a mask that is a program shows to some rows, [b, h, to - from, m]. */
  #pattern(from: number, to: number): Tensor | undefined {
    const { pattern, mask } = this.#held;
    if (pattern === undefined) return undefined;
    const { batch: b, heads: h, queries: n, keys: m } = this;
    const read = this.#attrs.maskInPattern ? mask?.tensor : undefined;
    return patternVisible(pattern.tensor, read, [b, h, to - from, m], { first: from, queries: n });
  }

  /** Frees what it holds. Twice is fine. */
  dispose(): void {
    this.#disposed = true;
    for (const { tensor: held } of Object.values(this.#held)) held.dispose();
  }
  /** What `using` calls: `dispose()`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
