// Mixed precision: which op runs in which dtype, gradients, the cache of converted parameters, the mode itself.
import {
  autocast,
  type Dtype,
  functional as F,
  getAutocastDtype,
  isAutocastEnabled,
  memory,
  nn,
  noGrad,
  ones,
  randn,
  strict,
  tensor,
  type Tensor,
  tidy,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, list } from '../helpers.js';

const HALVES = ['bfloat16', 'float16'] as const;
type Call = (x: Tensor) => Tensor;
const square = (x: Tensor): Tensor => x.reshape([4, 4]);
const classes = tensor([0, 1, 2, 3], { dtype: 'int64' });
const index = zeros([4, 4], { dtype: 'int64' });

/** In the dtype of autocast, whatever floats they are given. */
const products: Record<string, Call> = {
  matmul: (x) => F.matmul(x, x.transpose(0, 1)),
  'matmul of vectors': (x) => F.matmul(x.select(0, 0), x.select(0, 1)),
  linear: (x) => F.linear(x, ones([3, 4]), ones([3])),
  addmm: (x) => F.addmm(ones([4]), x, ones([4, 4])),
  'addmm with an activation': (x) => F.addmm(ones([4]), x, ones([4, 4]), { activation: 'gelu' }),
  einsum: (x) => F.einsum('ij,kj->ik', x, ones([2, 4])),
  'einsum of one': (x) => F.einsum('ij->ji', x),
  attention: (x) => F.attention(x, x, ones([4, 4]), { bias: zeros([4, 4]) }),
  scaledDotProductAttention: (x) => F.scaledDotProductAttention(x, x, x, { attnMask: zeros([4, 4]) }),
};
/** In float32, whatever floats they are given. */
const precise: Record<string, Call> = {
  exp: F.exp,
  expm1: F.expm1,
  log: F.log,
  log1p: F.log1p,
  log2: F.log2,
  square: F.square,
  reciprocal: F.reciprocal,
  rsqrt: F.rsqrt,
  pow: (x) => F.pow(x, 2),
  'pow of a number': (x) => F.pow(2, x),
  softplus: (x) => F.softplus(x),
  softmax: (x) => F.softmax(x, 0),
  logSoftmax: (x) => F.logSoftmax(x, -1),
  logsumexp: (x) => F.logsumexp(x, 1),
  layerNorm: (x) => F.layerNorm(x, 4, ones([4]), zeros([4])),
  sum: (x) => F.sum(x),
  prod: (x) => F.prod(x, 0),
  cumsum: (x) => F.cumsum(x, 0),
  norm: (x) => F.norm(x),
  crossEntropy: (x) => F.crossEntropy(x, classes),
  'crossEntropy of probabilities': (x) => F.crossEntropy(x, x.detach()),
  linearCrossEntropy: (x) => F.linearCrossEntropy(x, ones([4, 4]), classes),
  nllLoss: (x) => F.nllLoss(x, classes),
  mseLoss: (x) => F.mseLoss(x, zeros([4, 4]).to(x.dtype)),
  l1Loss: (x) => F.l1Loss(x, zeros([4, 4]).to(x.dtype)),
  binaryCrossEntropyWithLogits: (x) => F.binaryCrossEntropyWithLogits(x, x.detach()),
  klDiv: (x) => F.klDiv(x, x.detach()),
  'klDiv of logarithms': (x) => F.klDiv(x, x.detach(), { logTarget: true }),
};
/** In the wider of the operand's dtype and float32, which the other operand has. */
const promoting: Record<string, Call> = {
  add: (x) => F.add(x, ones([4])),
  mul: (x) => F.mul(ones([4]), x),
  atan2: (x) => F.atan2(x, ones([4])),
  where: (x) => F.where(F.gt(x, 1), x, zeros([4])),
  concat: (x) => F.concat([x, ones([1, 4])]),
  stack: (x) => F.stack([x, ones([4, 4])]),
  scatterAdd: (x) => F.scatterAdd(x, 0, index, ones([4, 4])),
  'scatterAdd into float32': (x) => F.scatterAdd(ones([4, 4]), 0, index, x),
};
/** In the dtype that they are given. */
const neutral: Record<string, Call> = {
  mean: (x) => F.mean(x),
  variance: (x) => F.variance(x),
  amax: (x) => F.amax(x),
  sqrt: F.sqrt,
  sin: F.sin,
  erf: F.erf,
  relu: F.relu,
  gelu: (x) => F.gelu(x, { approximate: 'tanh' }),
  silu: F.silu,
  sigmoid: F.sigmoid,
  tanh: F.tanh,
  logSigmoid: F.logSigmoid,
  leakyRelu: (x) => F.leakyRelu(x),
  rmsNorm: (x) => F.rmsNorm(x, 4, ones([4])),
  dropout: (x) => F.dropout(x, { p: 0.5 }),
  embedding: (x) => F.embedding(classes, x),
  'mul by a number': (x) => F.mul(x, 0.5),
  'sum in a dtype': (x) => F.sum(x, undefined, { dtype: x.dtype }),
  'softmax in a dtype': (x) => F.softmax(x, 0, { dtype: x.dtype }),
  reshape: square,
};
const positive = (dtype: Dtype): Tensor =>
  tensor([...Array(16).keys()].map((i) => (i + 1) / 16))
    .reshape([4, 4])
    .to(dtype);

