// What recurrent layers do beyond one forward and backward: second derivatives, unequal lengths, dropout, memory,
// modes.
import {
  autocast,
  functional as F,
  grad,
  manualSeed,
  memory,
  nn,
  noGrad,
  optim,
  randn,
  record,
  resetPeakMemory,
  type Tensor,
  tidy,
  zeros,
} from 'fovea';
import { describe, expect, it } from 'vitest';
import { codeOf, device, list } from '../helpers.js';

const { packPaddedSequence, packSequence } = nn.utils.rnn;
const doubles = (...shape: number[]): Tensor => randn(shape, { dtype: 'float64', device, requiresGrad: true });
function closeTo(actual: Tensor, expected: Tensor, tolerance: number): void {
  const [got, want] = [list(actual), list(expected)];
  expect(actual.shape).toEqual(expected.shape);
  const scale = want.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
  const worst = want.reduce((most, value, i) => Math.max(most, Math.abs(got[i]! - value)), 0);
  expect(worst / scale).toBeLessThanOrEqual(tolerance);
}

/** Weights of a cell from those of a layer in one direction. */
const step = {
  LSTM: (w: Tensor[], x: Tensor, [h, c]: Tensor[]): Tensor[] =>
    F.lstmCell(F.linear(x, w[0]!, w[2]), F.linear(h!, w[1]!, w[3]), c!),
  GRU: (w: Tensor[], x: Tensor, [h]: Tensor[]): Tensor[] => [
    F.gruCell(F.linear(x, w[0]!, w[2]), F.linear(h!, w[1]!, w[3]), h!),
  ],
  RNN: (w: Tensor[], x: Tensor, [h]: Tensor[]): Tensor[] => [
    F.tanh(F.linear(x, w[0]!, w[2]).add(F.linear(h!, w[1]!, w[3]))),
  ],
};
type Kind = keyof typeof step;
const kinds = Object.keys(step) as Kind[];
/** Outputs and last state of one sequence [length, input], step by step, by ops that are differentiated one by one. */
function alone(kind: Kind, w: Tensor[], x: Tensor, states: Tensor[], reverse: boolean): [Tensor, Tensor[]] {
  const steps = x.unbind(0);
  const ys = new Array<Tensor>(steps.length);
  let state = states;
  for (let i = 0; i < steps.length; i++) {
    const t = reverse ? steps.length - 1 - i : i;
    state = step[kind](w, steps[t]!, state);
    ys[t] = state[0]!;
  }
  return [F.stack(ys), state];
}
type Layer = nn.LSTM | nn.GRU | nn.RNN;
const outputOf = (layer: Layer, x: Tensor, lengths?: number[]): Tensor =>
  layer instanceof nn.LSTM ? layer.forward(x, null, { lengths })[0] : layer.forward(x, null, { lengths })[0];
const forward = (layer: Layer, x: Tensor, states: Tensor[], lengths: number[]): Tensor[] => {
  if (layer instanceof nn.LSTM) {
    const [output, state] = layer.forward(x, [states[0]!, states[1]!], { lengths });
    return [output, ...state];
  }
  return layer.forward(x, states[0], { lengths });
};

