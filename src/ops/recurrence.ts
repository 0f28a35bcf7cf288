/**
 * A recurrent layer over a whole sequence, in one direction:
 *
 *   state_t = cell(x_t, W h_{t-1} + b, state_{t-1}),  y_t = h_t
 *
 * Rows lie packed, as in PyTorch's PackedSequence: those of step 0 first, then those of step 1, and so on. Step t has
 * batchSizes[t] rows, never more than the step before, so the sequences of a batch are sorted by length, and each ends
 * where its row is missing. In reverse a sequence starts at its own end: its row joins the state there.
 *
 * Forward keeps of each step what its cell was given. Backward goes through the steps once and writes the gradient g_t
 * of each hidden projection beside the others, so that those of W and b are one product and one sum over all rows:
 *
 *   dh_{t-1} = g_t W + (what the cell hands on),  dW = Σ_t g_tᵀ h_{t-1},  db = Σ_t g_t
 */
import { propagate } from '../autograd/engine.js';
import { attach, edgeOf, Node, record, save, wantsGradient, type Gradient, type Saved } from '../autograd/node.js';
import { runUnder } from '../tensor/modes.js';
import { allocate } from '../tensor/storage.js';
import { alias, type Tensor } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { lowered, toLowered } from './autocast.js';
import { sumOver } from './broadcast.js';
import { emptyLike, filled } from './creation.js';
import { add, sub } from './elementwise.js';
import { concat } from './join.js';
import { kernels } from './kernels.gen.js';
import { linear } from './linear.js';
import { swapped } from './matmul.js';
import { packedFor } from './packed-weights.js';
import { resultType } from './promote.js';
import { type CellKind, cells, type State } from './recurrent-cells.js';
import { narrow, split } from './shape.js';

/** What a sequence is run with. */
export interface RecurrenceInputs {
  /** [rows, gates n]: the projections of all inputs, with their bias. */
  x: Tensor;
  /** [gates n, n] */
  weight: Tensor;
  /** [gates n] */
  bias?: Tensor | undefined;
  /** [batch, n] */
  h: Tensor;
  /** [batch, n], of an LSTM. */
  c?: Tensor | undefined;
}
/** How the rows lie in time. */
export interface Timeline {
  /** Rows of each step: at least one step, and sizes that never grow. */
  readonly batchSizes: readonly number[];
  /** Whether time runs backwards. */
  readonly reverse: boolean;
}
/** What comes out. */
export interface RecurrenceOutput {
  /** [rows, n]: h of every step, as x lies. */
  y: Tensor;
  /** [batch, n]: of each sequence's last step, in the order of time. */
  h: Tensor;
  /** Likewise. */
  c: Tensor | undefined;
}

const inputNames = ['x', 'weight', 'bias', 'h', 'c'] as const;

/** A step: its number, its rows, and where they begin. */
interface Step {
  readonly t: number;
  readonly rows: number;
  readonly begin: number;
}
/** The steps in the order in which they are computed. */
function stepsOf({ batchSizes, reverse }: Timeline): Step[] {
  let begin = 0;
  const steps = batchSizes.map((rows, t) => {
    const step = { t, rows, begin };
    begin += rows;
    return step;
  });
  return reverse ? steps.reverse() : steps;
}

const first = (x: Tensor, rows: number): Tensor => (rows === x.shape[0] ? x : narrow(x, 0, 0, rows));
/** `all` with other first rows. */
function withFirst(all: Tensor, rows: Tensor): Tensor {
  const [n, count] = [all.shape[0]!, rows.shape[0]!];
  return n === count ? rows : concat([rows, narrow(all, 0, count, n - count)]);
}

/** Where forward leaves what backward needs. */
type Keep = (name: string, x: Tensor) => void;

