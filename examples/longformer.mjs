// A Longformer (Beltagy et al. 2020, https://arxiv.org/abs/2004.05150) at 16,384 tokens: a token sees a window around
// it and a global token, which sees all and is seen by all. Both are one mask, of which attention computes only the
// blocks that hold something. The task needs the global token: it is a key, and every token must be enciphered by it,
// (token + key) mod symbols, though the key lies outside of nearly all windows. As in the paper (section 4.2),
// training starts on short sequences with small windows and goes on with long ones. Beside it stands one step with
// full attention, whose memory is linear, too: the fused kernel keeps no scores.
import { functional as F, manualSeed, mask, memory, nn, noGrad, optim, randint } from 'fovea';
import { resetPeakMemory, synchronize, tidy } from 'fovea';
import { fit, percent, print, setup } from './shared.mjs';

const sizes = { n: 16384, window: 128, symbols: 8, d: 64, heads: 4, batch: 32, steps: 120, longSteps: 10 };
const tiny = { n: 1024, window: 32, symbols: 4, d: 32, heads: 2, batch: 8, steps: 120, longSteps: 3 };
const { n, window, symbols, d, heads, batch, steps, longSteps, save } = setup({ ...sizes, tiny });
manualSeed(1);

class Longformer extends nn.Module {
  // Symbol s is token s, and token symbols + s where it is the key.
  tokens = new nn.Embedding(2 * symbols, d);
  layers = Array.from({ length: 2 }, () => {
    const shape = { dModel: d, nHead: heads, dimFeedforward: 4 * d, batchFirst: true, normFirst: true };
    return new nn.TransformerEncoderLayer({ ...shape, dropout: 0, activation: 'gelu' });
  });
  norm = new nn.LayerNorm(d);
  output = new nn.Linear(d, symbols);
  /** @param ids [b, n] @param srcMask what tokens see; all, if there is none @returns logits [b, n, symbols] */
  forward(ids, srcMask) {
    const options = srcMask ? { srcMask } : {};
    const x = this.layers.reduce((y, layer) => layer.forward(y, options), this.tokens.forward(ids));
    return this.output.forward(this.norm.forward(x));
  }
}

const globalKey = mask.globalTokens([0]);
const short = { length: 128, seen: mask.slidingWindow(16).or(globalKey) };
const long = { length: n, seen: mask.slidingWindow(window).or(globalKey) };
const model = new Longformer();

/** A key and tokens [count, length], and those enciphered, [count, length - 1]. */
function draw(count, length) {
  const [key, tokens] = [randint(0, symbols, [count, 1]), randint(0, symbols, [count, length - 1])];
  return { ids: F.concat([key.add(symbols), tokens], 1), target: tokens.add(key).remainder(symbols) };
}
const answers = (ids, seen) => model.forward(ids, seen).narrow(1, 1, ids.shape[1] - 1);
const lossOf = ({ ids, target }, seen) => F.crossEntropy(answers(ids, seen).flatten(0, 1), target.flatten());

/** The share of tokens that are enciphered right, of several fresh long sequences. */
async function accuracy(seen) {
  const right = ({ ids, target }) => answers(ids, seen).argmax(-1).eq(target).to('float32').mean();
  const shares = [];
  for (let i = 0; i < 8; i++) shares.push(await noGrad(() => tidy(() => right(draw(1, n)))).item());
  return shares.reduce((a, b) => a + b) / shares.length;
}

/** Runs a part of a step and waits for it. @returns its result, and milliseconds */
async function timed(run) {
  const start = performance.now();
  const result = run();
  await synchronize();
  return [result, performance.now() - start];
}
/** One step on a long sequence: milliseconds of its parts, and the most bytes that tensors took. */
function measuredStep(optimizer, seen) {
  return tidy(async () => {
    resetPeakMemory();
    const [loss, forward] = await timed(() => lossOf(draw(1, n), seen));
    const [, backward] = await timed(() => loss.backward());
    const [, update] = await timed(() => optimizer.step());
    optimizer.zeroGrad();
    return { forward, backward, update, peak: memory().peak };
  });
}

const seconds = await fit(model, { steps, lr: 3e-3, loss: () => lossOf(draw(batch, short.length), short.seen) });
console.log(`${steps} steps of ${batch} x ${short.length} tokens, window 16: ${seconds.toFixed(1)} s`);
const right = [['right, long sequences', 'share']];
right.push(['after the short ones', percent(await accuracy(long.seen))]);

const optimizer = new optim.AdamW(model.parameters(), { lr: 3e-4 });
const rows = [['one step', 'forward ms', 'backward ms', 'optimizer ms', 'peak MB']];
const row = (name, { forward, backward, update, peak }) =>
  rows.push([name, ...[forward, backward, update, peak / 1e6].map((x) => x.toFixed(1))]);
const all = [];
for (let i = 0; i < longSteps; i++) all.push(await measuredStep(optimizer, long.seen));
const total = (step) => step.forward + step.backward + step.update;
row('window and global token', all.sort((a, b) => total(a) - total(b))[Math.floor(longSteps / 2)]);
right.push([`after ${longSteps} steps with long ones`, percent(await accuracy(long.seen))]);
right.push(['without the global token', percent(await accuracy(mask.slidingWindow(window)))]);
row('full attention', await measuredStep(optimizer, undefined));

console.log(`${n} tokens, window ${window} to each side, 2 layers of ${heads} heads, ${d} wide`);
print(rows);
console.log(`scores kept whole would take ${((4 * heads * n * n) / 1e6).toFixed(0)} MB a layer`);
print([...right, ['by chance', percent(1 / symbols)]]);
await save('longformer.svg', long.seen.toSvg({ queries: Math.min(n, 2048) }));