describe.each(kinds)('%s', (kind) => {
  const lengths = [2, 4, 1];
  const [batch, input, hidden] = [3, 2, 3];
  const layer = new nn[kind](input, hidden, { bidirectional: true, dtype: 'float64' }).to(device);
  const x = doubles(4, batch, input);
  const states = Array.from({ length: kind === 'LSTM' ? 2 : 1 }, () => doubles(2, batch, hidden));
  const leaves = [x, ...states, ...layer.parameters()];

  /** All sequences, each in its own loop: [length, batch, 2 hidden], and the last states. */
  const apart = (): Tensor[] => {
    const ends = [0, 1].map((direction) =>
      lengths.map((length, b) => {
        const before = states.map((s) => s.select(0, direction).select(0, b).unsqueeze(0));
        const weights = layer.parameters().slice(4 * direction, 4 * direction + 4);
        const rows = x.select(1, b).narrow(0, 0, length).unsqueeze(1);
        return alone(kind, weights, rows, before, direction === 1);
      }),
    );
    const padded = lengths.map((length, b) => {
      const y = F.concat(
        ends.map((direction) => direction[b]![0].squeeze(1)),
        -1,
      );
      return F.concat([y, zeros([4 - length, 2 * hidden], { dtype: 'float64', device })]);
    });
    const last = states.map((_, i) => F.stack(ends.map((direction) => F.concat(direction.map(([, s]) => s[i]!)))));
    return [F.stack(padded, 1), ...last];
  };
  const objective = (results: Tensor[]): Tensor =>
    results
      .map((r, i) =>
        r
          .mul(i + 1)
          .sin()
          .sum(),
      )
      .reduce((a, b) => a.add(b));

  it('runs each sequence to its own end, and backwards from there', () => {
    const expected = apart();
    forward(layer, x, states, lengths).forEach((result, i) => closeTo(result, expected[i]!, 1e-12));
  });
  it('has the gradients of the loop, once and twice', () => {
    const derivatives = (results: Tensor[]): Tensor[] => {
      const first = grad(objective(results), leaves, { createGraph: true });
      const score = first.map((g) => g.square().sum()).reduce((a, b) => a.add(b));
      return [...first, ...grad(score, leaves)];
    };
    const expected = derivatives(apart());
    derivatives(forward(layer, x, states, lengths)).forEach((g, i) => closeTo(g, expected[i]!, 1e-9));
  });
  it('gives the same gradients when the graph is walked again, and of one result alone', () => {
    const results = forward(layer, x, states, lengths);
    const loss = objective(results);
    const once = grad(loss, leaves, { retainGraph: true });
    grad(loss, leaves).forEach((g, i) => expect(list(g)).toEqual(list(once[i]!)));
    for (const at of results.keys()) {
      const expected = grad(apart()[at]!.square().sum(), leaves, { allowUnused: true });
      const found = grad(forward(layer, x, states, lengths)[at]!.square().sum(), leaves);
      found.forEach((g, i) => closeTo(g!, expected[i] ?? zeros(g!.shape, { dtype: 'float64', device }), 1e-9));
    }
  });
  it('leaves out what is frozen', () => {
    layer.requiresGrad_(false);
    const results = forward(layer, x, states, lengths);
    const found = grad(objective(results), [x, ...states]);
    layer.requiresGrad_(true);
    const expected = grad(objective(forward(layer, x, states, lengths)), [x, ...states]);
    found.forEach((g, i) => closeTo(g!, expected[i]!, 1e-12));
  });
});

describe.each(kinds)('%s of larger sizes', (kind) => {
  it('gives the same bits with and without a graph, in float32, and those of its cells to rounding', () => {
    const layer = new nn[kind](48, 264).to(device);
    const x = randn([5, 12, 48], { device });
    const plain = noGrad(() => [outputOf(layer, x), outputOf(layer, x)].map(list));
    const output = outputOf(layer, x);
    expect(list(output)).toEqual(plain[0]);
    expect(plain[1]).toEqual(plain[0]);
    const start = Array.from({ length: 2 }, () => zeros([12, 264], { device }));
    const parameters = layer.parameters();
    const [expected] = alone(kind, parameters, x, start, false);
    closeTo(output, expected, 1e-5);
    const wanted = grad(expected.square().sum(), parameters);
    grad(output.square().sum(), parameters).forEach((g, i) => closeTo(g, wanted[i]!, 1e-4));
  });
  it('runs in the dtype of autocast', () => {
    const layer = new nn[kind](16, 32).to(device);
    const x = randn([6, 3, 16], { device });
    const expected = noGrad(() => outputOf(layer, x));
    const found = autocast('bfloat16', () => outputOf(layer, x));
    expect(found.dtype).toBe('bfloat16');
    closeTo(found.float(), expected, 0.05);
    found.float().sum().backward();
    expect(layer.parameters().map(({ grad: g }) => g?.dtype)).toEqual(layer.parameters().map(() => 'float32'));
  });
});

