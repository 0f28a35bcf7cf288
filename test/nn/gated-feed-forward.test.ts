// Gated linear units and the networks made of them, against their formulas in float64.
import { functional as F, nn, randn, tensor, type Tensor } from 'fovea';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';
import { codeOf } from '../helpers.js';
import { affine, matrix } from './reference.js';

const erf = (x: number): number => {
  // The series of erf, which converges everywhere and fast enough for the values here.
  let [term, total] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
};
const activations: Record<string, (x: number) => number> = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  linear: (x) => x,
  relu: (x) => Math.max(x, 0),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  silu: (x) => x / (1 + Math.exp(-x)),
};

test('GLU is the first half times the sigmoid of the second', async () => {
  const x = randn([3, 4, 5]);
  expect(await new nn.GLU(1).forward(x).data()).toEqual(await F.glu(x, 1).data());
  const [a, b] = [2, -0.5];
  expect(await new nn.GLU().forward(tensor([a, b])).item()).toBeCloseTo(a / (1 + Math.exp(-b)), 6);
  expect(codeOf(() => new nn.GLU().forward(x))).toBe('FOVEA_SHAPE');
  expect(codeOf(() => new nn.GLU(0.5))).toBe('FOVEA_ARGUMENT');
});

describe('GatedFeedForward', () => {
  const names = ['gate_proj', 'up_proj', 'down_proj'];
  function expected(layer: nn.GatedFeedForward, x: number[][], act: (x: number) => number): number[] {
    const parts = names.map((name, i) => {
      const { shape } = layer.stateDict()[`${name}.weight`]!;
      const weight = matrix(shape[0]!, shape[1]!, i + 1);
      const bias = layer.stateDict()[`${name}.bias`] && matrix(1, shape[0]!, i + 9)[0]!;
      return { weight, bias };
    });
    const keys = parts.flatMap(({ weight, bias }, i) => [
      [`${names[i]}.weight`, tensor(weight)] as const,
      ...(bias ? [[`${names[i]}.bias`, tensor(bias)] as const] : []),
    ]);
    layer.loadStateDict(Object.fromEntries(keys));
    const [gate, up] = [0, 1].map((i) => affine(x, parts[i]!.weight, parts[i]!.bias));
    const hidden = gate!.map((row, i) => row.map((value, j) => act(value) * up![i]![j]!));
    return affine(hidden, parts[2]!.weight, parts[2]!.bias).flat();
  }

  test.each(Object.keys(activations).flatMap((name) => [true, false].map((bias) => [name, bias] as const)))(
    '%s, bias: %s',
    async (activation, bias) => {
      const layer = new nn.GatedFeedForward(5, 7, { activation, bias });
      const x = matrix(3, 5, 0.4);
      const y = expected(layer, x, activations[activation]!);
      expect(compare(await layer.forward(tensor(x)).data(), y).difference).toBeLessThan(3e-6);
      layer.forward(tensor(x)).sum().backward();
      expect(layer.parameters().every(({ grad }) => grad !== null)).toBe(true);
      // Layers that something else watches run by themselves, with the same result.
      let ran = 0;
      layer.gateProj.registerForwardHook(() => void ran++);
      expect(compare(await layer.forward(tensor(x)).data(), y).difference).toBeLessThan(3e-6);
      expect(ran).toBe(1);
    },
  );

  test('is SwiGLU without biases by default, drops in training, takes quantised layers', async () => {
    const layer = new nn.GatedFeedForward(32, 64, { dropout: 0.5 });
    expect(Object.keys(layer.stateDict())).toEqual(names.map((name) => `${name}.weight`));
    expect(layer.activation).toBe(nn.activationOf('silu'));
    const x = randn([4, 32]);
    expect(await layer.forward(x).data()).not.toEqual(await layer.forward(x).data());
    const exact = await layer.eval().forward(x).data();
    expect(nn.quantize_(layer, { type: 'q8_0' })).toEqual(names);
    const { difference, largest } = compare(await layer.forward(x).data(), exact);
    expect(difference).toBeLessThan(0.05 * largest);
    const doubled = new nn.GatedFeedForward(4, 4, { activation: (y: Tensor) => y.mul(2) });
    expect(doubled.forward(randn([2, 3, 4])).shape).toEqual([2, 3, 4]);
    expect(codeOf(() => new nn.GatedFeedForward(4, 4, { activation: 'swiglu' }))).toBe('FOVEA_UNSUPPORTED');
    expect(codeOf(() => new nn.GatedFeedForward(4, 4, { gate: 1 } as never))).toBe('FOVEA_ARGUMENT');
  });
});
