// Profiles: what ran, when, for how long, and what it moved and computed.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  functional as F,
  inspect,
  manualSeed,
  mask,
  memory,
  nn,
  noGrad,
  optim,
  quantize,
  randint,
  randn,
  record,
  resetPeakMemory,
  synchronizeSync,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { afterAll, describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const folder = mkdtempSync(join(tmpdir(), 'fovea-profile-'));
afterAll(() => rmSync(folder, { recursive: true }));
const { profile } = inspect;
const onCpu = device === 'cpu';

/** Calls of some ops alone: on a GPU a test also copies. */
const opsOf = (found: inspect.Profile, ...names: string[]): inspect.ProfiledCall[] =>
  found.calls.filter(({ op }) => names.length === 0 || names.includes(op));

describe('profile', () => {
  it('notes each call in order, queued before it runs, and one after the other', () => {
    const [a, b] = [randn([40, 30], { device }), randn([30, 50], { device })];
    const found = profile(() => tidy(() => a.matmul(b).exp().sum()));
    expect(found.result.shape).toEqual([]);
    expect(found.calls.map(({ op }) => op)).toEqual(['matmul', 'exp', 'sum']);
    let before = 0;
    for (const { queued, ran } of found.calls) {
      expect(queued.begin).toBeGreaterThanOrEqual(0);
      expect(queued.end).toBeGreaterThanOrEqual(queued.begin);
      expect(ran!.begin).toBeGreaterThanOrEqual(before);
      // The device's clock is known to microseconds.
      expect(ran!.begin).toBeGreaterThanOrEqual(queued.begin - (onCpu ? 0 : 50));
      expect(ran!.end).toBeGreaterThanOrEqual(ran!.begin);
      expect(ran!.end).toBeLessThanOrEqual(1000 * found.wallTime + 50);
      before = ran!.end - (onCpu ? 0 : 1);
    }
    expect(found.missed).toBe(0);
  });

  it('times execution, not queueing', () => {
    const x = randn([700, 700], { device });
    synchronizeSync();
    const start = performance.now();
    tidy(() => x.matmul(x));
    synchronizeSync();
    const alone = performance.now() - start;
    const found = profile(() => tidy(() => void [0, 1, 2, 3].map(() => x.matmul(x))));
    const [row] = found.ops;
    expect([row!.op, row!.calls, row!.untimed]).toEqual(['matmul', 4, 0]);
    expect(row!.totalTime).toBeGreaterThan(0.5 * alone);
    expect(row!.totalTime).toBeLessThanOrEqual(found.wallTime + 0.1);
    expect(row!.meanTime).toBeCloseTo((1000 * row!.totalTime) / 4, 6);
    const queueing = found.calls.reduce((sum, { queued }) => sum + queued.end - queued.begin, 0) / 1000;
    expect(queueing).toBeLessThan(row!.totalTime);
  });

  it('counts bytes and FLOPs by shapes', () => {
    const costs = (fn: () => unknown): inspect.Cost => tidy(() => profile(fn)).calls.at(-1)!.cost;
    const f = (...shape: number[]): Tensor => randn(shape, { device });
    const cost = (bytesRead: number, bytesWritten: number, flops?: number): object => ({
      bytesRead,
      bytesWritten,
      flops,
      dtype: 'float32',
    });
    const [a, b, x, w] = [f(3, 5, 7), f(7, 11), f(4, 6), f(6)];
    expect(costs(() => a.matmul(b))).toEqual(cost(4 * (105 + 77), 4 * 165, 2 * 15 * 7 * 11));
    expect(costs(() => x.add(w))).toEqual(cost(4 * (24 + 6), 4 * 24));
    // A view that repeats is in memory once.
    const wide = w.expand([4, 6]);
    expect(costs(() => x.mul(wide))).toEqual(cost(4 * (24 + 6), 4 * 24));
    expect(costs(() => x.add_(w))).toEqual(cost(4 * (24 + 6), 4 * 24));
    expect(costs(() => x.fill_(2))).toMatchObject({ bytesRead: 0, bytesWritten: 4 * 24 });
    expect(costs(() => F.layerNorm(x, [6]))).toEqual(cost(4 * 24, 4 * (24 + 8), 7 * 24));
    expect(costs(() => F.rmsNorm(x, [6], w))).toEqual(cost(4 * (24 + 6), 4 * (24 + 4), 4 * 24));
    const ids = tensor([1, 1, 3], { dtype: 'int64', device });
    expect(costs(() => F.embedding(ids, x))).toMatchObject({ bytesRead: 8 * 3 + 4 * 18, bytesWritten: 4 * 18 });
    expect(costs(() => x.indexSelect(0, ids))).toMatchObject({ bytesRead: 8 * 3 + 4 * 18, bytesWritten: 4 * 18 });
    const q8 = quantize(randn([9, 64]), 'q8_0').to(device);
    expect(costs(() => F.linear(f(2, 64), q8))).toMatchObject({ flops: 2 * 2 * 64 * 9, dtype: 'quantized' });
    // On a GPU these are products of unfolded images. b 2, c 6, o 4, groups 2, 3 x 2 taps, 5 x 7 windows
    const [image, weight] = [randn([2, 6, 7, 15]), randn([4, 3, 3, 2], { requiresGrad: true })];
    const each = 2 * (2 * 4 * 5 * 7) * (3 * 3 * 2);
    const options = { groups: 2, stride: [1, 2] } as const;
    expect(costs(() => F.conv2d(image, weight.detach(), null, options))).toMatchObject({ flops: each });
    const windows = randn([2, 4, 5, 7]);
    expect(costs(() => F.convTranspose2d(windows, weight.detach(), null, options))).toMatchObject({ flops: each });
    const learned = tidy(() => profile(() => F.conv2d(image, weight, null, options).sum().backward()));
    expect(opsOf(learned, 'conv', 'convWeight').map(({ cost: { flops } }) => flops)).toEqual([each, each]);
  });

  it('counts the scores that attention sees', () => {
    const [b, h, n, m, d, e] = [2, 3, 20, 33, 8, 4];
    const [q, k, v] = [
      randn([b, h, n, d], { device }),
      randn([b, h, m, d], { device }),
      randn([b, h, m, e], { device }),
    ];
    const flops = (options: F.AttentionOptions & { returnLse?: false }): number | undefined =>
      opsOf(
        tidy(() => profile(() => F.attention(q, k, v, options))),
        'attention',
      ).reduce((sum: number | undefined, { cost }) => (sum ?? 0) + (cost.flops ?? Number.NaN), undefined);
    const seen = (visible: (i: number, j: number) => boolean): number => {
      let pairs = 0;
      for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) pairs += Number(visible(i, j));
      return 2 * b * h * pairs * (d + e);
    };
    expect(flops({})).toBe(seen(() => true));
    expect(flops({ causal: 'topLeft' })).toBe(seen((i, j) => j <= i));
    expect(flops({ causal: 'bottomRight' })).toBe(seen((i, j) => j <= i + m - n));
    expect(flops({ mask: mask.slidingWindow(4, 2, { align: 'bottomRight' }) })).toBe(
      seen((i, j) => j >= i + m - n - 4 && j <= i + m - n + 2),
    );
    expect(flops({ mask: mask.slidingWindow(4, 2), causal: 'topLeft' })).toBe(seen((i, j) => j >= i - 4 && j <= i));
    const given = tensor(
      Array.from({ length: n }, (_, i) => Array.from({ length: m }, (_u, j) => (i * j) % 3 === 0)),
      { device },
    );
    expect(flops({ mask: given })).toBe(seen((i, j) => (i * j) % 3 === 0));
    expect(flops({ mask: given, causal: 'topLeft' })).toBe(seen((i, j) => (i * j) % 3 === 0 && j <= i));
    const shown = mask.tensorMask(given).or(mask.globalTokens([2]));
    expect(flops({ mask: shown })).toBe(seen((i, j) => (i * j) % 3 === 0 || i === 2 || j === 2));
    const padded = mask.padding(tensor([10, 30], { dtype: 'int64', device }));
    expect(flops({ mask: padded })).toBe(2 * h * (10 + 30) * n * (d + e));
  });

  it('says so where what a mask showed is gone', () => {
    const [q, k] = [randn([1, 1, 4, 8], { device }), randn([1, 1, 6, 8], { device })];
    const seen = zeros([4, 6], { dtype: 'bool', device });
    const found = profile(() => {
      const y = F.attention(q, k, k, { mask: seen });
      seen.fill_(true);
      return y;
    });
    const call = opsOf(found, 'attention').at(-1)!;
    expect(call.cost.flops).toBe(undefined);
    expect(found.table()).toMatch(/attention .* - +- *$/m);
  });

  it('sees backward and the optimizer', () => {
    manualSeed(0);
    const model = new GPT2LMHeadModel({ vocabSize: 61, nPositions: 16, nEmbd: 24, nLayer: 2, nHead: 3 }).to(device);
    using optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
    const inputIds = randint(0, 61, [2, 16], { dtype: 'int64', device });
    const found = profile(() =>
      tidy(() => {
        model.forward({ inputIds, labels: inputIds }).loss!.backward();
        optimizer.step();
      }),
    );
    const rows = new Map(found.ops.map((row) => [row.op, row]));
    const pairs = 2 * 3 * ((16 * 17) / 2);
    expect(rows.get('attention')).toMatchObject({ calls: 2, flops: 2 * 2 * pairs * 16 });
    expect(rows.get('attentionBackward')).toMatchObject({ calls: 2, flops: 2 * 2 * pairs * 5 * 8 });
    // Forward 2 N for each token, backward twice that, but for what goes into the embeddings: lookups, and dx of the
    // first layer.
    const weights = 2 * 12 * 24 * 24 + 61 * 24;
    expect(rows.get('matmul')!.flops).toBe(6 * 32 * weights);
    expect(rows.get('adamw_')!.bytesWritten).toBe(3 * 4 * model.numParameters());
    const share = found.ops.reduce((sum, row) => sum + row.share, 0);
    expect(share).toBeCloseTo(1, 9);
  });

  it('sees the ops of recorded steps', () => {
    const layer = new nn.Linear(8, 8).to(device);
    using step = record((x: Tensor) => layer.forward(x).tanh());
    const x = randn([4, 8], { device });
    const ops = (): string[] => noGrad(() => tidy(() => profile(() => step(x)))).calls.map(({ op }) => op);
    const first = ops();
    expect(first).toContain('tanh');
    const again = ops();
    expect(again).toEqual(['copy_', 'matmul', 'tanh', 'copy']);
    expect(profile(() => noGrad(() => step(x))).calls.every(({ ran }) => ran !== undefined)).toBe(true);
  });

  it('takes asynchronous functions, and what runs beside them', async () => {
    const x = randn([50, 50], { device });
    const work = profile(async () => {
      const y = x.matmul(x);
      await y.data();
      return y.exp();
    });
    const beside = x.tanh();
    const found = await work;
    expect(found.result.shape).toEqual([50, 50]);
    const named = found.calls.map(({ op }) => op).filter((op) => op !== 'stage' && op !== 'unstage');
    expect(named).toEqual(['matmul', 'read', 'tanh', 'exp'].filter((op) => op !== 'read' || named.includes('read')));
    expect(found.calls.every(({ ran }) => ran !== undefined)).toBe(true);
    beside.dispose();
    tidy(() => void x.neg());
    expect(found.calls.map(({ op }) => op)).not.toContain('neg');
  });

  it('passes on what is thrown, and begins anew afterwards', async () => {
    const x = randn([3], { device });
    const boom = (): never => {
      x.neg();
      throw new RangeError('boom');
    };
    expect(() => profile(boom)).toThrow(RangeError);
    await expect(profile(async () => Promise.resolve().then(boom))).rejects.toThrow('boom');
    expect(profile(() => x.neg()).calls.map(({ op }) => op)).toEqual(['neg']);
  });

  it('an op that fails is timed, and fails as ever', () => {
    const x = randn([2, 3], { device });
    const found = profile(() => F.embedding(tensor([7], { dtype: 'int64', device }), x));
    expect(opsOf(found, 'embedding')).toHaveLength(1);
    expect(codeOf(() => list(found.result))).toBe('FOVEA_INDEX');
  });

  it('a mask that failed shows nothing that could be counted', async () => {
    const [q, x] = [randn([1, 1, 2, 4], { device }), zeros([2, 2], { dtype: 'bool', device })];
    const attend = (): Tensor =>
      F.attention(q, q, q, { mask: x.indexSelect(0, tensor([0, 9], { dtype: 'int64', device })) });
    const found = [profile(attend), await profile(async () => Promise.resolve(attend()))];
    for (const { calls, result } of found) {
      expect(calls.find(({ op }) => op === 'attention')!.cost.flops).toBe(undefined);
      expect(codeOf(() => list(result))).toBe('FOVEA_INDEX');
    }
  });

  it('one at a time', async () => {
    expect(codeOf(() => profile(() => profile(() => 1)))).toBe('FOVEA_UNSUPPORTED');
    const running = profile(async () => new Promise((resolve) => setTimeout(resolve, 5)));
    expect(codeOf(() => profile(() => 1))).toBe('FOVEA_UNSUPPORTED');
    await running;
    expect(profile(() => 1).result).toBe(1);
    const step = record((x: Tensor) => profile(() => x.neg()).result);
    expect(codeOf(() => step(randn([2], { device })))).toBe('FOVEA_UNSUPPORTED');
  });

  it('says how much memory there was at most, and leaves the count of it as it was', () => {
    synchronizeSync();
    const peaks = (): number => memory().devices[onCpu ? 'cpu' : 'cuda:0']!.peak;
    resetPeakMemory();
    tidy(() => void zeros([1_000_000], { device }));
    const before = peaks();
    const { live } = memory().devices[onCpu ? 'cpu' : 'cuda:0']!;
    const found = profile(() => tidy(() => void zeros([250_000], { device })));
    expect(found.peakMemory[onCpu ? 'cpu' : 'cuda:0']! - live).toBeGreaterThanOrEqual(1_000_000);
    expect(found.peakMemory[onCpu ? 'cpu' : 'cuda:0']! - live).toBeLessThan(2_000_000);
    expect(peaks()).toBe(before);
    expect(found.calls.at(-1)!.liveBytes).toBeGreaterThanOrEqual(live + 1_000_000);
  });

  it('keeps as many calls as it is told to, and counts the others', () => {
    const x = randn([3], { device });
    const found = profile(() => tidy(() => Array.from({ length: 10 }, () => x.neg()).length), { maxCalls: 4 });
    expect([found.calls.length, found.missed]).toEqual([4, 6]);
    expect(found.table()).toMatch(/6 calls are missing/);
  });

  it('holds nothing afterwards', async () => {
    const q = randn([1, 2, 8, 4], { device });
    const seen = mask.slidingWindow(2, 0);
    const take = (): unknown => tidy(() => void profile(() => F.attention(q, q, q, { mask: seen })));
    take();
    await profile(async () => tidy(() => void F.attention(q, q, q, { mask: seen })));
    const { tensors, live } = memory();
    take();
    await profile(async () => tidy(() => void F.attention(q, q, q, { mask: seen })));
    expect(memory()).toMatchObject({ tensors, live });
  });

  it('refuses other arguments', () => {
    for (const call of [
      () => profile(3 as never),
      () => profile(() => 1, { limit: {} } as never),
      () => profile(() => 1, { maxCalls: 0 }),
      () => profile(() => 1, { limits: 3 as never }),
      () => profile(() => 1, { limits: { cpu: { flops: { float32: -1 } } } }),
      () => profile(() => 1, { limits: { cpu: { flop: {} } as never } }),
      () => profile(() => 1).table({ by: 'time' as never }),
      () => profile(() => 1).table({ top: 0 }),
    ])
      expect(codeOf(call)).toBe('FOVEA_ARGUMENT');
    expect(profile(() => 1).calls).toEqual([]);
  });
});

