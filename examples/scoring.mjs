// How attention may score a key for a query (Luong et al. 2015, section 3.1, https://arxiv.org/abs/1508.04025; Bahdanau
// et al. 2015, A.1.2, https://arxiv.org/abs/1409.0473; Vaswani et al. 2017, https://arxiv.org/abs/1706.03762):
//
//   dot  q · k      scaledDot  q · k / sqrt(d)      general  qᵀ W k
//   concat  vᵀ tanh(W [q; k])      additive  vᵀ tanh(U q + V k), which is the same function, W being [U V]
//
// First what each makes of one sentence, untrained. Then a lookup: given pairs of a key and a symbol, and for each key
// a noisy query, the model must name the symbol. In one task queries are keys and noise, which products match without
// learning anything; those of scaledDot are too small for sharp weights here, and it cannot learn their scale as
// general can. In the other task queries live in another space than keys: each pair of their places is turned by a
// right angle, so that q · k of what belongs together is 0 but for noise. Then dot and scaledDot, which learn nothing,
// cannot find the key, and can only guess symbols that come often. The others learn the turn, concat and additive at
// the price of a tanh for each query, key and hidden place.
//
// The last place of queries and keys is 1, which is the bias of what is inside of tanh. Without it, additive scores of
// -q and -k would be minus those of q and k, as tanh is odd, although -q belongs to -k as q does to k.
import { eye, functional as F, inspect, manualSeed, nn, noGrad, randint, randn, score, tensor, tidy } from 'fovea';
import { fit, parameterCount, percent, print, setup } from './shared.mjs';

const sizes = { pairs: 16, symbols: 8, d: 9, hidden: 32, noise: 0.5, batch: 32, steps: 400, seeds: 5, fresh: 200 };
const tiny = { pairs: 6, symbols: 4, d: 5, hidden: 16, noise: 0.2, steps: 180, seeds: 2 };
const { pairs, symbols, d, hidden, noise, batch, steps, seeds, fresh, save } = setup({ ...sizes, tiny });

/** The functions, and the shapes of what they learn. */
const kinds = {
  dot: [score.dot],
  scaledDot: [score.scaledDot],
  general: [score.general, [d, d]],
  concat: [score.concat, [hidden, 2 * d], [hidden]],
  additive: [score.additive, [hidden, d], [hidden, d], [hidden]],
};

class Scoring extends nn.Module {
  constructor(kind) {
    super();
    const [make, ...shapes] = kinds[kind];
    this.make = make;
    for (const [i, shape] of shapes.entries())
      this[`weight${i}`] = nn.parameter(randn(shape).div(Math.sqrt(shape.at(-1))));
  }
  forward(q, k, v) {
    return F.attention(q, k, v, { score: this.make(...this.parameters()) });
  }
}

/** A linear layer reads symbols from what one attention finds. */
class Lookup extends nn.Module {
  value = new nn.Embedding(symbols, d);
  output = new nn.Linear(d, symbols);
  constructor(kind) {
    super();
    this.attention = new Scoring(kind);
  }
  /** @returns logits [b, 1, pairs, symbols] */
  forward({ q, k, ids }) {
    return this.output.forward(this.attention.forward(q, k, this.value.forward(ids)));
  }
}

const withOne = (x) => F.concat([x, F.ones([...x.shape.slice(0, -1), 1])], -1);
/** (x, y) becomes (-y, x). */
function turn(keys) {
  const [x, y] = keys.chunk(2, -1);
  return F.concat([y.neg(), x], -1);
}
const spaces = { 'same space': (keys) => keys, 'another space': turn };

/** Keys of one length [count, 1, pairs, d], their queries and symbols. */
function draw(space, count) {
  const shape = [count, 1, pairs, d - 1];
  const raw = randn(shape);
  const keys = raw.div(raw.mul(raw).mean(-1, { keepdim: true }).sqrt());
  const q = spaces[space](keys).add(randn(shape).mul(noise));
  return { q: withOne(q), k: withOne(keys), ids: randint(0, symbols, [count, 1, pairs]) };
}

/**
 * Trains a model.
 *
 * @returns the share of right symbols for fresh pairs, milliseconds per step, how many numbers the score learns
 */
async function measure(kind, space, seed) {
  manualSeed(seed);
  const model = new Lookup(kind);
  const loss = () => {
    const batchOf = draw(space, batch);
    return F.crossEntropy(model.forward(batchOf).flatten(0, 2), batchOf.ids.flatten());
  };
  const seconds = await fit(model, { steps, lr: 1e-2, loss });
  const right = noGrad(() =>
    tidy(() => {
      const all = draw(space, fresh);
      return model.forward(all).argmax(-1).eq(all.ids).to('float32').mean();
    }),
  );
  return { right: await right.item(), time: (1000 * seconds) / steps, learnt: parameterCount(model.attention) };
}

/** Mean and standard deviation. */
function spread(values) {
  const mean = values.reduce((sum, x) => sum + x) / values.length;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1);
  return `${mean.toFixed(1)} ± ${Math.sqrt(variance).toFixed(1)}`;
}

/** Weights of each function, untrained, for a sentence in which a word comes twice. */
async function sentence(words) {
  manualSeed(1);
  const vocabulary = [...new Set(words)];
  const meaning = withOne(randn([vocabulary.length, d - 1]));
  const ids = words.map((word) => vocabulary.indexOf(word));
  const x = meaning.indexSelect(0, tensor(ids, { dtype: 'int64' }));
  // The values being the identity, outputs are weights.
  const maps = noGrad(() => Object.keys(kinds).map((kind) => new Scoring(kind).forward(x, x, eye(words.length))));
  const query = words.length - 1;
  const columns = await Promise.all(maps.map((map) => map.select(0, query).data()));
  console.log('weights before training');
  const rows = words.map((word, key) => [word, ...columns.map((weights) => weights[key].toFixed(3))]);
  print([[`${words[query]} looks at`, ...Object.keys(kinds)], ...rows]);
  const labels = { queries: words, keys: words, columns: maps.length };
  const title = `Words (down) look at words (right): ${Object.keys(kinds).join(', ')}`;
  await save('scoring.svg', await inspect.heatmapSvg(F.stack(maps), { title, ...labels }));
}

await sentence('the cat sat on the mat'.split(' '));
// Functions take turns, so that a busy machine slows them alike.
const runs = [];
for (let seed = 1; seed <= seeds; seed++)
  for (const kind of Object.keys(kinds))
    for (const space of Object.keys(spaces)) runs.push({ kind, space, ...(await measure(kind, space, seed)) });

const chance = percent(1 / symbols);
console.log(`\n${pairs} pairs, ${symbols} symbols (by chance ${chance}), ${steps} steps of ${batch}, ${seeds} seeds`);
const table = Object.keys(kinds).map((kind) => {
  const own = runs.filter((run) => run.kind === kind);
  const shares = Object.keys(spaces).map((space) => own.filter((run) => run.space === space).map(({ right }) => right));
  const accuracies = shares.map((values) => `${spread(values.map((x) => 100 * x))} %`);
  return [kind, own[0].learnt, ...accuracies, spread(own.map(({ time }) => time))];
});
print([['score', 'weights', ...Object.keys(spaces), 'ms per step'], ...table]);
