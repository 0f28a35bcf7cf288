// Why several heads (Vaswani et al. 2017, section 3.2.2, https://arxiv.org/abs/1706.03762): a head gives one average
// of what it looks at, so that whoever needs tokens from several places apart needs several heads. The task: each
// position must name the tokens 1, 2, 4 and 8 places before it. One layer of attention, without a feed-forward
// network, has 1, 4, 8 or 16 heads, which share the same 4 d² weights: more heads are narrower ones.
import { functional as F, inspect, manualSeed, mask, nn, noGrad, randint, tidy } from 'fovea';
import { fit, parameterCount, percent, print, setup } from './shared.mjs';

const sizes = { n: 32, symbols: 16, d: 64, batch: 32, steps: 1500, counts: [1, 4, 8, 16] };
const tiny = { n: 16, symbols: 6, d: 32, batch: 16, steps: 250, counts: [1, 4] };
const { n, symbols, d, batch, steps, counts, save } = setup({ ...sizes, tiny });
const distances = [1, 2, 4, 8];
const farthest = Math.max(...distances);

class OneLayer extends nn.Module {
  tokens = new nn.Embedding(symbols, d);
  positions = new nn.Embedding(n, d);
  constructor(heads) {
    super();
    this.attention = new nn.MultiheadAttention(d, heads, { batchFirst: true, bias: false });
    this.norm = new nn.LayerNorm(d);
    this.output = new nn.Linear(d, distances.length * symbols);
  }
  /** @param ids [b, n] @returns logits [b, n, distances, symbols] */
  forward(ids) {
    const x = this.tokens.forward(ids).add(this.positions.forward(F.arange(n)));
    const [y] = this.attention.forward(x, x, x, { attnMask: mask.causal(), needWeights: false });
    return this.output.forward(this.norm.forward(x.add(y))).unflatten(-1, [distances.length, symbols]);
  }
}

const draw = () => randint(0, symbols, [batch, n]);
/** What to name, and what a model says, from the first position that has all of it: [b, n - farthest, distances, …]. */
const targets = (ids) =>
  F.stack(
    distances.map((k) => ids.narrow(1, farthest - k, n - farthest)),
    -1,
  );
const answers = (model, ids) => model.forward(ids).narrow(1, farthest, n - farthest);
const lossOf = (model, ids) => F.crossEntropy(answers(model, ids).flatten(0, 2), targets(ids).flatten());

/** Loss, and the share of right tokens by their distance, on fresh sequences. */
async function judge(model) {
  const [loss, right] = noGrad(() =>
    tidy(() => {
      const ids = randint(0, symbols, [16 * batch, n]);
      const hits = answers(model, ids).argmax(-1).eq(targets(ids)).to('float32');
      return [lossOf(model, ids), hits.mean([0, 1])];
    }),
  );
  return { loss: await loss.item(), right: await right.data() };
}

const rows = [
  ['heads', 'width of one', 'parameters', 'loss', ...distances.map((k) => `right at -${k}`), 'ms per step'],
];
const sections = [];
const observers = [];
for (const heads of counts) {
  manualSeed(1);
  const model = new OneLayer(heads);
  const seconds = await fit(model, { steps, lr: 1e-2, loss: () => lossOf(model, draw()) });
  const { loss, right } = await judge(model);
  const time = ((1000 * seconds) / steps).toFixed(1);
  rows.push([heads, d / heads, parameterCount(model), loss.toFixed(3), ...Array.from(right, percent), time]);
  const observer = inspect.observe(model);
  noGrad(() => tidy(() => model.forward(draw())));
  sections.push({ weights: observer.get('attention'), title: `${heads} ${heads === 1 ? 'head' : 'heads'}` });
  observers.push(observer);
}
console.log(
  `the tokens ${distances.join(', ')} before, of ${symbols} (by chance ${percent(1 / symbols)}), ${steps} steps`,
);
print(rows);
await save('heads.html', await inspect.htmlReport(sections, { title: '1, 4, 8 and 16 heads on the same task' }));
for (const observer of observers) observer.dispose();
