// Decoding steps that are recorded, against the same that are not: equal tokens and equal bits of logits, and what
// cannot be recorded.
import {
  attention,
  autocast,
  Generator,
  manualSeed,
  mask,
  type Mask,
  memory,
  noGrad,
  nn,
  record,
  tensor,
  type Tensor,
} from 'fovea';
import { generate, type GenerateOptions, KvCache, type LanguageModel, stream } from 'fovea/generate';
import { type CausalLM, GPT2LMHeadModel, type GPT2Options, load } from 'fovea/models';
import { beforeAll, describe, expect, it } from 'vitest';
import { readGolden } from '../golden.js';
import { codeOf, device, list } from '../helpers.js';

const ids = (...rows: number[][]): Tensor => tensor(rows, { dtype: 'int64', device });
const numbers = (t: Tensor): number[] => Array.from(t.dataSync({ as: 'float64' }));

/** The model with a count of its forwards; recorded only where `recordable`. */
function counted(model: CausalLM, recordable: boolean): LanguageModel & { calls: number } {
  return {
    calls: 0,
    config: model.config,
    device: model.device,
    recordable,
    makeCache: (batch, capacity) => model.makeCache(batch, capacity),
    forward(input) {
      this.calls++;
      return model.forward(input);
    },
  };
}

function small(options: Partial<GPT2Options> = {}): GPT2LMHeadModel {
  manualSeed(1);
  const sizes = { vocabSize: 40, nPositions: 64, nEmbd: 32, nLayer: 2, nHead: 2, initializerRange: 0.3 };
  return new GPT2LMHeadModel({ ...sizes, ...options }).to(device).eval();
}

/** Tokens of both ways and the forwards that each has taken. */
async function both(model: CausalLM, options: GenerateOptions): Promise<[number[], number]> {
  const run = async (recordable: boolean): Promise<[number[], number]> => {
    const source = counted(model, recordable);
    manualSeed(5);
    const out = await generate(source, options);
    return [numbers(out), source.calls];
  };
  const [tokens, calls] = await run(true);
  const [expected, all] = await run(false);
  expect(tokens).toEqual(expected);
  expect(all).toBe(options.maxNewTokens);
  return [tokens, calls];
}

describe('generation gives the tokens of unrecorded steps', () => {
  let golden: CausalLM;
  beforeAll(async () => {
    golden = await load(readGolden('gpt2').folder, { device });
  });
  const draws: [string, Partial<GenerateOptions>][] = [
    ['greedy', {}],
    ['of a seed', { doSample: true, seed: 3, temperature: 3 }],
    ['of the default generator', { doSample: true, temperature: 3 }],
    ['of few', { doSample: true, temperature: 3, topK: 9, topP: 0.9, minP: 0.01 }],
  ];
  it.each(draws)('%s', async (_, options) => {
    const inputIds = ids([5, 17, 42]);
    const [tokens, calls] = await both(golden, { inputIds, maxNewTokens: 20, eosTokenId: null, ...options });
    expect(new Set(tokens).size).toBeGreaterThan(4);
    expect(calls).toBe(2); // the prompt, and the step that is recorded
  });
  it.each(draws)('%s, in a padded batch whose rows end', async (_, options) => {
    const inputIds = ids([0, 0, 5, 17], [1, 2, 3, 4], [0, 7, 8, 9]);
    const attentionMask = tensor(
      [
        [0, 0, 1, 1],
        [1, 1, 1, 1],
        [0, 1, 1, 1],
      ],
      { dtype: 'int64', device },
    );
    const [, calls] = await both(golden, { inputIds, attentionMask, maxNewTokens: 20, eosTokenId: null, ...options });
    expect(calls).toBe(2);
    const [tokens] = await both(golden, { inputIds, maxNewTokens: 3, eosTokenId: null, ...options });
    const eosTokenId = tokens[4]!;
    const ended = (recordable: boolean): Promise<Tensor> => {
      manualSeed(5);
      return generate(counted(golden, recordable), { inputIds, attentionMask, eosTokenId, ...options });
    };
    expect(numbers(await ended(true))).toEqual(numbers(await ended(false)));
  });
  it('from one token on, and with a cache that outgrows the workspace that attention had at first', async () => {
    const model = small({ nPositions: 600 });
    const inputIds = ids(...Array.from({ length: 6 }, (_, i) => [i]));
    const [, calls] = await both(model, { inputIds, maxNewTokens: 560, doSample: true, eosTokenId: null });
    expect(calls).toBe(2);
    model.dispose();
  });
  it('in 16 bits', async () => {
    for (const dtype of ['bfloat16', 'float16'] as const) {
      const model = small().to(dtype);
      const [, calls] = await both(model, { inputIds: ids([7, 8]), maxNewTokens: 30, eosTokenId: null });
      expect(calls).toBe(2);
      model.dispose();
    }
  });
});

