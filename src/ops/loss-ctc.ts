/**
 * Connectionist temporal classification (Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf): -log of
 * the probability of a label sequence, summed over all ways to spread it over time, blanks between labels and labels
 * repeated.
 *
 * The labels l of a sequence with u of them become states: blanks at 0, 2, …, 2u and labels at 1, 3, …, 2u - 1. With
 * e_t(s) the log-probability of the symbol of state s at time t, all in logarithms,
 *
 *   a_t(s) = e_t(s) + log(exp a_{t-1}(s) + exp a_{t-1}(s-1) + exp a_{t-1}(s-2) where label s differs from the last)
 *   b_t(s) = e_t(s) + log(exp b_{t+1}(s) + exp b_{t+1}(s+1) + exp b_{t+1}(s+2) where s+2 may be reached from s)
 *
 * a starts in a state -1 before time 0, and both end in a state 2u + 1, which alone is left once the input of a
 * sequence is over and emits nothing: so all sequences of a batch take the same steps, whatever their lengths, and
 *
 *   log p = a(2u + 1) behind the last time,
 *   d -log p / d x_t(c) = -sum over s of symbol c of exp(a_t + b_t - e_t - log p)
 *
 * x [t, n, c], a and b [t, n, states]. A step is three kernels over all sequences and states.
 */
import { FoveaError } from '../errors.js';
import { attach, edgeOf, type Gradient, Node, save, wantsGradient } from '../autograd/node.js';
import { argumentError, countArg, optionsArg } from '../tensor/check.js';
import { accumulatorOf } from '../tensor/dtype.js';
import { runUnder } from '../tensor/modes.js';
import { type Tensor, viewOf } from '../tensor/tensor.js';
import { tidy } from '../tensor/tidy.js';
import { expand } from './broadcast.js';
import { castTo } from './cast.js';
import { eq, gt, logicalAnd, lt } from './compare.js';
import { arange, filled } from './creation.js';
import { ctcStates, type CtcStates, lengthsArg, targetsArg } from './loss-ctc-states.js';
import { add, div, exp, mul, neg, sub } from './elementwise.js';
import { floatsArg } from './floats-arg.js';
import { gather, scatterAdd } from './indexing.js';
import { pad, stack } from './join.js';
import { kernels } from './kernels.gen.js';
import { type LossOptions, reduced, reductionArg } from './loss-common.js';
import { clamp, where } from './select.js';
import { narrow, reshape, select, unsqueeze } from './shape.js';

/** Options of `ctcLoss`. */
export interface CtcLossOptions extends LossOptions {
  /** The class that stands for no label; default 0. */
  blank?: number;
  /**
   * Whether sequences that do not fit into their input count 0, without a gradient, and not Infinity; default false.
   */
  zeroInfinity?: boolean;
}

/** Log-probabilities [t, n, c] and what the states [n, p] of their targets are. */
interface Problem extends CtcStates {
  logProbs: Tensor;
  /** int64 [n] */
  inputLengths: Tensor;
}

/** e [t, n, p], with the end state behind each input; and whether the input and the labels reach so far. */
function emissions({ logProbs, inputLengths, classes, end, atEnd }: Problem): { e: Tensor; within: Tensor } {
  const { device } = logProbs;
  const [times, n] = logProbs.shape as [number, number, number];
  const p = classes.shape[1]!;
  const emitted = gather(logProbs, 2, expand(unsqueeze(classes, 0), [times, n, p]));
  const inTime = lt(reshape(arange(times, { device }), [times, 1, 1]), reshape(inputLengths, [1, n, 1]));
  const within = logicalAnd(inTime, unsqueeze(lt(arange(p, { device }), end), 0));
  return { e: where(within, emitted, where(inTime, -Infinity, unsqueeze(atEnd, 0))), within };
}

/**
 * One step of a recursion: adds, to row `to` of a lattice [rows, n, p + 2] from column `column` on, the logarithm of
 * the sum of three neighbours each of row `from`.
 *
 * @param mask [n, p, 3]: 0 for neighbours that count, -Infinity for others
 */
function step(lattice: Tensor, from: number, to: number, column: number, mask: Tensor): void {
  const [, n, width] = lattice.shape as [number, number, number];
  const three = viewOf(lattice, mask.shape, [width, 1, 1], from * n * width);
  const target = viewOf(lattice, [n, width - 2], [width, 1], to * n * width + column);
  const seen = kernels.add({ a: three, b: mask }, {}).c;
  const { y } = kernels.logsumexp({ x: seen }, {});
  kernels.add_({ a: target, b: y }, {});
  for (const x of [three, target, seen, y]) x.dispose();
}

