// Self-attention from scratch (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762):
//
//   softmax(Q Kᵀ / sqrt(d)) V,  Q = X Wq, K = X Wk, V = X Wv
//
// It equals the fused kernel, in its output and in its gradient. It does not know order: permuted tokens give permuted
// outputs, so that "dog bites man" and "man bites dog" are the same to it until tokens carry their positions.
import { functional as F, inspect, manualSeed, noGrad, randn, randperm, tensor } from 'fovea';
import { distance, print, setup } from './shared.mjs';

const { n, d, save } = setup({ n: 1024, d: 64, tiny: { n: 32, d: 16 } });
manualSeed(1);

const [wq, wk, wv] = Array.from({ length: 3 }, () => randn([d, d]).div(Math.sqrt(d)));
const project = (x) => [x.matmul(wq), x.matmul(wk), x.matmul(wv)];

const weightsOf = (q, k) => q.matmul(k.t()).div(Math.sqrt(d)).softmax(-1);
const fromScratch = ([q, k, v]) => weightsOf(q, k).matmul(v);
const fused = ([q, k, v]) => F.attention(q, k, v);

// The same numbers, forward and backward.
const x = randn([n, d]);
const upstream = randn([n, d]);
const [written, kernel] = [fromScratch, fused].map((attend) => {
  const input = x.clone().requiresGrad_(true);
  const output = attend(project(input));
  output.mul(upstream).sum().backward();
  return { output: output.detach(), gradient: input.grad };
});

// The same tokens in another order.
const order = randperm(n);
const permuted = noGrad(() => fused(project(x.indexSelect(0, order))));
const expected = kernel.output.indexSelect(0, order);

// Two sentences of the same words.
const vocabulary = ['dog', 'bites', 'man'];
const meaning = randn([vocabulary.length, d]);
const sentence = (text) =>
  meaning.indexSelect(
    0,
    tensor(
      text.split(' ').map((word) => vocabulary.indexOf(word)),
      { dtype: 'int64' },
    ),
  );

/** Angles of positions, [length, d / 2]: one frequency for each pair of components. */
function angles(length) {
  const frequencies = Array.from({ length: d / 2 }, (_, i) => 10000 ** ((-2 * i) / d));
  return tensor(Array.from({ length }, (_, position) => frequencies.map((frequency) => position * frequency)));
}
/** Sines and cosines, which are added to the tokens (Vaswani et al., section 3.5). */
const sinusoidal = (tokens) => {
  const turned = angles(tokens.shape[0]);
  return tokens.add(F.stack([turned.sin(), turned.cos()], -1).flatten(-2));
};
/** Queries and keys turned by their positions (Su et al. 2021, https://arxiv.org/abs/2104.09864). */
const rotary = ([q, k, v]) => {
  const turned = angles(q.shape[0]);
  const rotate = (y) => F.rope(y.unsqueeze(0), turned.cos(), turned.sin()).squeeze(0);
  return [rotate(q), rotate(k), v];
};
const ways = {
  'no positions': (tokens) => project(tokens),
  sinusoidal: (tokens) => project(sinusoidal(tokens)),
  rotary: (tokens) => rotary(project(tokens)),
};

/** How far the outputs of one sentence lie from the nearest of the other's, at most: 0 for the same set. */
const setDistance = (a, b) => a.unsqueeze(1).sub(b.unsqueeze(0)).abs().amax(-1).amin(1).max().item();

const rows = [
  ['what', 'largest difference'],
  ['from scratch and fused, output', await distance(written.output, kernel.output)],
  ['from scratch and fused, gradient', await distance(written.gradient, kernel.gradient)],
  ['outputs of permuted tokens and permuted outputs', await distance(permuted, expected)],
];
const maps = [];
for (const [name, way] of Object.entries(ways)) {
  const [dog, man] = ['dog bites man', 'man bites dog'].map((text) => way(sentence(text)));
  maps.push(weightsOf(dog[0], dog[1]));
  rows.push([`dog bites man and man bites dog, ${name}`, await setDistance(fused(dog), fused(man))]);
}
console.log(`self-attention of ${n} tokens, ${d} wide, float32`);
print(rows.map(([what, value]) => [what, typeof value === 'number' ? value.toExponential(1) : value]));

const words = 'dog bites man'.split(' ');
const title = `Dog bites man: ${Object.keys(ways).join(', ')}`;
await save('self-attention.svg', await inspect.heatmapSvg(F.stack(maps), { title, queries: words, keys: words }));