describe('what is shown', () => {
  const run = (): inspect.Profile => {
    const [a, b] = [randn([64, 48], { device }), randn([48, 32], { device })];
    const name = onCpu ? 'cpu' : 'cuda:0';
    return tidy(() =>
      profile(
        () => {
          a.matmul(b).exp();
          b.exp();
        },
        { limits: { [name]: { flops: { float32: 1e12 }, bytes: 1e10 } } },
      ),
    );
  };

  it('a table by op, and by shape', () => {
    const found = run();
    const table = found.table();
    const [head, ...lines] = table.split('\n');
    expect(head).toMatch(/^op +calls +total ms +mean us +time +read MB +written MB +GB\/s +GFLOP +GFLOP\/s +of limit$/);
    const names = lines.slice(0, 2).map((line) => line.split(/ +/)[0]);
    expect(new Set(names)).toEqual(new Set(['exp', 'matmul']));
    expect(table).toMatch(/^exp +2 /m);
    expect(table).toMatch(/wall time \d+\.\d{3} ms, \S+ busy \d+\.\d{3} ms \(\d+\.\d %\), queueing/);
    expect(table).toMatch(/peak memory: .*MB/);
    expect(found.table({ by: 'shape' })).toMatch(/^exp float32 \[48,32\] → \[48,32\] +1 /m);
    expect(found.table({ by: 'shape', top: 1 })).toMatch(/2 more rows/);
    const matmul = found.ops.find(({ op }) => op === 'matmul')!;
    const least = Math.max((2 * 64 * 48 * 32) / 1e12, (4 * (64 * 48 + 48 * 32 + 64 * 32)) / 1e10);
    expect(matmul.limitShare).toBeCloseTo((1000 * least) / matmul.totalTime, 9);
  });

  it('a trace of Chrome: spans that nest, arrows from one track to the other, memory', async () => {
    const found = run();
    const path = join(folder, 'trace.json');
    await found.save(path);
    const trace = JSON.parse(readFileSync(path, 'utf8')) as inspect.ChromeTrace;
    expect(trace).toEqual(JSON.parse(JSON.stringify(found.chromeTrace())));
    const events = trace.traceEvents;
    const of = (ph: string): inspect.ChromeTraceEvent[] => events.filter((event) => event.ph === ph);
    const tracks = new Map(of('M').map(({ tid, name, args }) => [`${name} ${tid}`, args!['name']]));
    expect([...tracks.values()]).toEqual(['fovea', 'JavaScript: queues', `${found.calls[0]!.device}: runs`]);
    const spans = of('X');
    expect(spans.filter(({ tid }) => tid === 2).map(({ name }) => name)).toEqual(['matmul', 'exp', 'exp']);
    expect(spans.filter(({ tid }) => tid === 1).map(({ name }) => name)).toEqual(['matmul', 'exp', 'exp']);
    const runs = spans.filter(({ tid }) => tid === 2);
    for (const [i, { ts, dur }] of runs.entries())
      if (i > 0) expect(ts!).toBeGreaterThanOrEqual(runs[i - 1]!.ts! + runs[i - 1]!.dur! - 1);
      else expect(dur!).toBeGreaterThan(0);
    expect(runs[0]!.args).toMatchObject({ flops: 2 * 64 * 48 * 32, shapes: 'float32 [64,48] [48,32] → [64,32]' });
    const [from, to] = [of('s'), of('f')];
    expect(new Set(from.map(({ id }) => id))).toEqual(new Set(to.map(({ id }) => id)));
    expect(from).toHaveLength(3);
    for (const arrow of to) {
      expect(arrow.bp).toBe('e');
      expect(runs.some(({ ts }) => ts === arrow.ts)).toBe(true);
    }
    expect(of('C').every(({ args }) => typeof args!['bytes'] === 'number')).toBe(true);
    const times = events.flatMap(({ ts }) => (ts === undefined ? [] : [ts]));
    expect(times).toEqual([...times].sort((x, y) => x - y));
    await expect(found.save(3 as never)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    await expect(found.save(join(path, 'below'))).rejects.toMatchObject({ code: 'FOVEA_IO' });
  });

  // They are the processor's; shares of limits that are given are tested above on every device.
  it.runIf(onCpu)('limits that are measured', async () => {
    const limits = await inspect.machineLimits({ megabytes: 8 });
    for (const rate of [...Object.values(limits.flops), limits.bytes]) expect(rate).toBeGreaterThan(1e8);
    expect(limits.flops.bfloat16!).toBeGreaterThan(0);
    const x = randn([512, 512]);
    const found = tidy(() => profile(() => void [0, 1, 2].map(() => x.matmul(x)), { limits: { cpu: limits } }));
    // Whatever else the machine did meanwhile.
    expect(found.ops[0]!.limitShare).toBeGreaterThan(1e-3);
    await expect(inspect.machineLimits({ megabytes: 0 })).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
  });
});