describe('generation records a step only where that is right', () => {
  const options = { maxNewTokens: 8, eosTokenId: null };
  /** Forwards while tokens are made. */
  async function forwards(model: GPT2LMHeadModel, between: (token: number) => void = () => undefined): Promise<number> {
    let calls = 0;
    const source: LanguageModel = {
      config: model.config,
      device: model.device,
      get recordable() {
        return model.recordable;
      },
      makeCache: (batch, capacity) => model.makeCache(batch, capacity),
      forward(input) {
        calls++;
        return model.forward(input);
      },
    };
    for await (const { index } of stream(source, { inputIds: ids([1, 2]), ...options })) between(index);
    return calls;
  }
  it('not while it trains, nor with hooks, nor for another forward', async () => {
    const model = small();
    expect(await forwards(model)).toBe(2);
    model.train();
    expect(await forwards(model)).toBe(8);
    model.eval();
    const hook = model.transformer.h[1]!.ln2.registerForwardHook(() => undefined);
    expect(await forwards(model)).toBe(8);
    hook.remove();
    expect(await forwards(model)).toBe(2);
    class Loud extends nn.LayerNorm {
      override forward(x: Tensor): Tensor {
        return super.forward(x);
      }
    }
    model.transformer.lnF = new Loud(32).to(device).eval();
    expect(await forwards(model)).toBe(8);
    model.dispose();
  });
  it('and not under autocast', async () => {
    const model = small();
    expect(await autocast('bfloat16', () => forwards(model))).toBe(8);
    model.dispose();
  });
  it('and notices changes on the way', async () => {
    const model = small();
    const change = (index: number): void => {
      if (index === 3) model.train();
      if (index === 5) model.eval();
    };
    // 1 of the prompt, 1 recorded, 2 in training, 1 recorded again
    expect(await forwards(model, change)).toBe(5);
    model.dispose();
  });
  it('and frees it at the end', async () => {
    const model = small();
    const before = memory();
    for (let i = 0; i < 3; i++) {
      const inputIds = ids([1, 2]);
      for await (const { index } of model.stream({ inputIds, maxNewTokens: 9 })) if (index === 4) break;
      inputIds.dispose();
    }
    expect([memory().tensors, memory().live]).toEqual([before.tensors, before.live]);
    model.dispose();
  });
});

describe('a cache', () => {
  it('tells positions, and what a mask of all says of them', () => {
    using cache = new KvCache({ layers: 1, batch: 2, heads: 1, capacity: 5, headDim: 1, dtype: 'float32', device });
    const mask = tensor(
      [
        [0, 1, 1, 1, 0],
        [1, 1, 0, 1, 1],
      ],
      { dtype: 'int64', device },
    );
    const both = (): unknown[] => [list(cache.positions(2)), list(cache.maskOf(mask, 1)), cache.maskOf(mask, 1).shape];
    expect(both()).toEqual([
      [0, 1],
      [0, 1],
      [2, 1],
    ]);
    cache.advance(3);
    expect(both()).toEqual([
      [3, 4],
      [0, 1, 1, 1, 1, 1, 0, 1],
      [2, 4],
    ]);
    expect(cache.positions(2).dtype).toBe('int64');
    expect(codeOf(() => cache.maskOf(mask, 3))).toBe('FOVEA_INDEX');
    using step = record(() => [cache.positions(2), cache.maskOf(mask, 1).sum(1)]);
    for (const expected of [
      [
        [3, 4],
        [3, 3],
      ],
      [
        [4, 5],
        [3, 4],
      ],
    ]) {
      expect(step().map(list)).toEqual(expected);
      cache.advance(1);
    }
    expect(codeOf(() => step())).toMatch('FOVEA_INDEX');
  });
});

