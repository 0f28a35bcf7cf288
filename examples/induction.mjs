// Induction heads (Olsson et al. 2022, https://arxiv.org/abs/2209.11895): a model of two layers of attention learns
// to go on with a sequence that repeats. A head of the first layer writes to each token which one came before it; a
// head of the second then finds the token after the earlier occurrence of the present one, and copies it. Random
// tokens cannot be learnt by heart, and their period changes from batch to batch, so that counting back does not do
// either: the loss of what repeats falls when that head forms, and the classifier of `inspect` names it.
import { functional as F, inspect, manualSeed, nn, noGrad, randint, tensor, tidy } from 'fovea';
import { fit, print, setup } from './shared.mjs';

const sizes = { n: 48, symbols: 32, d: 64, heads: 4, batch: 32, steps: 600, lr: 5e-3, every: 50 };
const tiny = { n: 24, symbols: 16, d: 32, heads: 2, batch: 16, steps: 400, every: 100 };
const { n, symbols, d, heads, batch, steps, lr, every, save } = setup({ ...sizes, tiny });
manualSeed(1);

/** Cosines and sines of rotary positions, [n, r]: of half the components of a head, since the others compare tokens. */
const frequencies = Array.from({ length: d / heads / 4 }, (_, i) => 100 ** ((-4 * i * heads) / d));
const angles = F.arange(n, { dtype: 'float32' }).unsqueeze(1).mul(tensor(frequencies));
const [cos, sin] = [angles.cos(), angles.sin()];

/** x + Wo attention(norm(x)): attention alone, without a feed-forward network. */
class Layer extends nn.Module {
  norm = new nn.LayerNorm(d);
  project = new nn.Linear(d, 3 * d, { bias: false });
  output = new nn.Linear(d, d, { bias: false });
  forward(x) {
    const parts = this.project.forward(this.norm.forward(x)).unflatten(-1, [3, heads, d / heads]);
    const [q, k, v] = parts.permute([2, 0, 3, 1, 4]).unbind(0);
    const y = F.attention(F.rope(q, cos, sin), F.rope(k, cos, sin), v, { causal: 'topLeft' });
    return x.add(this.output.forward(y.transpose(1, 2).flatten(-2)));
  }
}

class TwoLayers extends nn.Module {
  tokens = new nn.Embedding(symbols, d);
  layers = [new Layer(), new Layer()];
  norm = new nn.LayerNorm(d);
  output = new nn.Linear(d, symbols, { bias: false });
  forward(ids) {
    const x = this.layers.reduce((state, layer) => layer.forward(state), this.tokens.forward(ids));
    return this.output.forward(this.norm.forward(x));
  }
}

/** Random tokens [count, n + 1] that repeat with a period. */
function draw(count, period) {
  return randint(0, symbols, [count, period])
    .repeat([1, Math.ceil((n + 1) / period)])
    .narrow(1, 0, n + 1);
}
let batches = 0;
/** From n / 4 to n / 2, one after the other. */
const nextPeriod = () => n / 4 + (batches++ % (n / 4 + 1));
/** Cross entropy of the tokens from one position to before another, each told by those before it. */
function lossOf(model, ids, [from, to]) {
  const logits = model.forward(ids.narrow(1, 0, n)).narrow(1, from - 1, to - from);
  return F.crossEntropy(logits.flatten(0, 1), ids.narrow(1, from, to - from).flatten());
}

const model = new TwoLayers();
/** The sequences of all reports: one half new, the other the same again. */
const fresh = draw(64, n / 2);
const tokenIds = await fresh.narrow(1, 0, n).select(0, 0).data({ as: 'int32' });
const [newHalf, repeated] = [
  [1, n / 2],
  [n / 2 + 1, n + 1],
];
const nats = async (range) => (await noGrad(() => tidy(() => lossOf(model, fresh, range))).item()).toFixed(2);

/** What every head does with the first of those sequences; `report` gets that and the observer. */
async function look(report) {
  const observer = inspect.observe(model);
  try {
    noGrad(() => tidy(() => model.forward(fresh.narrow(1, 0, n))));
    const found = [];
    for (const capture of observer.captures) {
      const classes = await inspect.classifyHeads(capture, { tokenIds });
      found.push(...classes.map((one) => ({ ...one, module: capture.module })));
    }
    return await report(found, observer);
  } finally {
    observer.dispose();
  }
}
const mostInductive = (found) => found.reduce((a, b) => (b.scores.induction > a.scores.induction ? b : a));

const rows = [['step', 'loss of new tokens', 'of repeated ones', 'most inductive head', 'score', 'its class']];
async function after(step, loss) {
  loss.dispose();
  if (step % every !== 0) return;
  const { module, head, pattern, scores } = await look(mostInductive);
  const losses = [await nats(newHalf), await nats(repeated)];
  rows.push([step, ...losses, `${module}, ${head}`, scores.induction.toFixed(2), pattern]);
}
const loss = () => lossOf(model, draw(batch, nextPeriod()), [1, n + 1]);
const seconds = await fit(model, { steps, lr, loss, after });
console.log(
  `${n} tokens of ${symbols} symbols (by chance ${Math.log(symbols).toFixed(2)} nats), ${heads} heads a layer`,
);
print(rows);
console.log(`${steps} steps in ${seconds.toFixed(1)} s`);
await look(async (found, observer) => {
  for (const name of observer.modules)
    console.log(`${name}: ${found.flatMap(({ module, pattern }) => (module === name ? pattern : [])).join(', ')}`);
  const heads = found.filter(({ pattern }) => pattern === 'induction');
  const without = heads.map(({ module, head }) => ({ module, heads: [head] }));
  // What they are good for: the same loss with their outputs left out.
  if (heads.length > 0)
    console.log(
      `repeated tokens without induction heads: ${await inspect.ablate(model, without, () => nats(repeated))}`,
    );
  await save('induction.html', await inspect.htmlReport(observer, { title: 'Induction heads', tokenIds }));
});
