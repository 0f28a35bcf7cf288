// Recurrent layers and cells against PyTorch (test/golden/rnn): results, gradients, steps of training.
import { functional as F, nn, optim, type Tensor } from 'fovea';
import { describe, expect, it } from 'vitest';
import { expectGradients, expectNear, expectTraining, precisions, type Precision, tolerances } from '../golden.js';
import {
  fill,
  numbers,
  recorded,
  type RecordedCell,
  type RecordedLayer,
  recordedRuns,
  seeds,
  sizes,
} from './recorded-rnn.js';

const { packPaddedSequence, padPackedSequence } = nn.utils.rnn;
type Layer = nn.LSTM | nn.GRU | nn.RNN;
type Cell = nn.LSTMCell | nn.GRUCell | nn.RNNCell;
const layers = { LSTM: nn.LSTM, GRU: nn.GRU, RNN: nn.RNN };
const cells = { LSTMCell: nn.LSTMCell, GRUCell: nn.GRUCell, RNNCell: nn.RNNCell };
const makeLayer = (golden: RecordedLayer, dtype: Precision): Layer =>
  fill(new layers[golden.kind as keyof typeof layers](sizes.input, sizes.hidden, { ...golden.options, dtype }));
const makeCell = (golden: RecordedCell, dtype: Precision): Cell =>
  fill(new cells[golden.kind as keyof typeof cells](sizes.input, sizes.hidden, { ...golden.options, dtype }));

interface Result {
  output: Tensor;
  h: Tensor;
  c: Tensor | undefined;
}
/** A layer on a tensor. */
function run(layer: Layer, x: Tensor, [h0, c0]: Tensor[], options: nn.RecurrentForwardOptions = {}): Result {
  if (layer instanceof nn.LSTM) {
    const [output, [h, c]] = layer.forward(x, h0 && [h0, c0!], options);
    return { output, h, c };
  }
  const [output, h] = layer.forward(x, h0, options);
  return { output, h, c: undefined };
}
/** The same with packing before and unpacking behind. */
function runPacked(layer: Layer, x: Tensor, [h0, c0]: Tensor[], lengths: number[]): Result {
  const { batchFirst } = layer;
  const packed = packPaddedSequence(x, lengths, { batchFirst, enforceSorted: false });
  const unpacked = (y: nn.utils.rnn.PackedSequence): Tensor =>
    padPackedSequence(y, { batchFirst, totalLength: sizes.length })[0];
  if (layer instanceof nn.LSTM) {
    const [output, [h, c]] = layer.forward(packed, h0 && [h0, c0!]);
    return { output: unpacked(output), h, c };
  }
  const [output, h] = layer.forward(packed, h0);
  return { output: unpacked(output), h, c: undefined };
}
/** The loss of make.py. */
function backward(parts: Record<'dy' | 'dh' | 'dc', Tensor | undefined>): void {
  const terms = (['dy', 'dh', 'dc'] as const).flatMap((name) => {
    const part = parts[name];
    return part ? [part.mul(numbers(seeds[name], part.shape, part.dtype)).sum()] : [];
  });
  terms.reduce((a, b) => a.add(b)).backward();
}

/** Inputs and states of a recorded layer. */
function inputsOf({ options, batch, states, kind }: RecordedLayer, dtype: Precision): Tensor[] {
  const { batchFirst = false, numLayers = 1, bidirectional = false } = options;
  const steps = !batch ? [sizes.length] : batchFirst ? [sizes.batch, sizes.length] : [sizes.length, sizes.batch];
  const state = [numLayers * (bidirectional ? 2 : 1), ...(batch ? [sizes.batch] : []), sizes.hidden];
  const x = numbers(seeds.x, [...steps, sizes.input], dtype);
  const names = !states ? [] : kind === 'LSTM' ? (['h', 'c'] as const) : (['h'] as const);
  return [x, ...names.map((name) => numbers(seeds[name], state, dtype))].map((t) => t.requiresGrad_());
}

