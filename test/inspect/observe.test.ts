// Capture of attention: the weights equal their formula, and nothing of the model changes.
import {
  attention,
  autocast,
  fullLike,
  inspect,
  memory,
  nn,
  noGrad,
  randint,
  randn,
  record,
  tensor,
  tidy,
  type Tensor,
} from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { codeOf, list } from '../helpers.js';
import { Attend, heads, Outer, type TensorOptions, tiny, weightsOf } from './attend.js';

const randomMask = (...shape: number[]): Tensor => randint(0, 3, shape).gt(0);
const tokens = (length: number, batch = 1): Tensor => randint(0, 40, [batch, length], { dtype: 'int64' });

describe('weights', () => {
  const [b, h, n, m, d] = [2, 6, 5, 7, 3];
  const cases: [name: string, g: number, options: () => TensorOptions][] = [
    ['no mask', h, () => ({})],
    ['grouped heads', 3, () => ({})],
    ['one key head, another scale', 1, () => ({ scale: 0.7 })],
    ['causal, top left', h, () => ({ causal: 'topLeft' })],
    ['causal, bottom right, grouped', 2, () => ({ causal: 'bottomRight' })],
    ['mask of keys', h, () => ({ mask: randomMask(b, 1, 1, m) })],
    ['mask of all', 3, () => ({ mask: randomMask(b, h, n, m) })],
    ['mask of two axes and causal', h, () => ({ mask: randomMask(n, m), causal: 'topLeft' })],
    ['bias by head', h, () => ({ bias: randn([h, 1, m]) })],
    [
      'bias, mask and causal',
      2,
      () => ({ bias: randn([b, 1, n, 1]), mask: randomMask(h, n, m), causal: 'bottomRight' }),
    ],
    ['nothing to be seen', h, () => ({ mask: fullLike(randomMask(n, m), false) })],
  ];
  test.each(cases)('%s', (_, g, make) => {
    const [q, k, v, model, options] = [heads(b, h, n, d), heads(b, g, m, d), heads(b, g, m, 4), new Attend(), make()];
    using observer = inspect.observe(model);
    model.forward(q, k, v, options);
    const [capture] = observer.captures;
    const all = capture!.weights();
    const expected = weightsOf(q, k, options);
    expect([...all.shape]).toEqual([b, h, n, m]);
    expect(compare(list(all), expected).difference).toBeLessThan(4e-6);
    // A part of it has the bits of the whole: no row depends on the others.
    const some = capture!.weights({ rows: [1, 4], heads: [4, 1, 4], batch: 1 });
    const same = all
      .narrow(0, 1, 1)
      .indexSelect(1, tensor([4, 1, 4], { dtype: 'int64' }))
      .narrow(2, 1, 3);
    expect([...some.shape]).toEqual([1, 3, 3, m]);
    expect(compare(list(some), list(same)).difference).toBeLessThan(4e-6);
  });

  test('of two, three and five axes', () => {
    const model = new Attend();
    using observer = inspect.observe(model);
    const [q, k] = [randn([2, 2, 3, 4, 8]), randn([2, 2, 3, 5, 8])];
    model.forward(q, k, k, { mask: randomMask(2, 1, 1, 1, 5) });
    model.forward(randn([4, 8]), randn([5, 8]), randn([5, 8]));
    expect(observer.captures.map((capture) => [...capture.weights().shape])).toEqual([
      [4, 3, 4, 5],
      [1, 1, 4, 5],
    ]);
    const { batch, heads: h, keyHeads, queries, keys, causal, scale, call, module } = observer.get('', 0);
    expect({ batch, h, keyHeads, queries, keys, causal, call, module }).toEqual({
      batch: 4,
      h: 3,
      keyHeads: 3,
      queries: 4,
      keys: 5,
      causal: false,
      call: 0,
      module: '',
    });
    expect(scale).toBeCloseTo(1 / Math.sqrt(8), 12);
  });

  test('of the only head, as often as it is asked for', () => {
    const model = new Attend();
    using observer = inspect.observe(model);
    const q = heads(1, 1, 3, 4);
    model.forward(q, q, q, { mask: randomMask(1, 1, 3, 3), bias: randn([3]) });
    const [capture] = observer.captures;
    const one = list(capture!.weights());
    expect(list(capture!.weights({ heads: [0, 0] }))).toEqual([...one, ...one]);
  });

  test.each(['bfloat16', 'float16', 'float64'] as const)('of %s', (dtype) => {
    const model = new Attend();
    using observer = inspect.observe(model);
    const [q, k] = [heads(1, 2, 4, 8).to(dtype), heads(1, 2, 6, 8).to(dtype)];
    model.forward(q, k, k, { causal: 'topLeft' });
    const weights = observer.captures[0]!.weights();
    expect(weights.dtype).toBe(dtype === 'float64' ? 'float64' : 'float32');
    expect(compare(list(weights), weightsOf(q, k, { causal: 'topLeft' })).difference).toBeLessThan(4e-6);
  });

  test('are computed in float32 under autocast, too', () => {
    const model = tiny();
    using observer = inspect.observe(model);
    const inputIds = tokens(7);
    const weights = autocast('bfloat16', () => {
      noGrad(() => model.forward({ inputIds }));
      return observer.captures[0]!.weights();
    });
    expect(list(observer.captures[0]!.weights())).toEqual(list(weights));
    for (const sum of list(weights.sum(-1))) expect(sum).toBeCloseTo(1, 5);
  });

  test('of a long input take memory for the rows that are asked for', () => {
    const [model, length] = [new Attend(), 30_000];
    using observer = inspect.observe(model, { attention: true });
    const q = noGrad(() => randn([1, 2, length, 4]));
    // One query attends; the capture is given all of them, since 30,000 × 30,000 products would take long here.
    noGrad(() => model.forward(q.narrow(2, 0, 1), q, q));
    const before = memory().live;
    const weights = observer.captures[0]!.weights({ heads: [1] });
    expect(memory().live - before).toBeLessThan(2 * 4 * length);
    expect(weights.sum().itemSync()).toBeCloseTo(1, 4);
  });
});