describe('a step with a cache, recorded by hand', () => {
  const model = small();
  const forward = (inputIds: Tensor, cache: KvCache): Tensor =>
    noGrad(() => model.forward({ inputIds, pastKeyValues: cache }).logits);

  it('has the bits of one that is not, for any count of tokens', () => {
    for (const n of [1, 3]) {
      const [cache, other] = [model.makeCache(1, 4 + 5 * n), model.makeCache(1, 4 + 5 * n)];
      using step = record((t: Tensor) => forward(t, cache));
      for (const one of [cache, other]) forward(ids([1, 2, 3, 4]), one);
      for (let i = 0; i < 5; i++) {
        const tokens = ids(Array.from({ length: n }, (_, j) => (7 * i + j) % 40));
        expect(list(step(tokens))).toEqual(list(forward(tokens, other)));
        expect(cache.length).toBe(other.length);
      }
      expect(step.recordings).toBe(1);
      expect(codeOf(() => step(ids(Array.from({ length: n }, () => 1))))).toBe('FOVEA_ARGUMENT');
      expect(cache.length).toBe(other.length);
      cache.dispose();
      other.dispose();
      expect(codeOf(() => step(ids(Array.from({ length: n }, () => 1))))).toMatch(/FOVEA_DISPOSED|FOVEA_ARGUMENT/);
    }
  });
  it('may make several tokens, or start from an empty cache each time', () => {
    const several = (t: Tensor): Tensor => {
      using cache = model.makeCache(1, 8);
      forward(t, cache);
      const next = forward(t, cache).argmax(-1);
      return forward(next, cache);
    };
    using step = record(several);
    for (const row of [
      [1, 2],
      [3, 4],
      [5, 6],
    ])
      expect(list(step(ids(row)))).toEqual(list(several(ids(row))));
    expect(step.recordings).toBe(1);
  });
  it('goes on beside steps that are not recorded', () => {
    const [cache, other] = [model.makeCache(2, 20), model.makeCache(2, 20)];
    for (const one of [cache, other]) forward(ids([1, 2], [3, 4]), one);
    using step = record((t: Tensor) => forward(t, cache));
    for (let i = 0; i < 9; i++) {
      const tokens = ids([i], [i + 1]);
      const got = i % 3 === 2 ? forward(tokens, cache) : step(tokens);
      expect(list(got)).toEqual(list(forward(tokens, other)));
    }
    cache.dispose();
    other.dispose();
  });
});

