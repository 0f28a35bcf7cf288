// Losses and objectives against what PyTorch gave (test/golden/losses): values, gradients, dtypes; and what no recorded
// case can say.
import { autocast, type Dtype, functional as F, type Tensor, tensor, tidy, train, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';
import { readJson } from '../golden.js';
import { device, list } from '../helpers.js';

interface Encoded {
  shape: number[];
  dtype: Dtype;
  data: (number | string)[];
}
/** The place of a tensor in the list of all. */
interface Place {
  tensor: number;
}
interface Case {
  op: string;
  label: string;
  logSoftmax: boolean;
  args: unknown[];
  options: Record<string, unknown>;
  result: Place;
  grads: Record<string, Place>;
  dtypes: Partial<Record<Dtype, Dtype>>;
}
type Loss = (...args: unknown[]) => Tensor;

const { tensors, cases } = readJson('losses', 'losses.json') as { tensors: Encoded[]; cases: Case[] };
const ops: Record<string, unknown> = { ...F, ...train };

const isPlace = (x: unknown): x is Place => typeof x === 'object' && x !== null && 'tensor' in x;
const recorded = ({ tensor: at }: Place): Encoded => tensors[at]!;
function decoded(x: unknown, floats: Dtype): unknown {
  if (!isPlace(x)) return x;
  const { shape, dtype, data } = recorded(x);
  return tensor(data.map(Number), { shape, dtype: dtype === 'float64' ? floats : dtype, device });
}

interface Outcome {
  out: Tensor;
  grads: Tensor[];
}
/** Runs a case in a dtype, with the gradients that were recorded. */
function outcome({ op, args, options, grads, logSoftmax, result }: Case, dtype: Dtype): Outcome {
  const inputs = args.map((x) => decoded(x, dtype));
  const wanted = Object.keys(grads).map((i) => (inputs[Number(i)] as Tensor).requiresGrad_(true));
  const more = Object.fromEntries(Object.entries(options).map(([name, x]) => [name, decoded(x, dtype)]));
  const [first, ...rest] = inputs;
  const out = (ops[op] as Loss)(logSoftmax ? F.logSoftmax(first as Tensor, -1) : first, ...rest, more);
  const { shape, data } = recorded(result);
  const factors = data.map((_, i) => 1 + i / 4);
  const weights = tensor(factors, { shape, dtype: out.dtype, device });
  F.sum(F.mul(out, weights)).backward();
  return { out, grads: wanted.map((x) => x.grad!) };
}

/** Equal to what was recorded, within a share of the largest value; infinities and NaN exactly. */
function expectRecorded(actual: Tensor, place: Place, share: number, what: string): void {
  const { shape, data } = recorded(place);
  expect([...actual.shape], what).toEqual(shape);
  const want = data.map(Number);
  const largest = Math.max(0, ...want.filter(Number.isFinite).map(Math.abs));
  list(actual).forEach((got, i) => {
    const wanted = want[i]!;
    if (!Number.isFinite(wanted)) return expect(got, `${what}[${i}]`).toBe(wanted);
    expect(Math.abs(got - wanted), `${what}[${i}]: ${got}, recorded ${wanted}`).toBeLessThanOrEqual(share * largest);
  });
}

describe.each([...new Set(cases.map(({ op }) => op))])('%s has PyTorch’s', (op) => {
  const own = cases.filter((one) => one.op === op);
  it.each([
    ['float64', 1e-10],
    ['float32', 2e-5],
  ] as const)('values and gradients in %s', (dtype, share) => {
    for (const one of own)
      tidy(() => {
        const { out, grads } = outcome(one, dtype);
        expect(out.dtype).toBe(dtype);
        expectRecorded(out, one.result, share, one.label);
        Object.entries(one.grads).forEach(([i, grad], at) =>
          expectRecorded(grads[at]!, grad, share, `${one.label} gradient ${i}`),
        );
      });
  });

  // Objectives and the cross entropy of classes are float32 for 16-bit floats: what sums up a step is not rounded away.
  const wide = op in train || op === 'crossEntropy' || op === 'ctcLoss';
  it.each(['float16', 'bfloat16'] as const)(`dtypes for %s${wide ? ', but float32' : ''}`, (dtype) => {
    for (const one of own)
      tidy(() => {
        const { out, grads } = outcome(one, dtype);
        if (!wide) expect(one.dtypes[dtype], one.label).toBe(dtype);
        expect(out.dtype, one.label).toBe(wide ? 'float32' : dtype);
        for (const grad of grads) expect(grad.dtype, one.label).toBe(dtype);
      });
  });
  it('float32 losses under autocast', () => {
    for (const one of own)
      tidy(() =>
        expect(
          autocast('bfloat16', () => outcome(one, 'bfloat16').out.dtype),
          one.label,
        ).toBe('float32'),
      );
  });
});

const none = { reduction: 'none' } as const;
const at = (...data: number[]): Tensor => tensor(data, { dtype: 'float64', device });

describe('losses of pairs', () => {
  it.each([
    ['float32', 'float64', 'float64'],
    ['float32', 'bfloat16', 'float32'],
    ['float16', 'bfloat16', 'float32'],
    ['int64', 'float16', 'float16'],
  ] as const)('of %s and %s are %s', (a, b, wanted) => {
    for (const loss of [F.mseLoss, F.l1Loss, F.smoothL1Loss, F.huberLoss, F.binaryCrossEntropyWithLogits, F.klDiv])
      expect(loss(zeros([3], { dtype: a, device }), zeros([3], { dtype: b, device })).dtype).toBe(wanted);
  });

  it('of 16 bits are rounded once, behind the sum', () => {
    // 300² does not fit into float16, and the mean of it and nothing does
    const x = tensor([300, 0, 0, 0], { dtype: 'float16', device });
    expect(F.mseLoss(x, F.mul(x, 0)).itemSync()).toBe(22496);
    expect(list(F.mseLoss(x, F.mul(x, 0), none))[0]).toBe(Infinity);
  });

  it('of nothing are NaN in the mean, and 0 in the sum', () => {
    const empty = zeros([0, 3], { device });
    const classes = zeros([0], { dtype: 'int64', device });
    const calls: Record<string, (options: { reduction: 'mean' | 'sum' | 'none' }) => Tensor> = {
      crossEntropy: (options) => F.crossEntropy(empty, classes, options),
      weighted: (options) => F.crossEntropy(empty, classes, { ...options, weight: F.ones([3], { device }) }),
      probabilities: (options) => F.crossEntropy(empty, empty, options),
      nllLoss: (options) => F.nllLoss(empty, classes, options),
      mseLoss: (options) => F.mseLoss(empty, empty, options),
      smoothL1Loss: (options) => F.smoothL1Loss(empty, empty, options),
      binary: (options) => F.binaryCrossEntropyWithLogits(empty, empty, options),
      focal: (options) => F.sigmoidFocalLoss(empty, empty, options),
      klDiv: (options) => F.klDiv(empty, empty, options),
      cosine: (options) => F.cosineEmbeddingLoss(empty, empty, classes, options),
      triplet: (options) => F.tripletMarginLoss(empty, empty, empty, options),
      clipLoss: (options) => train.clipLoss(empty, empty, 1, options),
      infoNCE: (options) => train.infoNCE(empty, empty, null, options),
      zLoss: (options) => train.zLoss(empty, options),
      distillation: (options) => train.distillationLoss(empty, empty, options),
      attention: (options) => train.attentionSupervisionLoss(empty, empty, null, options),
    };
    for (const [name, call] of Object.entries(calls)) {
      expect(call({ reduction: 'mean' }).itemSync(), name).toBeNaN();
      expect(call({ reduction: 'sum' }).itemSync() + 0, name).toBe(0);
      expect(call({ reduction: 'none' }).size, name).toBe(0);
    }
    expect(F.klDiv(empty, empty, { reduction: 'batchmean' }).itemSync()).toBeNaN();
  });

  it('pass NaN on', () => {
    const [bad, good] = [at(Number.NaN, 0.5), at(0.5, 0.5)];
    const [row, other] = [bad.unsqueeze(0), good.unsqueeze(0)];
    for (const [name, loss] of Object.entries({
      mseLoss: F.mseLoss,
      l1Loss: F.l1Loss,
      smoothL1Loss: F.smoothL1Loss,
      huberLoss: F.huberLoss,
      binaryCrossEntropyWithLogits: F.binaryCrossEntropyWithLogits,
      sigmoidFocalLoss: F.sigmoidFocalLoss,
      klDiv: F.klDiv,
    }))
      for (const [x, t] of [
        [bad, good],
        [good, bad],
      ] as const) {
        const [first, second] = list((loss as Loss)(x, t, none));
        expect(first, name).toBeNaN();
        expect(second, name).not.toBeNaN();
      }
    const one = tensor([1], { dtype: 'int64', device });
    for (const loss of [
      F.cosineEmbeddingLoss(row, other, one),
      F.tripletMarginLoss(row, other, other),
      F.crossEntropy(row, one),
      F.crossEntropy(row, one, { weight: at(1, 2), labelSmoothing: 0.1 }),
      F.crossEntropy(other, row),
      train.clipLoss(row, other, 1),
      train.infoNCE(other, other, row),
      train.zLoss(row),
      train.distillationLoss(other, row),
      train.attentionSupervisionLoss(row, other),
      train.attentionSupervisionLoss(other, row, null, { measure: 'mse' }),
    ])
      expect(loss.itemSync()).toBeNaN();
  });

  it('have finite slopes at infinite differences, as PyTorch has', () => {
    const x = at(Infinity, -Infinity, 0).requiresGrad_(true);
    F.huberLoss(x, at(0, 0, 0), { delta: 2, reduction: 'sum' }).backward();
    expect(list(x.grad!)).toEqual([2, -2, 0]);
    x.grad = null;
    F.smoothL1Loss(x, at(0, 0, 0), { beta: 0.5, reduction: 'sum' }).backward();
    expect(list(x.grad!)).toEqual([1, -1, 0]);
  });

  it('neither overflow nor lose what is left of sure logits', () => {
    const x = at(-800, 800, -800, 800, 0).requiresGrad_(true);
    const t = at(0, 1, 1, 0, 1);
    const wanted = [0, 0, 800, 800, Math.LN2];
    const losses = F.binaryCrossEntropyWithLogits(x, t, none);
    expect(list(losses)).toEqual(wanted);
    const weighted = F.binaryCrossEntropyWithLogits(x, t, { reduction: 'none', posWeight: at(3) });
    expect(list(weighted)).toEqual(wanted.map((v, i) => v * (list(t)[i] ? 3 : 1)));
    F.sum(F.add(losses, weighted)).backward();
    expect(list(x.grad!)).toEqual([0, 0, -4, 2, -2]);
    // t = 0 at -20 in float32: log(1 + e^-20), not the difference of two numbers near 20
    const tail = F.binaryCrossEntropyWithLogits(at(-20).float(), at(0).float(), { posWeight: at(2).float() });
    expect(tail.itemSync() / Math.log1p(Math.exp(-20)) - 1).toBeCloseTo(0, 6);
    for (const gamma of [0, 0.5, 2]) {
      const z = at(-800, 800, -800, 800, 0).requiresGrad_(true);
      F.sigmoidFocalLoss(z, t, { gamma, reduction: 'sum' }).backward();
      expect(list(z.grad!).every(Number.isFinite), `gamma ${gamma}`).toBe(true);
    }
  });

  it('of targets of probability 0 have a gradient', () => {
    const [x, t] = [at(-1, -2).requiresGrad_(true), at(0, 0.5).requiresGrad_(true)];
    F.klDiv(x, t, { reduction: 'sum' }).backward();
    expect(list(x.grad!).map((v) => v + 0)).toEqual([0, -0.5]);
    expect(list(t.grad!)).toEqual([1, expect.closeTo(Math.log(0.5) + 1 + 2, 12)]);
  });
});