describe('layers on top of each other', () => {
  it('drop outputs in training alone, and not those of the last layer', () => {
    manualSeed(5);
    const layer = new nn.GRU(3, 4, { numLayers: 2, dropout: 1 }).to(device);
    const x = randn([5, 2, 3], { device });
    const [trained] = layer.forward(x);
    const second = new nn.GRU(4, 4).to(device);
    const dict = Object.entries(layer.stateDict()).flatMap(([key, t]): [string, Tensor][] =>
      key.endsWith('l1') ? [[key.replace('l1', 'l0'), t]] : [],
    );
    second.loadStateDict(Object.fromEntries(dict));
    expect(list(trained)).toEqual(list(second.forward(zeros([5, 2, 4], { device }))[0]));
    const [plain] = layer.eval().forward(x);
    const same = new nn.GRU(3, 4, { numLayers: 2 }).to(device);
    same.loadStateDict(layer.stateDict());
    expect(list(plain)).toEqual(list(same.forward(x)[0]));
    expect(list(plain)).not.toEqual(list(trained));
  });
  it("have PyTorch's parameters, within its bounds", () => {
    const layer = new nn.LSTM(3, 25, { numLayers: 2, bidirectional: true });
    expect(layer.namedParameters().map(([key, { shape }]) => `${key} ${shape}`)).toEqual(
      ['l0', 'l0_reverse', 'l1', 'l1_reverse'].flatMap((name) => [
        `weight_ih_${name} 100,${name.startsWith('l0') ? 3 : 50}`,
        `weight_hh_${name} 100,25`,
        `bias_ih_${name} 100`,
        `bias_hh_${name} 100`,
      ]),
    );
    const values = layer.parameters().flatMap(list);
    expect(Math.max(...values)).toBeLessThanOrEqual(0.2);
    expect(Math.min(...values)).toBeLessThan(-0.19);
    expect(values.reduce((sum, v) => sum + v * v, 0) / values.length).toBeCloseTo(0.04 / 3, 3);
    expect(list(layer.weightIhL0!)).toEqual(list(layer.stateDict()['weight_ih_l0']!));
    expect(layer.biasHhL1Reverse!.shape).toEqual([100]);
  });
  it('take a batch of no sequences', () => {
    const [y, [h, c]] = new nn.LSTM(3, 4, { bidirectional: true }).forward(zeros([5, 0, 3]));
    expect([y, h, c].map(({ shape }) => [...shape])).toEqual([
      [5, 0, 8],
      [2, 0, 4],
      [2, 0, 4],
    ]);
  });
  it('give packed sequences for packed sequences', () => {
    const sequences = [3, 1, 2].map((length) => randn([length, 3], { device }));
    const packed = packSequence(sequences, { enforceSorted: false });
    const layer = new nn.GRU(3, 4, { numLayers: 2, bidirectional: true }).to(device);
    const [output, h] = layer.forward(packed);
    expect(output.batchSizes).toEqual([3, 2, 1]);
    expect(output.sortedIndices).toEqual([0, 2, 1]);
    const found = nn.utils.rnn.unpackSequence(output);
    sequences.forEach((x, b) => {
      const [y, last] = layer.forward(x);
      closeTo(found[b]!, y, 1e-5);
      closeTo(h.select(1, b), last, 1e-5);
    });
  });
});

describe('memory', () => {
  const live = (): { bytes: number; tensors: number } => {
    const report = memory();
    return { bytes: device === 'cpu' ? report.live : report.devices['cuda:0']!.live, tensors: report.tensors };
  };
  it.each(kinds)('of 200 steps of training of %s is that of 10', (kind) => {
    const model = new nn[kind](4, 8, { numLayers: 2, bidirectional: true, dropout: 0.1 }).to(device);
    const optimizer = new optim.AdamW(model.parameters());
    const x = randn([6, 3, 4], { device });
    const train = (steps: number): void => {
      for (let i = 0; i < steps; i++)
        tidy(() => {
          optimizer.zeroGrad();
          const lengths = [1 + (i % 6), 6, 2];
          outputOf(model, x, lengths).square().sum().backward();
          optimizer.step();
        });
    };
    train(10);
    const before = live();
    train(200);
    expect(live()).toEqual(before);
  });
  it('of inference holds outputs, but no gates or cells of all steps', () => {
    const [length, batch, hidden] = [64, 16, 64];
    const layer = new nn.LSTM(8, hidden).to(device);
    const x = randn([length, batch, 8], { device });
    const bytes = 4 * length * batch * hidden;
    const peak = (recording: boolean): number => {
      resetPeakMemory();
      const before = live().bytes;
      const run = (): void => void tidy(() => layer.forward(x)[0].sum().itemSync());
      if (recording) run();
      else noGrad(run);
      return (device === 'cpu' ? memory().peak : memory().devices['cuda:0']!.peak) - before;
    };
    peak(false); // the first call packs weights
    expect(peak(false) / bytes).toBeLessThan(4 + 2 + 0.5); // projected inputs, h of each step and the output
    expect(peak(true) / bytes).toBeGreaterThan(4 + 4 + 1);
  });
});

