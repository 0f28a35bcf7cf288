// A sequence-to-sequence model learns to write random sequences backwards, with attention as Bahdanau et al. (2015,
// https://arxiv.org/abs/1409.0473) and as Luong et al. (2015, https://arxiv.org/abs/1508.04025) score it:
//
//   Bahdanau  e_ij = vᵀ tanh(W s_(i-1) + U h_j) ("additive"): with the state before, whose context enters that of now
//   Luong     e_ij = s_iᵀ W h_j ("general"): with the state of now, which meets its context in a layer behind
//
// h_j is the state of the encoder at token j in both directions, and the token itself; s are the states of the
// decoder, and c_i = Σ_j softmax(e_i)_j h_j is the context. Where each written token looks is the alignment: here an
// anti-diagonal. The decoder starts from zeros, so that all it knows of the source comes through attention. Neither
// has the papers' extras: no maxout, no input feeding.
import { functional as F, full, inspect, manualSeed, nn, noGrad, randint, randn, score, tidy, zeros } from 'fovea';
import { fit, parameterCount, percent, print, setup } from './shared.mjs';

const sizes = { length: 10, symbols: 16, width: 32, batch: 64, steps: 900, fresh: 1000 };
const tiny = { length: 4, symbols: 6, width: 16, batch: 32, steps: 180, fresh: 200 };
const { length, symbols, width, batch, steps, fresh, save } = setup({ ...sizes, tiny });

/**
 * Gated recurrent unit (Cho et al. 2014, https://arxiv.org/abs/1406.1078): h' = z h + (1 - z) tanh(W x + U (r h)),
 * with z and r = sigmoid(W x + U h), each with weights of its own.
 */
class GruCell extends nn.Module {
  constructor(inputs) {
    super();
    this.input = new nn.Linear(inputs, 3 * width);
    this.gates = new nn.Linear(width, 2 * width, { bias: false });
    this.candidate = new nn.Linear(width, width, { bias: false });
  }
  forward(x, h) {
    const [xz, xr, xh] = this.input.forward(x).chunk(3, -1);
    const [hz, hr] = this.gates.forward(h).chunk(2, -1);
    const [z, r] = [xz.add(hz).sigmoid(), xr.add(hr).sigmoid()];
    const candidate = xh.add(this.candidate.forward(r.mul(h))).tanh();
    return z.mul(h.sub(candidate)).add(candidate);
  }
}

/** What is learnt, at random. */
const weight = (...shape) => nn.parameter(randn(shape).div(Math.sqrt(shape.at(-1))));
/** What one state of the decoder finds in the annotations [b, n, 3 width]: [b, 3 width]. */
const contextOf = (state, memory, scoring) =>
  F.attention(state.unsqueeze(1), memory, memory, { score: scoring }).squeeze(1);

/** Attends, then steps. */
class Bahdanau extends nn.Module {
  query = weight(width, width);
  key = weight(width, 3 * width);
  vector = weight(width);
  cell = new GruCell(4 * width);
  output = new nn.Linear(5 * width, symbols);
  forward(y, before, memory) {
    const context = contextOf(before, memory, score.additive(this.query, this.key, this.vector));
    const state = this.cell.forward(F.concat([y, context], -1), before);
    return { state, logits: this.output.forward(F.concat([state, context, y], -1)) };
  }
}

/** Steps, then attends. */
class Luong extends nn.Module {
  weight = weight(width, 3 * width);
  cell = new GruCell(width);
  combine = new nn.Linear(4 * width, width);
  output = new nn.Linear(width, symbols);
  forward(y, before, memory) {
    const state = this.cell.forward(y, before);
    const context = contextOf(state, memory, score.general(this.weight));
    return { state, logits: this.output.forward(this.combine.forward(F.concat([context, state], -1)).tanh()) };
  }
}

class Seq2Seq extends nn.Module {
  source = new nn.Embedding(symbols, width);
  // One more than there are symbols: what the decoder reads first.
  target = new nn.Embedding(symbols + 1, width);
  forwards = new GruCell(width);
  backwards = new GruCell(width);
  constructor(Decoder) {
    super();
    this.decoder = new Decoder();
  }

  /**
   * @param target [b, n] to read in training; without it, the model reads what it wrote
   * @returns logits [b, n, symbols]
   */
  forward(source, target) {
    const start = zeros([source.shape[0], width]);
    const x = this.source.forward(source);
    const list = x.unbind(1);
    const [ahead, back] = [read(this.forwards, list, start), read(this.backwards, list.toReversed(), start).reverse()];
    const memory = F.concat([F.stack(ahead, 1), F.stack(back, 1), x], -1);
    const logits = [];
    let [state, y] = [start, full([source.shape[0]], symbols, { dtype: 'int64' })];
    for (let i = 0; i < length; i++) {
      const step = this.decoder.forward(this.target.forward(y), state, memory);
      logits.push(step.logits);
      state = step.state;
      y = target ? target.select(1, i) : step.logits.argmax(-1);
    }
    return F.stack(logits, 1);
  }
}
/** The states of a cell that reads a list. */
function read(cell, list, start) {
  let state = start;
  return list.map((x) => (state = cell.forward(x, state)));
}

const draw = (count) => randint(0, symbols, [count, length]);
/** What a model writes for fresh sequences, and where it looks: shares of all tokens, and one map. */
function judge(model) {
  const source = draw(fresh);
  const observer = inspect.observe(model);
  const logits = model.forward(source);
  // Each token that is written is a call of its own, with one query.
  const weights = F.concat(
    observer.captures.map((capture) => capture.weights()),
    2,
  ).squeeze(0);
  observer.dispose();
  const { keys, monotonicity } = inspect.alignment(weights);
  const share = (hits) => hits.to('float32').mean();
  const accuracy = share(logits.argmax(-1).eq(source.flip(1)));
  const mirrored = share(keys.eq(F.arange(length - 1, -1, -1)));
  return { accuracy, mirrored, monotonicity: monotonicity.mean(), map: weights.select(0, 0) };
}

const rows = [['attention', 'parameters', 'token accuracy', 'on the anti-diagonal', 'monotonicity', 'seconds']];
const maps = [];
for (const [name, Decoder] of Object.entries({ Bahdanau, Luong })) {
  manualSeed(1);
  const model = new Seq2Seq(Decoder);
  const loss = () => {
    const source = draw(batch);
    const target = source.flip(1);
    return F.crossEntropy(model.forward(source, target).flatten(0, 1), target.flatten());
  };
  const seconds = await fit(model, { steps, lr: 1e-2, loss });
  const { accuracy, mirrored, monotonicity, map } = noGrad(() => tidy(() => judge(model)));
  const [right, mirror, forward] = await Promise.all([accuracy, mirrored, monotonicity].map((x) => x.item()));
  const shares = [percent(right), percent(mirror), forward.toFixed(2)];
  rows.push([name, parameterCount(model), ...shares, seconds.toFixed(1)]);
  maps.push(map);
}
console.log(`${length} of ${symbols} symbols, written backwards: ${steps} steps of ${batch}, ${fresh} fresh sequences`);
print(rows);
const title = 'Written tokens (down) look at source tokens (right): Bahdanau, Luong';
await save('seq2seq-reverse.svg', await inspect.heatmapSvg(F.stack(maps), { title }));
