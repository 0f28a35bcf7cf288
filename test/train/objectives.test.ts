// Objectives whose values no recorded case can say: attention, sets, and which rows count. The others are in
// test/ops/losses.test.ts.
import { functional as F, nn, randn, type Tensor, tensor, tidy, train, zeros } from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';
import { checkGradients } from '../ops/gradients.js';
import { close, type Row } from '../ops/row.js';
import type { Sample } from '../ops/samples.js';

const F64 = { dtype: 'float64', device } as const;
const ids = (data: number[], shape: number[] = [data.length]): Tensor =>
  tensor(data, { shape, dtype: 'int64', device });
const bools = (data: number[], shape: number[]): Tensor => tensor(data, { shape, dtype: 'bool', device });
/** Maps [b, h, n, m] with rows of sum 1. */
const maps = (...shape: number[]): Tensor => randn(shape, F64).softmax(-1);
const none = { reduction: 'none' } as const;

/** Compares the gradients of a function of tensors with differences. */
function checkSlopes(run: (x: Tensor[]) => Tensor, ...shapes: number[][]): void {
  const sample: Sample = { label: '', inputs: shapes.map((shape) => ({ shape, values: 'normal' })) };
  const row: Row = {
    name: 'objective',
    dtypes: ['float64'],
    samples: [sample],
    run,
    reference: ([x]) => x!,
    tolerance: close(1),
    differentiable: shapes.map((_, i) => i),
    errors: [],
  };
  checkGradients(row, sample);
}