/** A lattice whose rows from `row` on and columns from `column` on hold e, and -Infinity around them. */
function latticeOf(e: Tensor, rows: number, row: number, column: number): Tensor {
  const [times, n, p] = e.shape as [number, number, number];
  const lattice = filled('ctcLoss', [rows, n, p + 2], -Infinity, e.slot!.dtype, e.slot!.device);
  kernels.copy_({ y: narrow(narrow(lattice, 0, row, times), 2, column, p), x: e }, {});
  return lattice;
}
const row = (lattice: Tensor, at: number, column: number): Tensor =>
  narrow(select(lattice, 0, at), 1, column, lattice.shape[2]! - 2);
const zerosLike = ({ shape, slot }: Tensor): Tensor => filled('ctcLoss', shape, 0, slot!.dtype, slot!.device);

/** a at times -1 to t: [t + 2, n, 2 + p], behind two states more, of which the second is where all begin. */
function forwards({ skips, atEnd }: Problem, e: Tensor): Tensor {
  const [times] = e.shape as [number];
  const lattice = latticeOf(e, times + 2, 1, 2);
  kernels.copy_({ y: row(lattice, times + 1, 2), x: atEnd }, {});
  kernels.fill_({ x: narrow(select(lattice, 0, 0), 1, 1, 1) }, { value: 0 });
  const stays = zerosLike(skips);
  const mask = stack([skips, stays, stays], 2);
  for (let t = 0; t <= times; t++) step(lattice, t, t + 1, 2, mask);
  return lattice;
}

/** b at times 0 to t: [t + 1, n, p + 2], before two states that are never entered. */
function backwards({ skips, atEnd }: Problem, e: Tensor): Tensor {
  const [times, , p] = e.shape as [number, number, number];
  const lattice = latticeOf(e, times + 1, 0, 0);
  kernels.copy_({ y: row(lattice, times, 0), x: atEnd }, {});
  const stays = zerosLike(skips);
  const mask = stack([stays, stays, pad(narrow(skips, 1, 2, p - 2), [0, 2], { value: -Infinity })], 2);
  for (let t = times - 1; t >= 0; t--) step(lattice, t + 1, t, 0, mask);
  return lattice;
}

/** What forward leaves to backward: the problem, a and log p [n]. */
interface Solved extends Problem {
  lattice: Tensor;
  total: Tensor;
}
const savedNames = ['logProbs', 'inputLengths', 'classes', 'skips', 'end', 'atEnd', 'lattice', 'total'] as const;
type Saved = (typeof savedNames)[number];

function solve(problem: Problem): Solved {
  const lattice = forwards(problem, emissions(problem).e);
  const [rows, n] = lattice.shape as [number, number];
  const total = reshape(gather(row(lattice, rows - 1, 2), 1, problem.end), [n]);
  return { ...problem, lattice, total };
}

/** d loss / d logProbs. @param dloss [n] @param zeroInfinity whether sequences that do not fit have no gradient */
function gradientOf(solved: Solved, dloss: Tensor, zeroInfinity: boolean): Tensor {
  const { logProbs, classes, lattice, total } = solved;
  const { e, within } = emissions(solved);
  const [times, n, p] = e.shape as [number, number, number];
  const a = narrow(narrow(lattice, 0, 1, times), 2, 2, p);
  const b = narrow(narrow(backwards(solved, e), 0, 0, times), 2, 0, p);
  // Where e is -Infinity so are a and b, and their sum says enough.
  const finite = where(gt(e, -Infinity), e, 0);
  const whole = zeroInfinity ? where(eq(total, -Infinity), Infinity, total) : total;
  const shares = exp(sub(sub(add(a, b), finite), reshape(whole, [1, n, 1])));
  const d = where(within, mul(shares, reshape(neg(dloss), [1, n, 1])), 0);
  return scatterAdd(zerosLike(logProbs), 2, expand(unsqueeze(classes, 0), [times, n, p]), d);
}

class CtcLossNode extends Node {
  readonly #zeroInfinity: boolean;