/** All steps, by ops that record themselves where gradients are recorded. */
function unroll(kind: CellKind, inputs: RecurrenceInputs, timeline: Timeline, keep?: Keep): RecurrenceOutput {
  const { weight, bias, h, c } = inputs;
  const cell = cells[kind];
  const { joined, keepsGates } = cell;
  const xs = split(inputs.x, timeline.batchSizes, 0);
  const ys = new Array<Tensor>(xs.length);
  let state: State = { h, c };
  // The tensors of the state that are no output: the next step takes their place.
  let own: Tensor[] = [];
  for (const { t, rows } of stepsOf(timeline)) {
    const next = tidy(() => {
      const before = { h: first(state.h, rows), c: state.c && first(state.c, rows) };
      const x = xs[t]!;
      const gates = linear(before.h, weight, bias, joined ? { residual: x } : {});
      const after = cell.apply(x, gates, before);
      if (keepsGates) keep?.(`gates${t}`, gates);
      if (before.c) keep?.(`c${t}`, before.c);
      return { y: after.h, h: withFirst(state.h, after.h), c: state.c && withFirst(state.c, after.c!) };
    });
    for (const tensor of own) tensor.dispose();
    ys[t] = next.y;
    state = next;
    own = [next.h, next.c].filter((tensor): tensor is Tensor => tensor !== undefined && tensor !== next.y);
  }
  return { y: concat(ys), h: state.h, c: state.c };
}

/** h before each step, in the order of the rows: `y` of the step before, and `h` where a sequence begins. */
function statesBefore(steps: readonly Step[], y: Tensor, h: Tensor): Tensor {
  const pieces: Tensor[][] = [];
  let last: Step | undefined;
  for (const step of steps) {
    const known = last ? Math.min(last.rows, step.rows) : 0;
    const parts = known > 0 ? [narrow(y, 0, last!.begin, known)] : [];
    if (step.rows > known || known === 0) parts.push(narrow(h, 0, known, step.rows - known));
    pieces[step.t] = parts;
    last = step;
  }
  return concat(pieces.flat());
}

/** What forward kept, by name. */
type Values = Record<string, Tensor>;

class RecurrenceNode extends Node {
  readonly #kind: CellKind;
  readonly #timeline: Timeline;

  constructor(kind: CellKind, inputs: RecurrenceInputs, y: Tensor, timeline: Timeline, kept: readonly Saved[]) {
    const saved = inputNames.flatMap((name, place) => {
      const input = inputs[name];
      // An LSTM needs x for second derivatives alone, which find it from the gates.
      return input === undefined || (name === 'x' && kind === 'lstm') ? [] : [save(name, input, place)];
    });
    const edges = inputNames.map((name) => edgeOf(inputs[name]));
    super('recurrence', edges, [...saved, save('y', y, -1), ...kept]);
    this.#kind = kind;
    this.#timeline = timeline;
  }

  override differentiate(incoming: readonly Gradient[], again: boolean): readonly Gradient[] {
    const values = this.values(again);
    return again ? this.#composed(values, incoming) : this.#gradients(values, incoming);
  }