describe('attentionSupervisionLoss', () => {
  const divergence = (t: number[], w: number[]): number =>
    t.reduce((s, v, j) => s + (v ? v * Math.log(v / w[j]!) : 0), 0);

  it('is the divergence of each row of each head, whose targets are brought to the sum 1', () => {
    const w = maps(1, 2, 2, 3);
    const target = tensor(
      [
        [1, 0, 1],
        [0, 2, 0],
      ],
      F64,
    );
    const losses = train.attentionSupervisionLoss(w, target, null, none);
    expect(losses.shape).toEqual([1, 2, 2]);
    const rows = list(w);
    list(losses).forEach((loss, i) => {
      const t = i % 2 ? [0, 1, 0] : [0.5, 0, 0.5];
      expect(loss).toBeCloseTo(divergence(t, rows.slice(3 * i, 3 * i + 3)), 12);
    });
  });

  it('does not count rows that see nothing, or have no target', () => {
    const w = maps(1, 1, 4, 3);
    const target = tensor(
      [
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 1],
        [0, 0, 1],
      ],
      F64,
    );
    const mask = bools([1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1], [4, 3]);
    for (const measure of ['kl', 'mse'] as const) {
      const losses = list(train.attentionSupervisionLoss(w, target, mask, { ...none, measure }));
      expect(losses.slice(1, 3)).toEqual([0, 0]);
      const [mean, sum] = (['mean', 'sum'] as const).map((reduction) =>
        train.attentionSupervisionLoss(w, target, mask, { reduction, measure }).itemSync(),
      );
      expect(sum).toBeCloseTo(losses[0]! + losses[3]!, 12);
      expect(mean).toBeCloseTo(sum! / 2, 12);
      const x = w.detach().requiresGrad_(true);
      train.attentionSupervisionLoss(x, target, mask, { measure }).backward();
      expect(
        list(x.grad!)
          .slice(3, 9)
          .every((v) => v === 0),
      ).toBe(true);
    }
    const nothing = train.attentionSupervisionLoss(w, zeros([4, 3], F64));
    expect(nothing.itemSync()).toBeNaN();
  });

  it('leaves hidden keys out of the squares', () => {
    const w = tensor([[0.5, 0.25, 0.25]], F64);
    const target = tensor([[1, 1, 5]], F64);
    const loss = train.attentionSupervisionLoss(w, target, bools([1, 1, 0], [3]), { measure: 'mse' });
    expect(loss.itemSync()).toBeCloseTo((0 + 0.25 ** 2) / 2, 12);
  });

  it('trains the heads of MultiheadAttention, rows of padding left out', () => {
    const attention = new nn.MultiheadAttention(8, 2, { batchFirst: true, dtype: 'float64' });
    const x = randn([1, 4, 8], { dtype: 'float64' });
    const target = tensor(
      [
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
      ],
      { dtype: 'float64' },
    );
    const keyPaddingMask = tensor([[true, true, true, false]]);
    const step = (): Tensor => {
      const [, weights] = attention.forward(x, x, x, { keyPaddingMask });
      return train.attentionSupervisionLoss(weights!, target, keyPaddingMask.reshape([1, 1, 4, 1]));
    };
    const before = step();
    before.backward();
    const { grad } = attention.inProjWeight as Tensor;
    expect(list(grad!).some((v) => v !== 0)).toBe(true);
    (attention.inProjWeight as Tensor).detach().sub_(grad!.mul(0.1));
    expect(step().itemSync()).toBeLessThan(before.itemSync());
  });

  it('keeps weights of 0 finite', () => {
    const w = tensor([[0, 1]], { device }).requiresGrad_(true);
    const loss = train.attentionSupervisionLoss(w, tensor([[1, 1]], { device }));
    expect(loss.itemSync()).toBeCloseTo(Math.log(0.5) + (126 * Math.LN2) / 2, 4);
    loss.backward();
    expect(list(w.grad!).every(Number.isFinite)).toBe(true);
  });

  it.each(['kl', 'mse'] as const)('has the gradient of %s', (measure) => {
    const target = maps(2, 1, 3, 4);
    const mask = bools([1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1], [3, 4]);
    checkSlopes(([x]) => train.attentionSupervisionLoss(x!.softmax(-1), target, mask, { measure }), [2, 2, 3, 4]);
    checkSlopes(([x]) => train.attentionTransferLoss(x!.softmax(-1), target, { measure, ...none }), [2, 2, 3, 4]);
  });

  it.each([
    ['weights of rank 1', () => train.attentionSupervisionLoss(zeros([3]), zeros([3])), 'FOVEA_SHAPE'],
    ['weights of integers', () => train.attentionSupervisionLoss(ids([1], [1, 1]), zeros([1, 1])), 'FOVEA_DTYPE'],
    [
      'targets that do not broadcast',
      () => train.attentionSupervisionLoss(zeros([2, 3]), zeros([3, 3])),
      'FOVEA_SHAPE',
    ],
    ['targets of more axes', () => train.attentionSupervisionLoss(zeros([2, 3]), zeros([2, 2, 3])), 'FOVEA_SHAPE'],
    [
      'a mask of floats',
      () => train.attentionSupervisionLoss(zeros([2, 3]), zeros([2, 3]), zeros([2, 3])),
      'FOVEA_DTYPE',
    ],
    [
      'an unknown measure',
      () => train.attentionSupervisionLoss(zeros([2, 3]), zeros([2, 3]), null, { measure: 'l2' as never }),
      'FOVEA_ARGUMENT',
    ],
  ] as const)('refuses %s', (_, run, code) => {
    expect(codeOf(run)).toBe(code);
  });
});

describe('attentionTransferLoss', () => {
  it('is 0 for equal maps, and the mean over layers otherwise; the teacher gets no gradient', () => {
    const students = [maps(2, 3, 4, 4), maps(2, 3, 4, 4)];
    expect(train.attentionTransferLoss(students, students).itemSync()).toBeCloseTo(0, 12);
    const teachers = [maps(2, 3, 4, 4).requiresGrad_(true), maps(2, 1, 4, 4)];
    const each = students.map((student, i) => train.attentionTransferLoss(student, teachers[i]!).itemSync());
    const leaf = students[0]!.detach().requiresGrad_(true);
    const loss = train.attentionTransferLoss([leaf, students[1]!], teachers);
    expect(loss.itemSync()).toBeCloseTo((each[0]! + each[1]!) / 2, 12);
    loss.backward();
    expect(teachers[0]!.grad).toBeNull();
    expect(leaf.grad).not.toBeNull();
    expect(train.attentionTransferLoss(students, teachers, none).shape).toEqual([2, 2, 3, 4]);
  });

  it('refuses other numbers of layers, and names the layer that does not fit', () => {
    const [a, b] = [maps(1, 2, 3, 3), maps(1, 4, 3, 3)];
    expect(codeOf(() => train.attentionTransferLoss([a, a], [a]))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => train.attentionTransferLoss([], []))).toBe('FOVEA_ARGUMENT');
    expect(() => train.attentionTransferLoss([a, a], [a, b])).toThrow(/teacherMaps\[1\] \[1,4,3,3\].*\[1,2,3,3\]/);
  });
});