describe.each(HALVES)('the dtype of an op under autocast(%s)', (dtype) => {
  const given = [...HALVES, 'float32', 'float64'] as const;
  const under = (run: Call, from: Dtype): Dtype => autocast(dtype, () => tidy(() => run(positive(from)).dtype));
  const rows = (calls: Record<string, Call>): [string, Call][] => Object.entries(calls);
  it.each(rows(products))('%s: that of autocast', (_, run) => {
    for (const from of ['bfloat16', 'float16', 'float32'] as const) expect(under(run, from), from).toBe(dtype);
  });
  it.each(rows(precise))('%s: float32', (_, run) => {
    for (const from of ['bfloat16', 'float16', 'float32'] as const) expect(under(run, from), from).toBe('float32');
  });
  it.each(rows(promoting))('%s: the widest', (_, run) => {
    for (const from of ['bfloat16', 'float16', 'float32'] as const) expect(under(run, from), from).toBe('float32');
  });
  it.each(rows(neutral))('%s: its own', (_, run) => {
    for (const from of given) expect(under(run, from), from).toBe(from);
  });
  it('float64 stays what it is, and so do integers', () => {
    const doubles = { ...precise, matmul: products['matmul']! };
    for (const [name, run] of rows(doubles)) expect(under(run, 'float64'), name).toBe('float64');
    expect(autocast(dtype, () => F.matmul(ones([2, 2]), ones([2, 2], { dtype: 'float64' })).dtype)).toBe('float64');
    expect(autocast(dtype, () => F.matmul(index, index).dtype)).toBe('int64');
    expect(autocast(dtype, () => F.sum(index).dtype)).toBe('int64');
  });
  it('errors name the op as they do without', () => {
    const bad = 'x' as unknown as Tensor;
    for (const op of ['exp', 'square', 'matmul', 'sum', 'softmax', 'layerNorm', 'scatterAdd', 'mseLoss'] as const) {
      const call = F[op] as (...args: unknown[]) => unknown;
      expect(() => autocast(dtype, () => call(bad, 1, bad, bad)), op).toThrow(new RegExp(`^${op}: `));
    }
  });
});

