// Models without some heads: as if the rows of the output projection were zero, for one request alone.
import { inspect, nn, noGrad, randint, randn, record, type Tensor } from 'fovea';
import type { GPT2LMHeadModel } from 'fovea/models';
import { expect, test } from 'vitest';
import { compare } from '../golden.js';
import { codeOf, list } from '../helpers.js';
import { Attend, heads, Outer, tiny } from './attend.js';

const inputIds = randint(0, 40, [2, 9], { dtype: 'int64' });
const logits = (model: GPT2LMHeadModel, outputAttentions = false): number[] =>
  list(noGrad(() => model.forward({ inputIds, outputAttentions }).logits));

/** The logits after the rows of `c_proj` that belong to some heads were set to zero. */
function withoutRows(model: GPT2LMHeadModel, layer: number, without: readonly number[]): number[] {
  const weight = model.stateDict()[`transformer.h.${layer}.attn.c_proj.weight`]!;
  const saved = weight.detach().clone();
  noGrad(() => {
    for (const head of without) weight.narrow(0, head * 8, 8).zero_();
  });
  const result = logits(model);
  noGrad(() => weight.copy_(saved));
  return result;
}

test.each([[[2]], [[0, 3]]])('heads %j of a layer, fused and with weights', (without) => {
  const model = tiny();
  const plain = logits(model);
  const expected = withoutRows(model, 1, without);
  const ablations = [{ module: 'transformer.h.1.attn', heads: without }];
  for (const outputAttentions of [false, true]) {
    const measured = inspect.ablate(model, ablations, () => logits(model, outputAttentions));
    expect(compare(measured, expected).difference).toBeLessThan(1e-5);
    expect(compare(measured, plain).difference).toBeGreaterThan(1e-3);
  }
  expect(logits(model)).toEqual(plain);
});

test('all heads of all layers, by the name of what is around them', () => {
  const model = tiny();
  const all = inspect.ablate(model, [{ module: '' }], () => logits(model));
  const each = [0, 1].map((layer) => ({ module: `transformer.h.${layer}`, heads: [0, 1, 2, 3] }));
  expect(inspect.ablate(model, each, () => logits(model))).toEqual(all);
  const nested = inspect.ablate(model, [each[0]!], () => inspect.ablate(model, [each[1]!], () => logits(model)));
  expect(nested).toEqual(all);
});

test('other heads keep their bits, and what is not finite goes too', () => {
  const model = new Attend();
  const [q, v] = [heads(2, 3, 4, 5), heads(2, 3, 4, 5)];
  noGrad(() => v.select(1, 1).fill_(Number.NaN));
  const [plain, ablated] = [
    model.forward(q, q, v),
    inspect.ablate(model, [{ module: '', heads: [1] }], () => model.forward(q, q, v)),
  ];
  for (const head of [0, 2]) expect(list(ablated.select(1, head))).toEqual(list(plain.select(1, head)));
  expect(new Set(list(ablated.select(1, 1)))).toEqual(new Set([0]));
});

test('gradients flow through the other heads alone', () => {
  const model = new Attend();
  const v = heads(1, 2, 3, 4).requiresGrad_();
  const q = heads(1, 2, 3, 4);
  inspect.ablate(model, [{ module: '', heads: [0] }], () => model.forward(q, q, v).sum().backward());
  expect(new Set(list(v.grad!.select(1, 0)))).toEqual(new Set([0]));
  expect(list(v.grad!.select(1, 1)).some((x) => x !== 0)).toBe(true);
});

test('only the request that asks is without heads', async () => {
  class Slow extends nn.Module {
    attend: Attend = new Attend();
    override async forward(x: Tensor, ms: number): Promise<Tensor> {
      await new Promise((resolve) => setTimeout(resolve, ms));
      return this.attend.forward(x, x, x);
    }
  }
  const model = new Slow();
  const x = heads(1, 2, 3, 4);
  const plain = list(model.attend.forward(x, x, x));
  const [without, first, meanwhile] = await Promise.all([
    inspect.ablate(model, [{ module: 'attend', heads: [0, 1] }], () => model.forward(x, 4)),
    inspect.ablate(model, [{ module: 'attend', heads: [0] }], () => model.forward(x, 3)),
    model.forward(x, 2),
  ]);
  expect(new Set(list(without))).toEqual(new Set([0]));
  expect(list(first)).toEqual(plain.map((value, i) => (i < 12 ? 0 : value)));
  expect(list(meanwhile)).toEqual(plain);
});

test('generation goes on without them, and an observer sees the same call', async () => {
  const model = tiny();
  using observer = inspect.observe(model, { modules: ['transformer.h.0'] });
  const first = await inspect.ablate(model, [{ module: 'transformer.h.0.attn' }], () =>
    model.generate({ inputIds, maxNewTokens: 4 }),
  );
  expect([...first.shape]).toEqual([2, 13]);
  expect(observer.captures).toHaveLength(4);
});

test('says what is not there, and what has changed nothing', async () => {
  const model = new Outer();
  const x = heads(1, 2, 3, 4);
  const run = (): Tensor => model.forward(x);
  const plain = list(run());
  expect(() => inspect.ablate(model, [{ module: 'iner' }], run)).toThrow(/there are inner, twin/);
  expect(codeOf(() => inspect.ablate(model, [{ module: 'inner', heads: [2] }], run))).toBe('FOVEA_INDEX');
  expect(codeOf(() => inspect.ablate(model, [{ module: 'inner', heads: [-1] }], run))).toBe('FOVEA_ARGUMENT');
  expect(codeOf(() => inspect.ablate(model, [], run))).toBe('FOVEA_ARGUMENT');
  expect(codeOf(() => inspect.ablate(model, [{ module: 'inner' }], 1 as never))).toBe('FOVEA_ARGUMENT');
  expect(codeOf(() => inspect.ablate({} as never, [{ module: 'inner' }], run))).toBe('FOVEA_ARGUMENT');
  expect(() => inspect.ablate(model, [{ module: 'inner' }], () => 1)).toThrow(/no attention ran in inner/);
  await expect(inspect.ablate(model, [{ module: 'inner' }], () => Promise.resolve(1))).rejects.toThrow(/no attention/);
  const fails = (): never => {
    throw new RangeError('on purpose');
  };
  expect(() => inspect.ablate(model, [{ module: 'inner' }], fails)).toThrow(RangeError);
  const rejects = inspect.ablate(model, [{ module: 'inner' }], async () => fails());
  await expect(rejects).rejects.toThrow(RangeError);
  const step = record((y: Tensor) => model.forward(y));
  expect(() => inspect.ablate(model, [{ module: 'inner' }], () => step(randn([1, 2, 3, 4])))).toThrow(
    /inspect.ablate was called in the step/,
  );
  step.dispose();
  expect(list(run())).toEqual(plain);
});