describe('hungarianLoss', () => {
  const [b, q, c] = [2, 4, 3];
  const logits = (): Tensor => randn([b, q, c + 1], F64).requiresGrad_(true);
  const labels = [ids([2, 0]), ids([1, 1, 0])];
  const pairs = (): Tensor[] => labels.map((l) => randn([q, l.size], F64).requiresGrad_(true));

  /** All ways to give each target a query of its own. */
  function* ways(k: number, taken: number[] = []): Generator<number[]> {
    if (taken.length === k) yield taken;
    else for (let i = 0; i < q; i++) if (!taken.includes(i)) yield* ways(k, [...taken, i]);
  }

  it('matches at the least cost, and sums the parts as DETR does', async () => {
    const z = logits();
    const pairCosts = pairs();
    const { loss, classLoss, pairLoss, matches } = await train.hungarianLoss(z, labels, { pairCosts, classCost: 1.5 });
    const p = z.softmax(-1).toArraySync() as number[][][];
    const logP = z.logSoftmax(-1).toArraySync() as number[][][];
    let [weighted, weights, matched] = [0, 0, 0];
    labels.forEach((l, image) => {
      const classes = list(l);
      const pair = pairCosts[image]!.toArraySync() as number[][];
      const cost = (way: number[]): number =>
        way.reduce((s, i, k) => s + pair[i]![k]! - 1.5 * p[image]![i]![classes[k]!]!, 0);
      const best = [...ways(classes.length)].reduce((x, y) => (cost(y) < cost(x) ? y : x));
      const { queries, targets } = matches[image]!;
      expect(queries).toEqual([...best].sort((x, y) => x - y));
      queries.forEach((i, at) => expect(best[targets[at]!]).toBe(i));
      for (let i = 0; i < q; i++) {
        const k = best.indexOf(i);
        const w = k < 0 ? 0.1 : 1;
        weighted -= w * logP[image]![i]![k < 0 ? c : classes[k]!]!;
        weights += w;
        if (k >= 0) matched += pair[i]![k]!;
      }
    });
    expect(classLoss.itemSync()).toBeCloseTo(weighted / weights, 10);
    expect(pairLoss.itemSync()).toBeCloseTo(matched / 5, 10);
    expect(loss.itemSync()).toBeCloseTo(weighted / weights + matched / 5, 10);
    loss.backward();
    const slopes = list(pairCosts[0]!.grad!);
    expect(slopes.filter((v) => v !== 0)).toEqual([0.2, 0.2]);
    matches[0]!.queries.forEach((i, at) => expect(slopes[2 * i + matches[0]!.targets[at]!]).toBe(0.2));
    expect(list(z.grad!).every((v) => v !== 0)).toBe(true);
    const each = await train.hungarianLoss(z, labels, { pairCosts, classCost: 1.5, reduction: 'none' });
    expect(each.loss.shape).toEqual([b]);
    expect(F.sum(each.loss).itemSync()).toBeCloseTo(weighted + matched, 10);
    const whole = await train.hungarianLoss(z, labels, { pairCosts, classCost: 1.5, reduction: 'sum' });
    expect(whole.loss.itemSync()).toBeCloseTo(weighted + matched, 10);
  });

  it('takes images without targets, more targets than predictions, and classes alone', async () => {
    const nothing = await train.hungarianLoss(logits(), [ids([]), ids([])]);
    expect(nothing.matches).toEqual([
      { queries: [], targets: [] },
      { queries: [], targets: [] },
    ]);
    expect(nothing.pairLoss.itemSync()).toBe(0);
    expect(nothing.loss.itemSync()).toBeGreaterThan(0);
    const many = await train.hungarianLoss(logits(), [ids([0, 1, 2, 0, 1, 2]), ids([0])]);
    expect(many.matches[0]!.queries).toEqual([0, 1, 2, 3]);
    expect(many.matches[1]!.queries).toHaveLength(1);
  });

  it('lets other work go on while it waits', async () => {
    let ticks = 0;
    const pending = train.hungarianLoss(logits(), labels);
    const beat = (async () => {
      await Promise.resolve();
      ticks++;
    })();
    expect(pending).toBeInstanceOf(Promise);
    await Promise.all([pending, beat]);
    expect(ticks).toBe(1);
  });

  it('works under tidy, which keeps what is returned', async () => {
    const z = logits();
    const { loss } = await tidy(async () => train.hungarianLoss(z, labels));
    loss.backward();
    expect(z.grad).not.toBeNull();
  });

  it.each([
    ['another number of images', [ids([0])], {}, 'FOVEA_ARGUMENT', /2 tensors.*labels/],
    ['labels of floats', [zeros([1]), ids([0])], {}, 'FOVEA_DTYPE', /labels\[0\]/],
    ['labels of two axes', [ids([0], [1, 1]), ids([0])], {}, 'FOVEA_SHAPE', /labels\[0\]/],
    ['the class of no object', [ids([0]), ids([c])], {}, 'FOVEA_INDEX', /label 3 of image 1.*3 classes/],
    ['a class beyond', [ids([0]), ids([c + 1])], {}, 'FOVEA_INDEX', /4/],
    [
      'pair costs of another shape',
      [ids([0]), ids([0])],
      { pairCosts: [zeros([q, 1]), zeros([q, 2])] },
      'FOVEA_SHAPE',
      /pairCosts\[1\]/,
    ],
    ['a negative weight', labels, { noObjectWeight: -1 }, 'FOVEA_ARGUMENT', /noObjectWeight/],
    [
      'NaN',
      [ids([0]), ids([0])],
      { pairCosts: [zeros([q, 1]), F.full([q, 1], Number.NaN)] },
      'FOVEA_NAN',
      /image 1.*NaN/,
    ],
    [
      'pairs ruled out',
      [ids([0]), ids([0])],
      { pairCosts: [zeros([q, 1]), F.full([q, 1], Infinity)] },
      'FOVEA_ARGUMENT',
      /image 1/,
    ],
  ] as const)('refuses %s', async (_, given, options, code, message) => {
    await expect(train.hungarianLoss(logits(), given, options)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });
});

describe('sequenceClassificationLoss', () => {
  const logits = (c: number): Tensor => randn([4, c], F64);
  it('chooses by outputs and labels, as Hugging Face does', () => {
    const [one, three] = [logits(1), logits(3)];
    const numbers = randn([4], F64);
    const several = tensor(
      Array.from({ length: 12 }, (_, i) => i % 2),
      { shape: [4, 3], ...F64 },
    );
    const classes = ids([0, 2, 1, 2]);
    const loss = train.sequenceClassificationLoss;
    expect(loss(one, numbers).itemSync()).toBe(F.mseLoss(one, numbers.reshape([4, 1])).itemSync());
    expect(loss(three, classes).itemSync()).toBe(F.crossEntropy(three, classes).itemSync());
    expect(loss(three, several).itemSync()).toBe(F.binaryCrossEntropyWithLogits(three, several).itemSync());
    const regression = loss(three, several, { problemType: 'regression', reduction: 'sum' });
    expect(regression.itemSync()).toBe(F.mseLoss(three, several, { reduction: 'sum' }).itemSync());
    expect(codeOf(() => loss(three, numbers))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => loss(three, classes, { problemType: 'ranking' as never }))).toBe('FOVEA_ARGUMENT');
  });
});