it('a recorded step of training is one that is not', () => {
  const train = (recorded: boolean): number[] => {
    manualSeed(3);
    const model = new nn.LSTM(3, 128).to(device); // so wide that products pack the weight
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
    const run = (x: Tensor): Tensor => {
      model.zeroGrad();
      const loss = tidy(() => model.forward(x)[0].square().mean());
      loss.backward();
      return loss;
    };
    const step = record(run);
    const losses = Array.from({ length: 5 }, (_, i) => {
      manualSeed(i);
      const loss = (recorded ? step : run)(randn([4, 12, 3], { device })).itemSync() as number;
      optimizer.step();
      return loss;
    });
    step.dispose();
    return losses;
  };
  expect(train(true)).toEqual(train(false));
});

describe('errors', () => {
  const lstm = new nn.LSTM(3, 4, { numLayers: 2 });
  const x = zeros([5, 2, 3]);
  const state = (...shape: number[]): nn.LSTMState => [zeros(shape), zeros(shape)];
  it.each<[string, () => unknown, string, RegExp]>([
    [
      'a wrong width',
      () => lstm.forward(zeros([5, 2, 4])),
      'FOVEA_SHAPE',
      /LSTM: .*input \[length,batch,3\].*\[5,2,4\]/,
    ],
    ['too many axes', () => lstm.forward(zeros([1, 5, 2, 3])), 'FOVEA_SHAPE', /LSTM: .*\[1,5,2,3\]/],
    ['no steps', () => lstm.forward(zeros([0, 2, 3])), 'FOVEA_SHAPE', /LSTM: .*at least one step.*\[0,2,3\]/],
    ['a state of one layer', () => lstm.forward(x, state(1, 2, 4)), 'FOVEA_SHAPE', /LSTM: .*h0 \[2,2,4\].*\[1,2,4\]/],
    ['a cell state of another width', () => lstm.forward(x, [zeros([2, 2, 4]), zeros([2, 2, 3])]), 'FOVEA_SHAPE', /c0/],
    ['a state that is no pair', () => lstm.forward(x, zeros([2, 2, 4]) as never), 'FOVEA_ARGUMENT', /LSTM: .*\[h, c\]/],
    ['lengths of 0', () => lstm.forward(x, null, { lengths: [5, 0] }), 'FOVEA_ARGUMENT', /at least 1 for lengths\[1\]/],
    ['lengths beyond the input', () => lstm.forward(x, null, { lengths: [6, 1] }), 'FOVEA_ARGUMENT', /at most 5.*6/],
    ['too few lengths', () => lstm.forward(x, null, { lengths: [5] }), 'FOVEA_ARGUMENT', /2 lengths/],
    [
      'lengths beside packed sequences',
      () => lstm.forward(packPaddedSequence(x, [5, 2]), null, { lengths: [5, 2] }),
      'FOVEA_ARGUMENT',
      /LSTM: expected nothing beside a PackedSequence for lengths/,
    ],
    ['projected states', () => new nn.LSTM(3, 4, { projSize: 2 }), 'FOVEA_UNSUPPORTED', /LSTM: projSize is 2.*Linear/],
    ['no width', () => new nn.GRU(3, 0), 'FOVEA_ARGUMENT', /GRU: .*hiddenSize/],
    ['no layers', () => new nn.GRU(3, 4, { numLayers: 0 }), 'FOVEA_ARGUMENT', /GRU: .*numLayers/],
    ['a probability of 2', () => new nn.RNN(3, 4, { dropout: 2 }), 'FOVEA_ARGUMENT', /RNN: .*dropout/],
    [
      'sigmoid',
      () => new nn.RNN(3, 4, { nonlinearity: 'sigmoid' as never }),
      'FOVEA_ARGUMENT',
      /RNN: .*'tanh' or 'relu'/,
    ],
    ['a misspelt option', () => new nn.GRU(3, 4, { layers: 2 } as never), 'FOVEA_ARGUMENT', /GRU: .*layers/],
    [
      'a cell without a fitting input',
      () => new nn.GRUCell(3, 4).forward(zeros([2, 4])),
      'FOVEA_SHAPE',
      /GRUCell: .*\[2,4\]/,
    ],
    [
      'a cell with a state of another batch',
      () => new nn.LSTMCell(3, 4).forward(zeros([2, 3]), state(3, 4)),
      'FOVEA_SHAPE',
      /LSTMCell: expected h \[2,4\], received \[3,4\]/,
    ],
  ])('%s', (_, run, code, message) => {
    expect(codeOf(run)).toBe(code);
    expect(run).toThrow(message);
  });
});
