// Mixtures of experts against every token times each of its experts, in float64.
import { functional as F, manualSeed, nn, optim, randn, record, type Tensor, tidy, zeros } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { codeOf } from '../helpers.js';
import { affine, type Matrix } from './reference.js';

const [width, inner] = [6, 10];
type Cube = Matrix[];
interface Expected {
  output: Matrix;
  balanceLoss: number;
  zLoss: number;
  load: number[];
  dropped: number;
}

/** The layer's formula, token by token. */
function dense(layer: nn.MixtureOfExperts, x: Matrix): Expected {
  const { numExperts: experts, topK, capacityFactor = Infinity } = layer;
  const list = (t: Tensor): unknown => t.to('float64').toArraySync();
  const logits = affine(x, list(layer.router.weight) as Matrix);
  const [up, down] = [list(layer.upProj) as Cube, list(layer.downProj) as Cube];
  const gate = layer.gateProj && (list(layer.gateProj) as Cube);
  const act = (values: number[]): number[] =>
    layer.activation(F.tensor(values, { dtype: 'float64' })).toArraySync() as number[];
  const totals = logits.map((row) => row.reduce((sum, value) => sum + Math.exp(value), 0));
  const p = logits.map((row, t) => row.map((value) => Math.exp(value) / totals[t]!));
  const order = p.map((row) =>
    row
      .map((_, e) => e)
      .sort((a, b) => row[b]! - row[a]!)
      .slice(0, topK),
  );
  const capacity = Math.ceil((capacityFactor * topK * x.length) / experts);
  const taken = new Array<number>(experts).fill(0);
  const load = new Array<number>(experts).fill(0);
  const output = x.map(() => new Array<number>(width).fill(0));
  let dropped = 0;
  for (let choice = 0; choice < topK; choice++)
    for (const [t, row] of x.entries()) {
      const e = order[t]![choice]!;
      load[e]!++;
      if (taken[e]!++ >= capacity) {
        dropped++;
        continue;
      }
      const sum = layer.normTopkProb ? order[t]!.reduce((total, other) => total + p[t]![other]!, 0) : 1;
      const lifted = affine([row], up[e]!)[0]!;
      const hidden = gate ? act(affine([row], gate[e]!)[0]!).map((value, i) => value * lifted[i]!) : act(lifted);
      affine([hidden], down[e]!)[0]!.forEach((value, i) => (output[t]![i]! += (p[t]![e]! / sum) * value));
    }
  const mean = (e: number): number => p.reduce((sum, row) => sum + row[e]!, 0) / x.length;
  return {
    output,
    balanceLoss: experts * load.reduce((sum, count, e) => sum + (count / (topK * x.length)) * mean(e), 0),
    zLoss: totals.reduce((sum, total) => sum + Math.log(total) ** 2, 0) / x.length,
    load,
    dropped,
  };
}