describe('what counts', () => {
  it('is not a token of ignoreIndex', () => {
    const [x, y] = [randn([2, 3, 5], F64), randn([2, 3, 5], F64)];
    const labels = ids([1, 9, 2, 9, 9, 0], [2, 3]);
    const options = { labels, ignoreIndex: 9 };
    const losses = list(train.distillationLoss(x, y, { ...options, ...none }));
    expect(losses.map((v) => v === 0)).toEqual([false, true, false, true, true, false]);
    const mean = train.distillationLoss(x, y, options).itemSync();
    expect(mean).toBeCloseTo(losses.reduce((a, v) => a + v) / 3, 12);
    const z = list(train.zLoss(x, { weight: 1, target: labels, ignoreIndex: 9, ...none }));
    expect(z.map((v) => v === 0)).toEqual([false, true, false, true, true, false]);
    expect(train.zLoss(x, { target: F.mul(labels, 0).add(9), ignoreIndex: 9 }).itemSync()).toBeNaN();
  });

  it('is a class that the teacher rules out: it costs the student nothing', () => {
    const teacher = tensor([[0, 1, -Infinity]], F64);
    const student = tensor([[0, 1, -5]], F64).requiresGrad_(true);
    const loss = train.distillationLoss(student, teacher, { temperature: 1 });
    const [p0, p1] = [1 / (1 + Math.E), Math.E / (1 + Math.E)];
    const log = Math.log(1 + Math.E + Math.exp(-5));
    expect(loss.itemSync()).toBeCloseTo(p0 * (Math.log(p0) + log) + p1 * (Math.log(p1) - 1 + log), 12);
    loss.backward();
    expect(list(student.grad!).every(Number.isFinite)).toBe(true);
  });
});