  constructor(solved: Solved, zeroInfinity: boolean) {
    const saved = savedNames.map((name, place) => save(name, solved[name], place));
    super('ctcLoss', [edgeOf(solved.logProbs)], saved);
    this.#zeroInfinity = zeroInfinity;
  }

  override differentiate([dloss]: readonly Gradient[], again: boolean): readonly Gradient[] {
    if (again)
      throw new FoveaError('FOVEA_AUTOGRAD', 'backward: ctcLoss has no second gradient; leave out createGraph');
    const values = this.values(again);
    const solved = Object.fromEntries(savedNames.map((name) => [name, values[name]!])) as Record<Saved, Tensor>;
    return [gradientOf(solved, dloss!, this.#zeroInfinity)];
  }
}

/** -log p of each sequence, [n]. */
function lossesOf(problem: Problem, zeroInfinity: boolean): Tensor {
  const wanted = wantsGradient(problem.logProbs);
  const { losses, solved } = runUnder({ recording: false, autocast: null }, () =>
    tidy(() => {
      const found = solve(problem);
      return { losses: neg(found.total), solved: wanted ? found : undefined };
    }),
  );
  if (solved) {
    attach(losses, new CtcLossNode(solved, zeroInfinity), 0);
    for (const made of [solved.lattice, solved.total]) made.dispose();
  }
  return zeroInfinity ? where(eq(losses, Infinity), 0, losses) : losses;
}

/**
 * -log of the probability that the input says the targets, whatever the times at which it says them (Graves et al.
 * 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf). 'mean' divides each loss by the number of its labels (at
 * least 1), and then takes the mean, as PyTorch does. A sequence that is too short for its labels (and for a blank
 * between equal ones) has the loss Infinity.
 *
 * The gradient is that of the formula: minus the probabilities of the symbols, given the targets. PyTorch's adds
 * exp(logProbs), which the gradient of `logSoftmax` takes away again, so that behind it both are the same. It has no
 * gradient of its own.
 *
 * @param logProbs [t, n, c], or [t, c] of one sequence: log-probabilities, as `logSoftmax` gives them
 * @param targets class numbers (integers) [n, s], where what is behind a sequence's length does not matter; or all
 *   sequences one after the other in one row. [s] for [t, c]
 * @param inputLengths how many of the t times each sequence has: numbers, or integers [n] in a tensor
 * @param targetLengths how many labels each has: numbers, or for targets [n, s] integers [n] in a tensor, of which
 *   nothing is read here
 * @returns 0-d, or with reduction 'none' the losses [n] (0-d for [t, c]); float32 (float64 for float64)
 * @throws FOVEA_SHAPE, FOVEA_DTYPE or FOVEA_ARGUMENT naming what does not fit; rejects with FOVEA_INDEX if a label is
 *   no class, or a length in a tensor is more than there is
 */
export function ctcLoss(
  logProbs: Tensor,
  targets: Tensor,
  inputLengths: Tensor | readonly number[] | number,
  targetLengths: Tensor | readonly number[] | number,
  options?: CtcLossOptions,
): Tensor {
  const op = 'ctcLoss';
  const given = optionsArg(op, options, ['reduction', 'blank', 'zeroInfinity']);
  const { blank = 0, zeroInfinity = false } = given;
  const reduction = reductionArg(op, given.reduction);
  const shape = floatsArg(op, 'logProbs', logProbs, [2, 3]);
  const [times, n] = shape.length === 3 ? (shape as [number, number]) : ([shape[0]!, 1] as const);
  const classes = shape.at(-1)!;
  if (countArg(op, 'blank', blank) >= classes)
    throw argumentError(op, 'blank', `a class of logProbs [${shape.join(',')}]`, blank);
  const wide = castTo(logProbs, accumulatorOf(logProbs.slot!.dtype));
  const x = shape.length === 3 ? wide : unsqueeze(wide, 1);
  const labels = targetsArg(targets, targetLengths, shape.length === 3 ? n : undefined, x);
  const states = ctcStates(labels, blank, x.slot!.dtype);
  const lengths = lengthsArg('inputLengths', inputLengths, n, times, x);
  const losses = lossesOf({ ...states, logProbs: x, inputLengths: lengths }, zeroInfinity);
  if (reduction === 'none') return reshape(losses, shape.length === 3 ? [n] : []);
  if (reduction === 'sum') return reduced(losses, 'sum');
  return reduced(div(losses, castTo(clamp(labels.lengths, { min: 1 }), x.slot!.dtype)), 'mean');
}
