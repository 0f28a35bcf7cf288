// Attention and decoders that remember keys and values, against the same that see everything at once.
import { manualSeed, mask, nn, noGrad, positionBias, randn, tensor, type Tensor } from 'fovea';
import { EncoderDecoderCache } from 'fovea/generate';
import { describe, expect, test } from 'vitest';
import { codeOf, list } from '../helpers.js';

const [batch, targets, sources, width] = [2, 11, 7, 12];
const parts = [4, 1, 1, 5];
const lasting = { bias: positionBias.alibi(3), window: mask.slidingWindow(3, 0, { align: 'bottomRight' }) };

const near = (got: Tensor, wanted: Tensor): void => {
  expect(got.shape).toEqual(wanted.shape);
  const expected = list(wanted);
  for (const [i, x] of list(got).entries()) expect(Math.abs(x - expected[i]!)).toBeLessThan(1e-12);
};

/** Runs parts of targets one after the other. @param dim their positions */
function inParts(x: Tensor, dim: number, run: (part: Tensor, seen: number) => Tensor): Tensor[] {
  let seen = 0;
  return parts.map((n) => {
    const y = run(x.narrow(dim, seen, n), seen);
    seen += n;
    return y;
  });
}

describe('MultiheadAttention', () => {
  const kinds: [string, nn.MultiheadAttentionOptions, nn.MultiheadAttentionForwardOptions][] = [
    ['causal', { batchFirst: true }, { isCausal: true }],
    ['with positions in front', {}, { isCausal: true }],
    ['of widths of their own', { batchFirst: true, kdim: 12, vdim: 12, bias: false }, { isCausal: true }],
    ['under a mask and biases', { batchFirst: true }, { attnMask: lasting.window, positionBias: lasting.bias }],
  ];
  test.each(kinds)('%s', (_, options, forward) => {
    manualSeed(1);
    const attention = new nn.MultiheadAttention(width, 3, { ...options, dtype: 'float64' }).eval();
    const dim = options.batchFirst ? 1 : 0;
    const x = randn(dim ? [batch, targets, width] : [targets, batch, width], { dtype: 'float64' });
    noGrad(() => {
      const [output, weights] = attention.forward(x, x, x, forward);
      using cache = new EncoderDecoderCache({ layers: 1 });
      inParts(x, dim, (part, seen) => {
        const asked = { ...forward, pastKeyValue: cache.layers[0]!.selfAttention };
        const [some, theirs] = attention.forward(part, part, part, asked);
        const n = part.shape[dim]!;
        near(some, output.narrow(dim, seen, n));
        near(theirs!, weights!.narrow(2, seen, n).narrow(3, 0, seen + n));
        cache.advance(n);
        return some;
      });
    });
  });

  test('reads a memory once', () => {
    manualSeed(2);
    const attention = new nn.MultiheadAttention(width, 3, { batchFirst: true, dtype: 'float64', kdim: 5, vdim: 4 });
    const query = randn([batch, targets, width], { dtype: 'float64' });
    const [key, value] = [5, 4].map((w) => randn([batch, sources, w], { dtype: 'float64' })) as [Tensor, Tensor];
    noGrad(() => {
      using cache = new EncoderDecoderCache({ layers: 1 });
      const pastKeyValue = cache.layers[0]!.crossAttention;
      const [whole] = attention.forward(query, key, value);
      inParts(query, 1, (part, seen) => {
        const [some] = attention.forward(part, seen ? key.mul(0) : key, seen ? value.mul(0) : value, { pastKeyValue });
        near(some, whole.narrow(1, seen, part.shape[1]!));
        return some;
      });
    });
  });
});

describe('TransformerDecoder', () => {
  const stack = (options: Partial<nn.LayerStackOptions> = {}, normFirst = false): nn.TransformerDecoder => {
    manualSeed(3);
    const sizes = { dModel: width, nHead: 3, dimFeedforward: 10, normFirst, batchFirst: true };
    const layer = new nn.TransformerDecoderLayer({ ...sizes, dtype: 'float64' });
    return new nn.TransformerDecoder(layer, { numLayers: 3, ...options });
  };
  const tgt = randn([batch, targets, width], { dtype: 'float64' });
  const memory = randn([batch, sources, width], { dtype: 'float64' });
  const real = tensor([0, 1].map((b) => Array.from({ length: targets }, (_, i) => b === 0 || i !== 2)));

  test.each([false, true])('in parts as at once, pre-norm %s', (normFirst) => {
    const decoder = stack({}, normFirst).eval();
    const shared = { tgtIsCausal: true, positionBias: lasting.bias };
    noGrad(() => {
      const whole = decoder.forward(tgt, memory, { ...shared, tgtKeyPaddingMask: real });
      using cache = new EncoderDecoderCache({ layers: 3 });
      inParts(tgt, 1, (part, seen) => {
        const n = part.shape[1]!;
        const tgtKeyPaddingMask = real.narrow(1, 0, seen + n);
        const some = decoder.forward(part, memory, { ...shared, tgtKeyPaddingMask, pastKeyValues: cache.layers });
        near(some, whole.narrow(1, seen, n));
        cache.advance(n);
        return some;
      });
    });
  });

  test('refuses caches that would mislead it', () => {
    using cache = new EncoderDecoderCache({ layers: 3 });
    const pastKeyValues = cache.layers;
    const run = (options: nn.TransformerDecoderForwardOptions, decoder = stack()): string =>
      codeOf(() => noGrad(() => decoder.forward(tgt, memory, options)));
    expect(run({ pastKeyValues: pastKeyValues.slice(1) })).toBe('FOVEA_ARGUMENT');
    expect(run({ pastKeyValues, memoryIsCausal: true })).toBe('FOVEA_ARGUMENT');
    expect(run({ pastKeyValues }, stack({ layerDrop: 0.5 }))).toBe('FOVEA_ARGUMENT');
    expect(cache.length).toBe(0);
    expect(run({ pastKeyValues }, stack({ layerDrop: 0.5 }).eval())).toBe('none');
  });
});