it.each([
  ['clipLoss of two shapes', () => train.clipLoss(zeros([2, 3]), zeros([3, 3]), 1), 'FOVEA_SHAPE'],
  ['clipLoss of vectors', () => train.clipLoss(zeros([3]), zeros([3]), 1), 'FOVEA_SHAPE'],
  ['clipLoss of integers', () => train.clipLoss(ids([1], [1, 1]), zeros([1, 1]), 1), 'FOVEA_DTYPE'],
  ['clipLoss by several scales', () => train.clipLoss(zeros([2, 3]), zeros([2, 3]), zeros([2])), 'FOVEA_SHAPE'],
  ['clipLoss by no scale', () => train.clipLoss(zeros([2, 3]), zeros([2, 3]), '1' as never), 'FOVEA_ARGUMENT'],
  ['infoNCE of another width', () => train.infoNCE(zeros([2, 3]), zeros([2, 3]), zeros([4, 2])), 'FOVEA_SHAPE'],
  ['infoNCE of another batch', () => train.infoNCE(zeros([2, 3]), zeros([2, 3]), zeros([3, 4, 3])), 'FOVEA_SHAPE'],
  ['infoNCE at 0', () => train.infoNCE(zeros([2, 3]), zeros([2, 3]), null, { temperature: 0 }), 'FOVEA_ARGUMENT'],
  ['zLoss of integers', () => train.zLoss(ids([1], [1, 1])), 'FOVEA_DTYPE'],
  ['zLoss of a number', () => train.zLoss(zeros([])), 'FOVEA_SHAPE'],
  ['zLoss of another target', () => train.zLoss(zeros([2, 3]), { target: ids([1]) }), 'FOVEA_SHAPE'],
  ['zLoss of a weight below 0', () => train.zLoss(zeros([2, 3]), { weight: -1 }), 'FOVEA_ARGUMENT'],
  ['distillationLoss of two shapes', () => train.distillationLoss(zeros([2, 3]), zeros([2, 4])), 'FOVEA_SHAPE'],
  [
    'distillationLoss at 0',
    () => train.distillationLoss(zeros([2, 3]), zeros([2, 3]), { temperature: 0 }),
    'FOVEA_ARGUMENT',
  ],
  [
    'an alpha without labels',
    () => train.distillationLoss(zeros([2, 3]), zeros([2, 3]), { alpha: 0.5 }),
    'FOVEA_ARGUMENT',
  ],
  [
    'labels of floats',
    () => train.distillationLoss(zeros([2, 3]), zeros([2, 3]), { labels: zeros([2]) }),
    'FOVEA_DTYPE',
  ],
] as const)('refuses %s', (_, run, code) => {
  expect(codeOf(run)).toBe(code);
});