describe('MixtureOfExperts', () => {
  test.each<Partial<nn.MixtureOfExpertsOptions> & { numExperts: number; dropping?: boolean }>([
    { numExperts: 4 },
    { numExperts: 4, topK: 1 },
    { numExperts: 5, topK: 3, gated: true, activation: 'silu' },
    { numExperts: 3, topK: 3, normTopkProb: false, activation: 'gelu' },
    { numExperts: 1, topK: 1 },
    { numExperts: 4, topK: 2, capacityFactor: 0.5, dropping: true },
    { numExperts: 4, topK: 1, capacityFactor: 1, gated: true, dropping: true },
    { numExperts: 8, topK: 2, capacityFactor: 4 },
  ])('%o', async ({ dropping, ...options }) => {
    manualSeed(7);
    for (const dtype of ['float32', 'float64'] as const) {
      const layer = new nn.MixtureOfExperts(width, inner, { ...options, dtype });
      const x = randn([3, 7, width], { dtype });
      const expected = dense(layer, x.reshape([21, width]).toArraySync() as Matrix);
      expect(expected.dropped > 0).toBe(dropping ?? false);
      const { output, balanceLoss, zLoss, load } = layer.forward(x);
      const tolerance = dtype === 'float32' ? 5e-6 : 1e-13;
      expect(output.shape).toEqual([3, 7, width]);
      expect(compare(await output.data({ as: 'float64' }), expected.output.flat()).difference).toBeLessThan(tolerance);
      expect(Math.abs((await balanceLoss.item()) - expected.balanceLoss)).toBeLessThan(tolerance);
      expect(Math.abs((await zLoss.item()) - expected.zLoss)).toBeLessThan(tolerance);
      expect((await load.data({ as: 'float64' })) as unknown).toEqual(new Float64Array(expected.load));
    }
  });

  test('gradients of all weights, of inputs and of the losses, by differences', async () => {
    manualSeed(9);
    const layer = new nn.MixtureOfExperts(width, inner, {
      numExperts: 4,
      gated: true,
      activation: 'silu',
      capacityFactor: 0.8,
      dtype: 'float64',
    });
    const x = randn([9, width], { dtype: 'float64', requiresGrad: true });
    const weight = randn([9, width], { dtype: 'float64' });
    const loss = (): Tensor => {
      const { output, balanceLoss, zLoss } = layer.forward(x);
      return output.mul(weight).sum().add(balanceLoss).add(zLoss.mul(0.1));
    };
    loss().backward();
    for (const [name, leaf] of [...layer.namedParameters(), ['x', x] as const]) {
      const gradient = await leaf.grad!.data<Float64Array>();
      for (const place of [0, 7, leaf.size - 1]) {
        const flat = leaf.detach().reshape([-1]).narrow(0, place, 1);
        const at = (by: number): number => {
          flat.add_(by);
          return loss().itemSync() as number;
        };
        const [plus, minus] = [at(1e-6), at(-2e-6)];
        at(1e-6);
        expect(Math.abs((plus - minus) / 2e-6 - gradient[place]!), `${name}[${place}]`).toBeLessThan(1e-6);
      }
    }
  });

  test('what an expert does not take it adds nothing to, whatever it would have given', async () => {
    const layer = new nn.MixtureOfExperts(width, inner, { numExperts: 2, topK: 1, capacityFactor: 0.5 });
    layer.router.weight.detach().zero_();
    const x = randn([8, width]);
    const { output, load } = layer.forward(x);
    // Of equal scores the first expert wins: it takes ⌈0.5 · 8 / 2⌉ = 2.
    expect([...(await load.data<BigInt64Array>())]).toEqual([8n, 0n]);
    const sums = await output.abs().sum(1).data();
    expect([...sums].map((value) => value > 0)).toEqual([true, true, ...new Array<boolean>(6).fill(false)]);
  });

  test('the balance loss spreads a load that fell on one expert', async () => {
    manualSeed(11);
    const layer = new nn.MixtureOfExperts(width, inner, { numExperts: 4, topK: 1 });
    const x = randn([64, width]).add(1);
    layer.router.weight.detach().narrow(0, 0, 1).add_(0.5);
    const shares = async (): Promise<number> => Math.max(...(await layer.forward(x).load.data({ as: 'float64' }))) / 64;
    expect(await shares()).toBeGreaterThan(0.9);
    const optimizer = new optim.AdamW([layer.router.weight], { lr: 0.02, weightDecay: 0 });
    for (let i = 0; i < 60; i++)
      tidy(() => {
        optimizer.zeroGrad();
        layer.forward(x).balanceLoss.backward();
        optimizer.step();
      });
    expect(await shares()).toBeLessThan(0.5);
  });

  test('keys, initial values, 16 bits, recorded steps', async () => {
    const layer = new nn.MixtureOfExperts(width, inner, { numExperts: 3, gated: true });
    expect(Object.entries(layer.stateDict()).map(([key, { shape }]) => [key, [...shape]])).toEqual([
      ['gate_proj', [3, inner, width]],
      ['up_proj', [3, inner, width]],
      ['down_proj', [3, width, inner]],
      ['router.weight', [3, width]],
    ]);
    const bound = Math.max(...layer.downProj.abs().dataSync());
    expect(bound).toBeLessThanOrEqual(1 / Math.sqrt(inner));
    expect(bound).toBeGreaterThan(0.8 / Math.sqrt(inner));
    using step = record((x: Tensor) => layer.forward(x).output);
    for (let i = 0; i < 3; i++) {
      const x = randn([5, width]);
      expect(await step(x).data()).toEqual(await layer.forward(x).output.data());
    }
    layer.to('bfloat16');
    const { output, zLoss } = layer.forward(randn([5, width], { dtype: 'bfloat16' }));
    expect([output.dtype, zLoss.dtype]).toEqual(['bfloat16', 'float32']);
  });

  test('errors', () => {
    const layer = new nn.MixtureOfExperts(width, inner, { numExperts: 3 });
    expect(codeOf(() => layer.forward(zeros([2, 5])))).toBe('FOVEA_SHAPE');
    expect(codeOf(() => layer.forward(zeros([0, width])))).toBe('FOVEA_SHAPE');
    const wrong: object[] = [
      { numExperts: 0 },
      { numExperts: 2, topK: 3 },
      { numExperts: 2, topK: 0 },
      { numExperts: 2, capacityFactor: 0 },
      { numExperts: 2, experts: 2 },
    ];
    for (const options of [undefined, ...wrong])
      expect(codeOf(() => new nn.MixtureOfExperts(width, inner, options as never))).toBe('FOVEA_ARGUMENT');
    expect(codeOf(() => new nn.MixtureOfExperts(width, inner, { numExperts: 2, activation: 'no' }))).toBe(
      'FOVEA_UNSUPPORTED',
    );
  });
});