describe('the observed model', () => {
  test.each(['forward', 'gradients'] as const)('has the same bits: %s', (what) => {
    const model = tiny();
    const inputIds = tokens(13, 2);
    const attentionMask = tensor([Array.from({ length: 13 }, (_, i) => Number(i < 9)), new Array<number>(13).fill(1)]);
    const run = (): number[][] => {
      if (what === 'forward') return [list(noGrad(() => model.forward({ inputIds, attentionMask }).logits))];
      model.forward({ inputIds, attentionMask, labels: inputIds }).loss!.backward();
      const gradients = model.parameters().map(({ grad }) => list(grad!));
      model.zeroGrad();
      return gradients;
    };
    const plain = run();
    const observer = inspect.observe(model);
    expect(run()).toEqual(plain);
    expect(observer.captures).toHaveLength(2);
    observer.dispose();
    expect(run()).toEqual(plain);
    expect(observer.captures).toHaveLength(0);
  });

  test('gives the weights that it returns when asked, and those of a stack of layers', () => {
    const model = tiny();
    const inputIds = tokens(11);
    using observer = inspect.observe(model);
    const { attentions } = noGrad(() => model.forward({ inputIds, outputAttentions: true }));
    noGrad(() => model.forward({ inputIds }));
    expect(observer.modules).toEqual(['transformer.h.0.attn', 'transformer.h.1.attn']);
    for (const [layer, expected] of attentions!.entries())
      for (const call of [0, 1]) {
        const weights = observer.get(`transformer.h.${layer}.attn`, call).weights();
        expect(compare(list(weights), list(expected)).difference).toBeLessThan(4e-6);
      }
  });

  test.each([true, false])('multi-head attention of layers, needWeights %s', (needWeights) => {
    const layer = new nn.MultiheadAttention(12, 3, { batchFirst: true });
    const [x, y] = [randn([2, 5, 12]), randn([2, 7, 12])];
    const options = { needWeights, attnMask: randomMask(5, 7), keyPaddingMask: randomMask(2, 7) };
    const [plain] = layer.forward(x, y, y, options);
    using observer = inspect.observe(layer);
    const [output] = layer.forward(x, y, y, options);
    expect(list(output)).toEqual(list(plain));
    const [, weights] = layer.forward(x, y, y, { ...options, needWeights: true });
    expect(compare(list(observer.captures[0]!.weights()), list(weights!)).difference).toBeLessThan(4e-6);
  });

  test('generates the same tokens, each of which is seen', async () => {
    const model = tiny();
    const inputIds = tokens(6);
    const plain = await model.generate({ inputIds, maxNewTokens: 5 });
    using observer = inspect.observe(model, { modules: ['transformer.h.1'] });
    const seen = await model.generate({ inputIds, maxNewTokens: 5 });
    expect(await seen.data<BigInt64Array>()).toEqual(await plain.data<BigInt64Array>());
    expect(observer.captures.map(({ queries, keys }) => `${queries}x${keys}`)).toEqual([
      '6x6',
      '1x7',
      '1x8',
      '1x9',
      '1x10',
    ]);
    // The cache has grown behind the keys that were seen first.
    expect(list(observer.captures[0]!.weights().sum(-1)).every((sum) => Math.abs(sum - 1) < 1e-5)).toBe(true);
    observer.dispose();
    const after = await model.generate({ inputIds, maxNewTokens: 5 });
    expect(await after.data<BigInt64Array>()).toEqual(await plain.data<BigInt64Array>());
  });
});