  #gradients(values: Values, [dy, dhLast, dcLast]: readonly Gradient[]): readonly Gradient[] {
    const weight = values['weight']!;
    const h = values['h']!;
    const y = values['y']!;
    const cell = cells[this.#kind];
    const steps = stepsOf(this.#timeline);
    const { dtype, device } = h.slot!;
    const before = statesBefore(steps, y, h);
    const dx = allocate([y.shape[0]!, weight.shape[0]!], dtype, device);
    const dgates = cell.joined ? dx : emptyLike(dx);
    const packed = packedFor(weight, this.#timeline.batchSizes);
    const stepBack = (d: State, { t, rows, begin }: Step): State => {
      const part = (x: Tensor): Tensor => narrow(x, 0, begin, rows);
      const dh = first(d.h, rows);
      const saved = {
        x: values['x'] && part(values['x']),
        gates: values[`gates${t}`],
        before: { h: part(before), c: values[`c${t}`] },
        y: part(y),
      };
      const arrived = { h: dy ? add(dh, part(dy)) : dh, c: d.c && first(d.c, rows) };
      const direct = cell.backward(saved, arrived, { x: part(dx), gates: part(dgates) });
      const product = { a: part(dgates), b: weight, residual: direct.h, packed: packed(rows) };
      return { h: withFirst(d.h, kernels.matmul(product, {}).c), c: direct.c && withFirst(d.c!, direct.c) };
    };
    const zeros = (): Tensor => filled('recurrence', h.shape, 0, dtype, device);
    let d: State = { h: dhLast ?? zeros(), c: values['c'] && (dcLast ?? zeros()) };
    for (const step of steps.reverse()) {
      const last = d;
      d = tidy(() => stepBack(last, step));
      if (last.h !== dhLast) last.h.dispose();
      if (last.c !== dcLast) last.c?.dispose();
    }
    const dweight = this.edges[1] ? kernels.matmul({ a: swapped(dgates), b: before }, {}).c : undefined;
    return [dx, dweight, this.edges[2] ? sumOver(dgates, [0]) : undefined, d.h, d.c];
  }

  /** To be differentiated again, all steps are run by ops that record themselves. */
  #composed(values: Values, incoming: readonly Gradient[]): readonly Gradient[] {
    const x = values['x'] ?? this.#inputOf(values);
    // Fresh nodes before the inputs bound the inner walk.
    const [fresh, weight, bias, h, c] = [x, ...inputNames.slice(1).map((name) => values[name])].map(
      (value, i) => value && (this.edges[i] ? record('input', [value], alias(value), (g) => [g]) : value),
    );
    const inputs = { x: fresh!, weight: weight!, bias, h: h!, c };
    const out = unroll(this.#kind, inputs, this.#timeline);
    const outputs = [out.y, out.h, out.c];
    const given = outputs.flatMap((output, i) => (output?.tracked && incoming[i] ? [i] : []));
    const wanted = inputNames.flatMap((name, i) => (this.edges[i] && inputs[name] ? [i] : []));
    const found = propagate(
      given.map((i) => outputs[i]!),
      given.map((i) => incoming[i]!),
      { inputs: wanted.map((i) => inputs[inputNames[i]!]!), createGraph: true, retainGraph: true },
    );
    const result = new Array<Gradient>(inputNames.length).fill(undefined);
    wanted.forEach((i, at) => (result[i] = found[at]));
    return result;
  }

  /** x of an LSTM, from the gates x + W h + b, at the place that it had in the graph. */
  #inputOf(values: Values): Tensor {
    const x = runUnder({ recording: false }, () => {
      const gates = concat(this.#timeline.batchSizes.map((_, t) => values[`gates${t}`]!));
      const before = statesBefore(stepsOf(this.#timeline), values['y']!, values['h']!);
      return sub(gates, linear(before, values['weight']!, values['bias']));
    });
    const edge = this.edges[0];
    if (edge?.leaf) return edge.leaf;
    if (edge?.node) attach(x, edge.node, edge.output);
    return x;
  }
}

/**
 * Runs a recurrent layer over a sequence.
 *
 * @param kind which cell
 * @param given its projected inputs, weights and first state, of fitting shapes
 * @returns h of all steps, and the last state of each sequence, in the dtype that all inputs promote to, under
 *   `autocast` in its
 */
export function recurrence(kind: CellKind, given: RecurrenceInputs, timeline: Timeline): RecurrenceOutput {
  const { x, weight, bias, h, c } = given;
  const code = lowered(resultType([x, weight, bias, h, c].filter((t) => t !== undefined)));
  const inputs: RecurrenceInputs = {
    x: toLowered(x, code),
    weight: toLowered(weight, code),
    bias: bias && toLowered(bias, code),
    h: toLowered(h, code),
    c: c && toLowered(c, code),
  };
  const wanted = inputNames.some((name) => wantsGradient(inputs[name]));
  const kept: Saved[] = [];
  const place = inputNames.length; // what is neither input nor output is a constant
  const keep: Keep | undefined = wanted ? (name, tensor) => void kept.push(save(name, tensor, place)) : undefined;
  const out = runUnder({ recording: false, autocast: null }, () => unroll(kind, inputs, timeline, keep));
  if (wanted) {
    const node = new RecurrenceNode(kind, inputs, out.y, timeline, kept);
    [out.y, out.h, out.c].forEach((output, i) => output && attach(output, node, i));
  }
  return out;
}
