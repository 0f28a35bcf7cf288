// ctcLoss against the sum over all paths, and its edges: lengths, paddings, forms of its arguments, what is impossible.
import { functional as F, grad, memory, noGrad, randn, type Tensor, tensor, tidy, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const ids = (data: number[], shape: number[] = [data.length]): Tensor =>
  tensor(data, { shape, dtype: 'int64', device });
const logits = (shape: number[], seed = 1): Tensor =>
  tensor(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin((i + 1) * (seed + 1) * 1.7) * 2),
    { shape, dtype: 'float64', device },
  );

/** What a path says: repeated symbols once, then no blanks. */
const collapsed = (path: number[], blank: number): string =>
  path.filter((c, t) => c !== path[t - 1] && c !== blank).join();
/** The probabilities of all that [t, c] can say, summed over all paths. */
function sayings(logProbs: number[][], blank: number): Map<string, number> {
  const found = new Map<string, number>();
  const walk = (path: number[], logP: number): void => {
    if (path.length === logProbs.length) {
      const said = collapsed(path, blank);
      found.set(said, (found.get(said) ?? 0) + Math.exp(logP));
      return;
    }
    logProbs[path.length]!.forEach((p, c) => walk([...path, c], logP + p));
  };
  walk([], 0);
  return found;
}

