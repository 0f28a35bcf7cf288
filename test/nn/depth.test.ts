// 24 layers without warm-up (Xiong et al. 2020, https://arxiv.org/abs/2002.04745): pre-norm trains at a rate at which
// post-norm learns nothing; DeepNorm's scales mend post-norm (Wang et al. 2022, https://arxiv.org/abs/2203.00555).
import { functional as F, manualSeed, nn, optim, randint, tidy } from 'fovea';
import { describe, expect, test } from 'vitest';

const [layers, width, tokens, length, batch, steps, lr] = [24, 16, 8, 6, 8, 30, 0.01];
/** The loss of guessing. */
const guess = Math.log(tokens);

/** The mean loss of the last five of some steps in which a model learns to say which token it sees. */
async function lossAfter(seed: number, options: { normFirst: boolean; deepNorm?: boolean }): Promise<number> {
  manualSeed(seed);
  const { normFirst, deepNorm = false } = options;
  const layer = { dModel: width, nHead: 2, dimFeedforward: 2 * width, dropout: 0, normFirst, batchFirst: true };
  const embedding = new nn.Embedding(tokens, width);
  const positions = new nn.SinusoidalPositionalEncoding(width, { batchFirst: true });
  const encoder = new nn.TransformerEncoder(() => new nn.TransformerEncoderLayer(layer), {
    numLayers: layers,
    norm: new nn.LayerNorm(width),
  });
  if (deepNorm) nn.init.deepNorm_(encoder);
  const head = new nn.Linear(width, tokens);
  const optimizer = new optim.AdamW(
    [embedding, encoder, head].flatMap((part) => part.parameters()),
    { lr },
  );
  let total = 0;
  for (let step = 0; step < steps; step++) {
    const loss = tidy(() => {
      const ids = randint(0, tokens, [batch, length]);
      const logits = head.forward(encoder.forward(positions.forward(embedding.forward(ids))));
      const error = F.crossEntropy(logits.reshape([-1, tokens]), ids.reshape([-1]));
      optimizer.zeroGrad();
      error.backward();
      optimizer.step();
      return error.detach();
    });
    if (step >= steps - 5) total += (await loss.item()) / 5;
    loss.dispose();
  }
  return total;
}

describe.each([1, 2])('24 layers, seed %i', (seed) => {
  test('pre-norm trains', async () => {
    expect(await lossAfter(seed, { normFirst: true })).toBeLessThan(0.25 * guess);
  });
  test('post-norm does no better than guessing', async () => {
    expect(await lossAfter(seed, { normFirst: false })).toBeGreaterThan(0.9 * guess);
  });
  test('post-norm with the scales of DeepNorm trains', async () => {
    expect(await lossAfter(seed, { normFirst: false, deepNorm: true })).toBeLessThan(0.25 * guess);
  });
});