describe('values and gradients under autocast', () => {
  const x = randn([5, 8]);
  const w = randn([3, 8], { requiresGrad: true });
  const b = randn([3], { requiresGrad: true });
  it('are those of converting by hand, to the last bit', () => {
    const byHand = F.linear(x.bfloat16(), w.bfloat16(), b.bfloat16());
    byHand.float().square().sum().backward();
    const expected = [w, b].map(({ grad }) => list(grad!));
    for (const p of [w, b]) p.grad = null;
    const y = autocast('bfloat16', () => F.linear(x, w, b));
    expect(list(y)).toEqual(list(byHand));
    autocast('bfloat16', () => y.square().sum()).backward();
    expect([w, b].map(({ grad }) => grad!.dtype)).toEqual(['float32', 'float32']);
    expect([w, b].map(({ grad }) => list(grad!))).toEqual(expected);
    for (const p of [w, b]) p.grad = null;
  });
  it('backward under autocast is backward outside of it', () => {
    const loss = (): Tensor =>
      F.softmax(F.linear(x, w, b).tanh(), -1)
        .log()
        .pow(2)
        .sum();
    const gradients = (run: () => void): number[][] => {
      run();
      const found = [w, b].map(({ grad }) => list(grad!));
      for (const p of [w, b]) p.grad = null;
      return found;
    };
    const outside = gradients(() => autocast('float16', loss).backward());
    expect(gradients(() => autocast('float16', () => loss().backward()))).toEqual(outside);
    // what forward ran in float32 is not lowered by an autocast around backward
    const plain = gradients(() => loss().backward());
    const full = loss();
    expect(gradients(() => autocast('float16', () => full.backward()))).toEqual(plain);
    expect(plain).not.toEqual(outside);
  });
  it('a module has gradients in the dtype of its parameters', () => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 8, nHead: 2, dimFeedforward: 16, dropout: 0 });
    const src = randn([3, 2, 8]);
    const exact = layer.forward(src);
    const rounded = autocast('bfloat16', () => layer.forward(src));
    expect(rounded.dtype).toBe('float32');
    list(rounded).forEach((v, i) => expect(Math.abs(v - list(exact)[i]!)).toBeLessThan(0.1));
    autocast('bfloat16', () => F.mseLoss(rounded, src)).backward();
    expect(layer.parameters().map(({ grad }) => grad?.dtype)).toEqual(layer.parameters().map(() => 'float32'));
  });
  it('attention with its weights keeps them in float32', () => {
    const layer = new nn.MultiheadAttention(8, 2);
    const src = randn([3, 2, 8]);
    const [output, weights] = autocast('bfloat16', () => layer.forward(src, src, src));
    expect([output.dtype, weights!.dtype]).toEqual(['bfloat16', 'float32']);
  });
});