const titled = <T extends RecordedCell>(all: T[], name: (golden: T) => string): [string, T][] =>
  all.map((golden) => [`${golden.kind} ${JSON.stringify(golden.options)} ${name(golden)}`, golden]);

describe.each(titled(recorded.layers, ({ lengths, batch }) => (batch ? `lengths ${lengths}` : 'alone')))(
  '%s',
  (_, golden) => {
    const { lengths } = golden;
    const ways = (lengths ? ['lengths', 'packed'] : ['plain']).flatMap((way) =>
      precisions.map((dtype): [way: string, dtype: Precision] => [way, dtype]),
    );
    it.each(ways)("has PyTorch's results and gradients, %s, %s", (way, dtype) => {
      const tolerance = tolerances[dtype];
      const layer = makeLayer(golden, dtype);
      const [x, ...states] = inputsOf(golden, dtype) as [Tensor, ...Tensor[]];
      const { output, h, c } =
        way === 'packed' ? runPacked(layer, x, states, lengths!) : run(layer, x, states, lengths ? { lengths } : {});
      expect(output.shape).toEqual(golden.shape);
      expectNear('output', output, golden.output, tolerance);
      expectNear('h', h, golden.h, tolerance);
      if (c) expectNear('c', c, golden.c!, tolerance);
      backward({ dy: output, dh: h, dc: c });
      expectNear('dx', x.grad, golden.dx, tolerance);
      if (states[0]) expectNear('dh0', states[0].grad, golden.dh0!, tolerance);
      if (states[1]) expectNear('dc0', states[1].grad, golden.dc0!, tolerance);
      expectGradients(layer, golden.parameters, tolerance);
    });
  },
);

describe.each(titled(recorded.cells, () => ''))('%s', (_, golden) => {
  it.each(precisions)("has PyTorch's results and gradients in %s", (dtype) => {
    const tolerance = tolerances[dtype];
    const cell = makeCell(golden, dtype);
    const [x, h0, c0] = [
      numbers(seeds.x, [sizes.batch, sizes.input], dtype),
      numbers(seeds.h, [sizes.batch, sizes.hidden], dtype),
      numbers(seeds.c, [sizes.batch, sizes.hidden], dtype),
    ].map((t) => t.requiresGrad_()) as [Tensor, Tensor, Tensor];
    const [h, c] = cell instanceof nn.LSTMCell ? cell.forward(x, [h0, c0]) : [cell.forward(x, h0), undefined];
    expectNear('h', h, golden.h, tolerance);
    if (c) expectNear('c', c, golden.c!, tolerance);
    backward({ dy: undefined, dh: h, dc: c });
    expectNear('dx', x.grad, golden.dx, tolerance);
    expectNear('dh0', h0.grad, golden.dh0!, tolerance);
    if (golden.dc0) expectNear('dc0', c0.grad, golden.dc0, tolerance);
    expectGradients(cell, golden.parameters, tolerance);
  });
});

class Last extends nn.Module {
  rnn: nn.LSTM | nn.GRU;
  head: nn.Linear;
  constructor(kind: 'LSTM' | 'GRU', dtype: Precision) {
    super();
    this.rnn = new nn[kind](sizes.input, 6, { batchFirst: true, dtype });
    this.head = new nn.Linear(6, 2, { dtype });
  }
  override forward(x: Tensor): Tensor {
    const { output } = run(this.rnn, x, []);
    return this.head.forward(output.select(1, -1));
  }
}
describe.each(recordedRuns.map((golden) => [golden.kind, golden] as const))('training of %s', (kind, golden) => {
  it.each(precisions)("goes PyTorch's way in %s", (dtype) => {
    const model = fill(new Last(kind, dtype));
    const optimizer = new optim.AdamW(model.parameters(), { lr: 0.02 });
    const [x, y] = [numbers(seeds.x, [8, sizes.length, sizes.input], dtype), numbers(seeds.dy, [8, 2], dtype)];
    expectTraining(model, optimizer, () => F.mseLoss(model.forward(x), y), golden, dtype);
    expect(golden.losses.at(-1)!).toBeLessThan(golden.losses[0]! / 2);
  });
});