describe('what a recorded step may not do with a cache', () => {
  const make = (): KvCache =>
    new KvCache({ layers: 1, batch: 1, heads: 2, capacity: 8, headDim: 4, dtype: 'float32', device });
  const x = tensor([1, 2, 3, 4, 5, 6, 7, 8], { device }).reshape([1, 2, 1, 4]);
  type Step = (seen: { k: Tensor; v: Tensor }, t: Tensor, cache: KvCache) => Tensor;
  const cases: [string, Step, RegExp][] = [
    ['return its keys', ({ k }) => k, /returns a view of a cache/],
    ['copy its keys', ({ k }) => k.add(1), /must keep its shape/],
    ['take part of its keys', ({ k }) => k.narrow(2, 0, 1), /must keep its shape/],
    ['merge axes', ({ k }) => k.reshape([-1]), /must keep its shape/],
    ['compute weights', ({ k }, t) => t.matmul(k.transpose(2, 3)), /must keep its shape/],
    [
      'add a bias of one length',
      ({ k, v }, t) => attention(t, k, v, { bias: tensor([0, 0, 0, 0], { device }) }),
      /values from JavaScript/,
    ],
    ['drop weights', ({ k, v }, t) => attention(t, k, v, { dropoutP: 0.5 }), /dropout over a cache/],
    [
      'draw from a generator of one length',
      ({ k, v }, t) => attention(t, k, v, { dropoutP: 0.5, generator: new Generator(1) }),
      /dropout over a cache/,
    ],
  ];
  it.each(cases)('%s', (_, use, message) => {
    using cache = make();
    cache.update(0, x, x);
    cache.advance(1);
    const before = memory();
    using step = record((t: Tensor) => {
      const result = use(cache.update(0, t, t), t, cache);
      cache.advance(1);
      return result;
    });
    expect(() => step(x)).toThrow(message);
    expect([step.recordings, memory().tensors]).toEqual([0, before.tensors]);
  });
  it.each<[string, Mask]>([
    ['documents', mask.documents([0, 0])],
    ['blocks', mask.blocks([[true]], 9).or(mask.causal())],
    ['randomBlocks', mask.randomBlocks(1, 2)],
  ])('see masks made for one number of keys: %s', (name, seen) => {
    using cache = make();
    cache.update(0, x, x);
    cache.advance(1);
    using step = record((t: Tensor) => {
      const { k, v } = cache.update(0, t, t);
      return attention(t, k, v, { mask: seen });
    });
    expect(() => step(x)).toThrow(new RegExp(`${name} is made for one number of keys`));
  });
  it('but masks for any number of them', () => {
    const [cache, other] = [make(), make()];
    const align = 'bottomRight';
    const seen = mask.causal({ align }).and(mask.slidingWindow(2, 0, { align }).or(mask.globalTokens([0])));
    const use = (into: KvCache, t: Tensor): Tensor => {
      const { k, v } = into.update(0, t, t.mul(2));
      into.advance(1);
      return attention(t, k, v, { mask: seen });
    };
    for (const one of [cache, other]) use(one, x);
    using step = record((t: Tensor) => use(cache, t));
    for (let i = 1; i < 7; i++) expect(list(step(x.mul(i)))).toEqual(list(use(other, x.mul(i))));
    expect(step.recordings).toBe(1);
    cache.dispose();
    other.dispose();
  });
  it('see masks and biases of one length', () => {
    using cache = make();
    cache.update(0, x, x);
    cache.advance(1);
    const bias = tensor([0, 1], { device });
    using step = record((t: Tensor) => {
      const { k, v } = cache.update(0, t, t);
      return attention(t, k, v, { bias });
    });
    expect(() => step(x)).toThrow(/must keep its shape/);
  });
  it('begin with the first position', () => {
    using cache = make();
    using step = record((t: Tensor) => attention(t, cache.update(0, t, t).k, t));
    expect(() => step(x)).toThrow(/let the model see the prompt before/);
  });
  it('but what keeps its shape', () => {
    const [cache, other] = [make(), make()];
    const use = (into: KvCache, t: Tensor): Tensor[] => {
      const { k, v } = into.update(0, t, t.mul(2));
      const sums = [k.sum(2), v.transpose(1, 2).amax(1), k.permute([2, 0, 1, 3]).mean(0)];
      into.advance(1);
      return [...sums, attention(t, k.unsqueeze(0).squeeze(0), v)];
    };
    for (const one of [cache, other]) use(one, x);
    using step = record((t: Tensor) => use(cache, t));
    for (let i = 1; i < 7; i++) expect(step(x.mul(i)).map(list)).toEqual(use(other, x.mul(i)).map(list));
    expect(step.recordings).toBe(1);
    cache.dispose();
    other.dispose();
  });
});
