// States of optimizers in bfloat16 and in bytes, step by step: from the same states, a step that keeps float32 and one
// that rounds differ, in each element, by no more than the distance of the two numbers around it that the format has.
import { type Dtype, Generator, nn, optim, randn, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { device, list } from '../helpers.js';

type Make = (params: Tensor[], stateDtype: optim.StateDtype) => optim.Optimizer<{ lr: number }>;
const RUN = 256;
/** What has a sign has 7 bits beside it; averages of squares have 8. */
const bitsOf = (name: string): number => (name === 'expAvg' ? 7 : 8);

/**
 * The numbers of a byte for a run whose largest magnitude is 1 (Dettmers et al. 2021): each decade half as many as the
 * next.
 */
function gridOf(bits: number): number[] {
  const decades = Array.from({ length: bits }, (_, i) =>
    Array.from({ length: 2 ** i }, (__, j) => 10 ** (i + 1 - bits) * (1 - 0.9 * (1 - (j + 1) / 2 ** i))),
  );
  return [0, ...decades.flat()];
}
const grids = { 7: gridOf(7), 8: gridOf(8) };

/** State `name` as plain numbers. */
function decoded(entry: Record<string, Tensor | number>, name: string): number[] {
  const state = entry[name] as Tensor;
  if (state.dtype !== 'uint8') return list(state);
  const scales = list(entry[`${name}Scales`] as Tensor);
  const signed = bitsOf(name) === 7;
  return list(state).map((byte, i) => {
    const magnitude = grids[signed ? 7 : 8][signed ? byte & 127 : byte]! * scales[Math.floor(i / RUN)]!;
    return signed && byte & 128 ? -magnitude : magnitude;
  });
}

/** For each element, how far a rounded state may be from x. */
function allowances(x: number[], stateDtype: optim.StateDtype, name: string): number[] {
  const grid = grids[bitsOf(name) === 7 ? 7 : 8];
  return x.map((value, i) => {
    const magnitude = Math.abs(value);
    // Rounded up or down: by less than a unit in the last place, of 8 bits.
    if (stateDtype === 'bfloat16') return 2 ** (Math.floor(Math.log2(magnitude || 1)) - 7);
    const run = Math.floor(i / RUN) * RUN;
    const largest = Math.max(...x.slice(run, run + RUN).map(Math.abs));
    const above = Math.max(
      1,
      grid.findIndex((g) => g * largest >= magnitude * (1 - 1e-6)),
    );
    // Beside the two numbers around it, what float32 rounds on the way to them.
    return (grid[above]! - grid[above - 1]!) * largest * (1 + 1e-5) + 1e-6 * magnitude;
  });
}

const kinds: [string, Make, readonly string[]][] = [
  ['AdamW', (params, stateDtype) => new optim.AdamW(params, { lr: 0.01, stateDtype }), ['expAvg', 'expAvgSq']],
  [
    'AMSGrad',
    (params, stateDtype) => new optim.Adam(params, { lr: 0.01, amsgrad: true, stateDtype }),
    ['expAvg', 'expAvgSq', 'maxExpAvgSq'],
  ],
  ['Lion', (params, stateDtype) => new optim.Lion(params, { lr: 0.002, stateDtype }), ['expAvg']],
];
const cases = kinds.flatMap(([kind, make, names]) =>
  (['bfloat16', 'int8'] as const).map((stateDtype) => [kind, stateDtype, make, names] as const),
);

describe.each(cases)('%s with states in %s', (_, stateDtype, make, names) => {
  it('rounds each state to a neighbour in every step', () => {
    const sizes = [700, 256, 3];
    const params = sizes.map((n, k) => nn.parameter(randn([n], { generator: new Generator(k), device })));
    const compact = make(params, stateDtype);
    const relative = new Map(names.map((name) => [name, [] as number[]]));
    for (let step = 1; step <= 12; step++)
      tidy(() => {
        // Of very unequal sizes, so that all decades of a byte are in use.
        const gradients = sizes.map((n, k) => {
          const g = randn([n], { generator: new Generator(100 * step + k), device });
          return g.mul(g.abs()).mul(g.square());
        });
        const before = Object.values(compact.stateDict().state);
        const copies = params.map((p) => nn.parameter(p.detach().clone()));
        const wide = make(copies, 'float32');
        if (step > 1) {
          const { paramGroups } = wide.stateDict();
          const state = before.map((entry, k) => {
            const values = names.map((name) => {
              const shape = [sizes[k]!];
              return [name, tensor(decoded(entry, name), { shape, dtype: 'float32' as Dtype, device })] as const;
            });
            return { step: step - 1, ...Object.fromEntries(values) };
          });
          wide.loadStateDict({ state: { ...state }, paramGroups });
        }
        for (const [optimizer, of] of [
          [compact, params],
          [wide, copies],
        ] as const) {
          of.forEach((p, k) => (p.grad = gradients[k]!.clone()));
          optimizer.step();
        }
        const [rounded, exact] = [compact, wide].map((o) => Object.values(o.stateDict().state));
        for (const [k, n] of sizes.entries()) {
          for (const name of names) {
            const [found, x] = [decoded(rounded![k]!, name), list(exact![k]![name] as Tensor)];
            const allowed = allowances(x, stateDtype, name);
            for (let i = 0; i < n; i++) {
              const error = Math.abs(found[i]! - x[i]!);
              if (!(error <= allowed[i]!))
                expect.fail(`step ${step}, ${name}[${i}]: ${found[i]}, not ${x[i]} ± ${allowed[i]}`);
              if (x[i] !== 0) relative.get(name)!.push(error / Math.abs(x[i]!));
            }
          }
          // What the step does to the parameter comes before the rounding.
          const [moved, wanted] = [list(params[k]!), list(copies[k]!)];
          moved.forEach((v, i) => expect(Math.abs(v - wanted[i]!)).toBeLessThan(2e-6));
        }
        wide.dispose();
      });
    for (const [name, errors] of relative) {
      expect(errors.length).toBeGreaterThan(8000);
      expect(Math.max(...errors), name).toBeGreaterThan(stateDtype === 'bfloat16' ? 2 ** -8 : 0.01);
    }
    compact.dispose();
  });
});