describe('ctcLoss', () => {
  it.each([
    [1, 2, 0],
    [2, 3, 0],
    [3, 3, 2],
    [4, 3, 1],
    [5, 4, 0],
    [6, 3, 0],
  ])('is the sum over all paths of %i times, %i classes, blank %i', (t, c, blank) => {
    const logProbs = F.logSoftmax(logits([t, c], t), -1);
    const rows = logProbs.toArraySync() as number[][];
    const said = sayings(rows, blank);
    expect([...said.values()].reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    const labels = [...said.keys()].map((key) => (key === '' ? [] : key.split(',').map(Number)));
    const longest = Math.max(...labels.map((l) => l.length));
    // All in one batch, rows filled up with what is no class.
    const padded = labels.flatMap((l) => [...l, ...new Array<number>(longest - l.length).fill(-100)]);
    const losses = F.ctcLoss(
      logProbs.unsqueeze(1).expand([t, labels.length, c]),
      ids(padded, [labels.length, longest]),
      labels.map(() => t),
      labels.map((l) => l.length),
      { reduction: 'none', blank },
    );
    list(losses).forEach((loss, i) => {
      const wanted = -Math.log(said.get(labels[i]!.join())!);
      expect(Math.abs(loss - wanted), `${labels[i]}`).toBeLessThanOrEqual(1e-12 * Math.max(1, wanted));
    });
  });

  it('takes lengths as numbers and tensors, targets in rows and one after the other, with the same bits', () => {
    const x = logits([7, 3, 5]).logSoftmax(-1);
    const [inputs, lengths] = [
      [7, 5, 6],
      [3, 0, 2],
    ];
    const rows = ids([1, 1, 4, 9, 9, 9, 2, 3, -7], [3, 3]);
    const all = { reduction: 'none' } as const;
    const wanted = list(F.ctcLoss(x, rows, inputs!, lengths!, all));
    expect(list(F.ctcLoss(x, rows, ids(inputs!), ids(lengths!), all))).toEqual(wanted);
    expect(list(F.ctcLoss(x, rows.int(), ids(inputs!).int(), lengths!, all))).toEqual(wanted);
    expect(list(F.ctcLoss(x, ids([1, 1, 4, 2, 3]), inputs!, lengths!, all))).toEqual(wanted);
    const one = F.ctcLoss(x.select(1, 0), ids([1, 1, 4]), 7, 3, all);
    expect(one.shape).toEqual([]);
    expect(one.itemSync()).toBe(wanted[0]);
    expect(list(F.ctcLoss(x.narrow(1, 0, 1), ids([1, 1, 4]), [7], [3], all))).toEqual([wanted[0]]);
  });

  it('reads nothing behind an input or a target', () => {
    const x = logits([6, 2, 4]).logSoftmax(-1);
    const spoilt = x.clone();
    F.fill_(spoilt.select(1, 1).narrow(0, 4, 2), Number.NaN);
    spoilt.requiresGrad_(true);
    const run = (from: Tensor, pad: number): Tensor => F.ctcLoss(from, ids([1, 2, 3, pad], [2, 2]), [6, 4], [2, 1]);
    const loss = run(spoilt, 77);
    expect(loss.itemSync()).toBe(run(x, 2).itemSync());
    loss.backward();
    const g = spoilt.grad!;
    expect(list(g).every(Number.isFinite)).toBe(true);
    expect(list(g.select(1, 1).narrow(0, 4, 2)).every((v) => v === 0)).toBe(true);
  });

  it('has minus the probabilities of symbols, given the target, as its gradient', () => {
    const x = logits([8, 3, 5]).logSoftmax(-1).detach().requiresGrad_(true);
    F.ctcLoss(x, ids([1, 1, 4, 2, 3, 3], [3, 2]), [8, 6, 4], [2, 2, 1], { reduction: 'sum' }).backward();
    const sums = F.sum(x.grad!, -1).toArraySync() as number[][];
    sums.forEach((row, t) => row.forEach((s, n) => expect(s, `${t} ${n}`).toBeCloseTo(t < [8, 6, 4][n]! ? -1 : 0, 12)));
    expect(list(x.grad!).every((v) => v <= 0)).toBe(true);
  });

  it('neither overflows nor loses a label among 2000 times', () => {
    const [t, c] = [2000, 50];
    // One label: t (t + 1) / 2 paths of probability c^-t. Every time rounds the same way.
    const wanted = t * Math.log(c) - Math.log((t * (t + 1)) / 2);
    for (const [dtype, error] of [
      ['float32', 1e-4],
      ['float64', 1e-13],
    ] as const) {
      const x = zeros([t, 1, c], { dtype, device }).logSoftmax(-1);
      expect(Math.abs(F.ctcLoss(x, ids([7], [1, 1]), [t], [1]).itemSync() / wanted - 1)).toBeLessThan(error);
    }
    // A label that is certain at one time only, where another was far more likely in all.
    const sure = F.full([t, 1, 3], -200, { device });
    F.fill_(sure.select(2, 0), 0);
    F.fill_(sure.select(0, 999).select(1, 1), 0);
    expect(F.ctcLoss(sure, ids([1], [1, 1]), [t], [1]).itemSync()).toBeCloseTo(0, 5);
  });

  it('takes probabilities of 0', () => {
    const certain = (path: number[]): Tensor => F.oneHot(ids(path), 4).float().log().unsqueeze(1);
    const x = certain([1, 1, 0, 1, 2]).requiresGrad_(true);
    const loss = F.ctcLoss(x, ids([1, 1, 2], [1, 3]), [5], [3]);
    loss.backward();
    expect(loss.itemSync()).toBe(0);
    const expected = F.mul(F.oneHot(ids([1, 1, 0, 1, 2]), 4), -1 / 3);
    list(x.grad!).forEach((v, i) => expect(v).toBeCloseTo(list(expected)[i]!, 6));
    expect(F.ctcLoss(certain([1, 1, 1, 1, 2]), ids([1, 1, 2], [1, 3]), [5], [3]).itemSync()).toBe(Infinity);
  });

  it('passes NaN on, and marks what is impossible', () => {
    const x = logits([4, 2, 3]).logSoftmax(-1);
    const broken = x.clone();
    F.fill_(broken.select(0, 1).select(0, 0), Number.NaN);
    const [first, second] = list(F.ctcLoss(broken, ids([1, 2], [2, 1]), [4, 4], [1, 1], { reduction: 'none' }));
    expect(first).toBeNaN();
    expect(second).toBeGreaterThan(0);
    const twice = ids([1, 1, 1, 1], [2, 2]);
    expect(list(F.ctcLoss(x, twice, [3, 2], [2, 2], { reduction: 'none' }))[1]).toBe(Infinity);
    const leaf = x.detach().requiresGrad_(true);
    const loss = F.ctcLoss(leaf, twice, [3, 2], [2, 2], { zeroInfinity: true, reduction: 'none' });
    expect(list(loss)[1]).toBe(0);
    F.sum(loss).backward();
    expect(list(leaf.grad!.select(1, 1))).toEqual(new Array(12).fill(-0).map(() => expect.closeTo(0, 300)));
    expect(list(leaf.grad!.select(1, 0)).some((v) => v < 0)).toBe(true);
  });

  it('can be walked twice with retainGraph, but has no second gradient', () => {
    const x = logits([4, 1, 3]).requiresGrad_(true);
    const loss = F.ctcLoss(x.logSoftmax(-1), ids([1], [1, 1]), [4], [1]);
    const [once] = grad(loss, [x], { retainGraph: true });
    const [again] = grad(loss, [x], { retainGraph: true });
    expect(list(again!)).toEqual(list(once!));
    expect(codeOf(() => grad(loss, [x], { createGraph: true }))).toBe('FOVEA_AUTOGRAD');
  });

  it('refuses logProbs that were changed in place since', () => {
    const leaf = logits([4, 1, 3]).requiresGrad_(true);
    const x = leaf.mul(1);
    const loss = F.ctcLoss(x, ids([1], [1, 1]), [4], [1]);
    noGrad(() => x.mul_(2));
    expect(codeOf(() => loss.backward())).toBe('FOVEA_AUTOGRAD');
  });

  it('keeps nothing behind backward', () => {
    const x = randn([6, 2, 4], { device }).requiresGrad_(true);
    const step = (): void => {
      tidy(() => F.ctcLoss(x.logSoftmax(-1), ids([1, 2], [2, 1]), [6, 5], [1, 1]).backward());
    };
    step();
    const before = memory().tensors;
    step();
    expect(memory().tensors).toBe(before);
  });
});