describe('an observer', () => {
  test('sees its own model alone, and only inside of its forward', () => {
    const [model, other] = [new Outer(), new Outer()];
    using observer = inspect.observe(model);
    const x = heads(1, 2, 3, 4);
    other.forward(x);
    attention(x, x, x);
    expect(observer.captures).toHaveLength(0);
    model.forward(x);
    expect(observer.modules).toEqual(['inner', 'twin']);
    model.inner.forward(x, x, x);
    expect(observer.captures.map(({ module, call }) => `${module} ${call}`)).toEqual(['inner 0', 'twin 0', 'inner 1']);
  });

  test('of a part names from that part; both see what is common, until each ends', () => {
    const model = new Outer();
    const x = heads(1, 1, 2, 2);
    const whole = inspect.observe(model);
    const part = inspect.observe(model.inner);
    const again = inspect.observe(model, { modules: ['twin'] });
    model.forward(x);
    expect([whole, part, again].map(({ modules }) => modules)).toEqual([['inner', 'twin'], [''], ['twin']]);
    whole.dispose();
    model.forward(x);
    expect([whole, part, again].map(({ captures }) => captures.length)).toEqual([0, 2, 2]);
    part.dispose();
    part.dispose();
    model.forward(x);
    expect([part, again].map(({ captures }) => captures.length)).toEqual([0, 3]);
    again.dispose();
    model.forward(x);
    expect(again.captures).toHaveLength(0);
  });

  test('keeps requests apart that run side by side', async () => {
    class Slow extends nn.Module {
      attend: Attend = new Attend();
      override async forward(x: Tensor, ms: number): Promise<Tensor> {
        await new Promise((resolve) => setTimeout(resolve, ms));
        return this.attend.forward(x, x, x);
      }
    }
    const [seen, unseen] = [new Slow(), new Slow()];
    using observer = inspect.observe(seen);
    await Promise.all([
      seen.forward(heads(1, 1, 2, 2), 5),
      unseen.forward(heads(1, 1, 3, 2), 1),
      (async () => {
        await new Promise((resolve) => setTimeout(resolve, 2));
        attention(heads(1, 1, 4, 2), heads(1, 1, 4, 2), heads(1, 1, 4, 2));
      })(),
      seen.forward(heads(1, 1, 5, 2), 3),
    ]);
    // On a busy machine timers of a few milliseconds may end in any order.
    expect(new Set(observer.captures.map(({ queries }) => queries))).toEqual(new Set([2, 5]));
    expect(observer.captures).toHaveLength(2);
  });

  test('keeps captures through tidy and frees them at its end', () => {
    const model = tiny();
    const inputIds = tokens(9);
    const run = (): void => tidy(() => void noGrad(() => model.forward({ inputIds })));
    run();
    const before = memory().tensors;
    const observer = tidy(() => inspect.observe(model));
    run();
    const weights = observer.captures.map((capture) => capture.weights());
    const sums = weights.flatMap((w) => tidy(() => list(w.sum(-1))));
    expect(sums.every((sum) => Math.abs(sum - 1) < 1e-5)).toBe(true);
    const capture = observer.captures[0]!;
    observer.clear();
    expect(capture.isDisposed).toBe(true);
    run();
    expect(observer.captures.map(({ call }) => call)).toEqual([0, 0]);
    observer.dispose();
    for (const w of weights) w.dispose();
    expect(memory().tensors).toBeLessThanOrEqual(before);
    expect(observer.isDisposed).toBe(true);
    expect(codeOf(() => capture.weights())).toBe('FOVEA_DISPOSED');
    expect(codeOf(() => observer.get('transformer.h.0.attn'))).toBe('FOVEA_DISPOSED');
  });

  test('keeps the last calls that were asked for', () => {
    const model = new Outer();
    using observer = inspect.observe(model, { maxCalls: 2 });
    for (const length of [2, 3, 4]) model.forward(heads(1, 1, length, 2));
    expect(observer.captures.map(({ module, queries, call }) => `${module} ${queries} ${call}`)).toEqual([
      'inner 3 1',
      'twin 3 1',
      'inner 4 2',
      'twin 4 2',
    ]);
    expect(observer.get('inner').queries).toBe(4);
    expect(observer.get('inner', 0).queries).toBe(3);
    expect(codeOf(() => observer.get('inner', 2))).toBe('FOVEA_INDEX');
  });

  test('survives what fails in the model', () => {
    class Fails extends nn.Module {
      attend: Attend = new Attend();
      override forward(x: Tensor): Tensor {
        this.attend.forward(x, x, x);
        throw new RangeError('on purpose');
      }
    }
    const model = new Fails();
    const x = heads(1, 1, 2, 2);
    using observer = inspect.observe(model);
    expect(() => model.forward(x)).toThrow(/on purpose/);
    attention(x, x, x);
    expect(observer.modules).toEqual(['attend']);
    expect(observer.captures).toHaveLength(1);
    expect(codeOf(() => model.attend.forward(x, heads(1, 1, 2, 3), x))).toBe('FOVEA_SHAPE');
    expect(observer.captures).toHaveLength(1);
  });

  test('says what was changed, what is not there and what cannot be', () => {
    const model = new Outer();
    const x = heads(1, 2, 3, 4);
    const observer = inspect.observe(model);
    expect(() => observer.get('inner')).toThrow(/run the model first/);
    model.forward(x);
    const capture = observer.get('inner');
    expect(() => observer.get('iner')).toThrow(/there are inner, twin/);
    expect(codeOf(() => capture.weights({ rows: [2, 4] }))).toBe('FOVEA_INDEX');
    expect(codeOf(() => capture.weights({ rows: [2, 2] }))).toBe('FOVEA_INDEX');
    expect(codeOf(() => capture.weights({ rows: [0.5, 2] }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => capture.weights({ heads: [2] }))).toBe('FOVEA_INDEX');
    expect(codeOf(() => capture.weights({ heads: [] }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => capture.weights({ batch: 1 }))).toBe('FOVEA_INDEX');
    expect(codeOf(() => capture.weights({ row: [0, 1] } as never))).toBe('FOVEA_ARGUMENT');
    const step = record((y: Tensor) => model.forward(y));
    expect(() => step(x)).toThrow(/inspect.observe was called in the step/);
    noGrad(() => x.mul_(2));
    expect(() => capture.weights()).toThrow(/q of inner was written to since attention read it/);
    observer.dispose();
    expect([...step(x).shape]).toEqual([1, 2, 3, 4]);
    step.dispose();
    expect(() => inspect.observe(model, { modules: ['first.inner'] })).toThrow(/there are inner/);
    expect(codeOf(() => inspect.observe({} as never))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.observe(model, { attention: false }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.observe(model, { maxCalls: 0 }))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => inspect.observe(model, { atention: true } as never))).toBe('FOVEA_ARGUMENT');
  });
});
