// Several optimizers as one change what each changes alone, under a schedule and a scaler, and resume to the bit.
import { type FoveaError, optim, tensor, type Tensor } from 'fovea';
import { expect, test } from 'vitest';
import { device } from '../helpers.js';
import { random } from '../ops/samples.js';

const shapes = [[5, 3], [3, 7], [7], [2, 2]];

function weights(seed: number): Tensor[] {
  const next = random(seed);
  return shapes.map((shape) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const values = Float32Array.from({ length: size }, () => 2 * next() - 1);
    return tensor(values, { shape, device, requiresGrad: true });
  });
}

/** Gradients that depend on the step. */
function setGradients(params: readonly Tensor[], step: number): void {
  const fresh = weights(100 + step);
  for (const [i, p] of params.entries()) p.grad = fresh[i]!.detach();
}

type Pair = [Tensor, Tensor, Tensor, Tensor];
const muon = ([a, b]: Pair): optim.Muon => new optim.Muon([a, b], { lr: 0.1 });
const adam = ([, , c, d]: Pair): optim.AdamW =>
  new optim.AdamW([{ params: [c], weightDecay: 0 }, { params: [d] }], { lr: 0.01 });
const chain = (params: Pair): optim.ChainedOptimizer => new optim.ChainedOptimizer([muon(params), adam(params)]);

function run(params: Pair, optimizers: readonly optim.Optimizer<{ lr: number }>[], from: number, to: number): void {
  for (let step = from; step < to; step++) {
    setGradients(params, step);
    for (const optimizer of optimizers) optimizer.step();
    for (const optimizer of optimizers) optimizer.zeroGrad();
  }
}

const valuesOf = async (params: readonly Tensor[]): Promise<number[][]> =>
  Promise.all(params.map(async (p) => [...(await p.data())]));

test('changes what its members change alone', async () => {
  const [together, apart] = [weights(1) as Pair, weights(1) as Pair];
  run(together, [chain(together)], 0, 5);
  run(apart, [muon(apart), adam(apart)], 0, 5);
  expect(await valuesOf(together)).toEqual(await valuesOf(apart));
  expect(await valuesOf(together)).not.toEqual(await valuesOf(weights(1)));
  expect(together.every(({ grad }) => grad === null)).toBe(true);
});

test('a schedule sets the rates of all members', () => {
  const optimizer = chain(weights(1) as Pair);
  const schedule = optim.lrScheduler.warmupLinear(optimizer, { warmupSteps: 2, totalSteps: 10 });
  expect(schedule.getLastLr()).toEqual([0.05, 0.005, 0.005]);
  const [first, second] = optimizer.optimizers;
  expect([first!.paramGroups[0]!.lr, second!.paramGroups[1]!.lr]).toEqual([0.05, 0.005]);
});

test('a saved state goes on to the bit', async () => {
  const whole = weights(1) as Pair;
  run(whole, [chain(whole)], 0, 6);
  const first = weights(1) as Pair;
  const before = chain(first);
  run(first, [before], 0, 3);
  const state = before.stateDict();
  expect(state.paramGroups.map(({ params }) => params)).toEqual([[0, 1], [2], [3]]);
  expect(Object.keys(state.state)).toEqual(['0', '1', '2', '3']);
  const again = first.map((p) => p.detach().clone().requiresGrad_()) as Pair;
  const after = chain(again);
  after.paramGroups[0]!.lr = 7;
  after.loadStateDict(state);
  expect(after.paramGroups[0]!.lr).toBe(0.1);
  run(again, [after], 3, 6);
  expect(await valuesOf(again)).toEqual(await valuesOf(whole));
  before.dispose();
  expect(before.optimizers.every(({ state: kept }) => kept.size === 0)).toBe(true);
});

const refusal = (code: FoveaError['code'], message: RegExp): object =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as object;

test('refuses what is no list of optimizers, a parameter in two, and a state of others', () => {
  const params = weights(1) as Pair;
  const make = (optimizers: unknown) => () => new optim.ChainedOptimizer(optimizers as []);
  expect(make([])).toThrow(refusal('FOVEA_ARGUMENT', /at least one optimizer/));
  expect(make(adam(params))).toThrow(refusal('FOVEA_ARGUMENT', /at least one optimizer/));
  expect(make([adam(params), 3])).toThrow(refusal('FOVEA_ARGUMENT', /an Optimizer for optimizers\[1\], received 3/));
  expect(make([adam(params), adam(params)])).toThrow(refusal('FOVEA_ARGUMENT', /each parameter once/));
  const optimizer = chain(params);
  const { state, paramGroups } = chain(weights(1) as Pair).stateDict();
  const load = (dict: unknown) => () => optimizer.loadStateDict(dict as ReturnType<typeof optimizer.stateDict>);
  expect(load({ state, paramGroups: paramGroups.slice(1) })).toThrow(refusal('FOVEA_ARGUMENT', /3 groups/));
  expect(load({ state: { 4: { step: 1 } }, paramGroups })).toThrow(refusal('FOVEA_ARGUMENT', /numbers of parameters/));
  const swapped = [paramGroups[1], paramGroups[0], paramGroups[2]];
  expect(load({ state, paramGroups: swapped })).toThrow(refusal('FOVEA_ARGUMENT', /groups of/));
});