describe('converted parameters', () => {
  const SIZE = 256;
  const bytes = 2 * SIZE * SIZE;
  const weight = (): Tensor => randn([SIZE, SIZE], { requiresGrad: true });
  const x = ones([1, SIZE]);
  /**
   * Conversions of the weight that stay live after `run`, which leaves no graph behind; blocks are rounded up a little.
   */
  const grown = (run: () => void): number => {
    const before = memory().live;
    noGrad(() =>
      tidy(() => {
        run();
      }),
    );
    return Math.round((100 * (memory().live - before)) / bytes) / 100;
  };
  it('are made once, outlive the scope they were made in, and are freed at the end of the outermost region', () => {
    const w = weight();
    const start = memory().live;
    autocast('bfloat16', () => {
      expect(grown(() => F.linear(x, w))).toBe(1);
      expect(grown(() => F.matmul(x, w))).toBe(0);
      autocast('bfloat16', () => expect(grown(() => F.linear(x, w))).toBe(0));
      autocast(false, () => autocast('bfloat16', () => expect(grown(() => F.linear(x, w))).toBe(0)));
    });
    expect(memory().live).toBe(start);
  });
  it('are made anew once the parameter has changed, or for another dtype', () => {
    const w = weight();
    autocast('bfloat16', () => {
      const before = F.linear(x, w).sum().itemSync();
      noGrad(() => w.mul_(2));
      expect(F.linear(x, w).sum().itemSync()).toBe(2 * before);
      const half = autocast('float16', () => F.linear(x, w));
      expect(half.dtype).toBe('float16');
      expect(F.linear(x, w).dtype).toBe('bfloat16');
    });
  });
  it('made under noGrad do not cut the gradient of what follows', () => {
    const w = weight();
    autocast('bfloat16', () => {
      noGrad(() => F.linear(x, w));
      F.linear(x, w).sum().backward();
    });
    expect(list(w.grad!).every((g) => g === 1)).toBe(true);
  });
  it('serve several backwards, and add up', () => {
    const w = weight();
    autocast('bfloat16', () => {
      for (let i = 0; i < 3; i++) tidy(() => F.linear(x, w).sum().backward());
    });
    expect(list(w.grad!).every((g) => g === 3)).toBe(true);
  });
  it('are never handed out: what an op returns is its own', () => {
    const w = weight();
    const same = autocast('bfloat16', () => {
      F.einsum('ij->ij', w).dispose();
      return F.einsum('ij->ij', w);
    });
    expect(same.isDisposed).toBe(false);
    expect(list(same)).toEqual(list(w.bfloat16()));
  });
  it('of tensors that need no gradient are not kept', () => {
    const w = weight().detach();
    autocast('bfloat16', () => expect(grown(() => F.linear(x, w))).toBe(0));
  });
});

describe('the mode', () => {
  it('is off, and says so', () => {
    expect([isAutocastEnabled(), getAutocastDtype()]).toEqual([false, null]);
    autocast('float16', () => {
      expect([isAutocastEnabled(), getAutocastDtype()]).toEqual([true, 'float16']);
      autocast('bfloat16', () => expect(getAutocastDtype()).toBe('bfloat16'));
      autocast(false, () => expect([isAutocastEnabled(), getAutocastDtype()]).toEqual([false, null]));
      expect(autocast(false, () => F.matmul(ones([2, 2]), ones([2, 2])).dtype)).toBe('float32');
      expect(noGrad(() => strict(() => tidy(() => getAutocastDtype())))).toBe('float16');
    });
    expect(isAutocastEnabled()).toBe(false);
  });
  it('ends when its function throws', () => {
    const failing = (): never => {
      throw new Error('on purpose');
    };
    expect(() => autocast('float16', failing)).toThrow('on purpose');
    expect(isAutocastEnabled()).toBe(false);
  });
  it('follows an async function, and no other', async () => {
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const w = randn([64, 64], { requiresGrad: true });
    const start = memory().live;
    const under = async (dtype: 'bfloat16' | 'float16'): Promise<Dtype[]> =>
      autocast(dtype, async () => {
        const seen: Dtype[] = [];
        for (let i = 0; i < 3; i++) {
          await turn();
          seen.push(noGrad(() => tidy(() => F.matmul(w, w).dtype)));
        }
        return seen;
      });
    const one = under('bfloat16');
    const other = under('float16');
    await turn();
    expect(isAutocastEnabled()).toBe(false);
    expect(await one).toEqual(['bfloat16', 'bfloat16', 'bfloat16']);
    expect(await other).toEqual(['float16', 'float16', 'float16']);
    expect(memory().live).toBe(start);
  });
  it('refuses other dtypes and what is no function', () => {
    const call = autocast as (...args: unknown[]) => unknown;
    for (const dtype of ['float32', 'float64', 'int64', undefined, null, true, {}])
      expect(codeOf(() => call(dtype, () => 0))).toBe('FOVEA_ARGUMENT');
    for (const fn of [undefined, null, 1, 'f']) expect(codeOf(() => call('float16', fn))).toBe('FOVEA_ARGUMENT');
    expect(() => call('float32', () => 0)).toThrow(/^autocast: .*'bfloat16', 'float16' or false.*"float32"/);
  });
});
