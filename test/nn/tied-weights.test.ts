// One parameter in two modules: an embedding and the head that reads it backwards.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { functional as F, full, grad, manualSeed, nn, optim, tensor, type Tensor } from 'fovea';
import { loadFile, saveFile } from 'fovea/io';
import { describe, expect, test } from 'vitest';
import { compare } from '../golden.js';

const [vocabulary, width] = [7, 4];
class LanguageModel extends nn.Module {
  embedding: nn.Embedding = new nn.Embedding(vocabulary, width);
  body: nn.TransformerEncoderLayer = new nn.TransformerEncoderLayer({
    dModel: width,
    nHead: 2,
    dimFeedforward: 8,
    dropout: 0,
    batchFirst: true,
  });
  head: nn.Linear = new nn.Linear(width, vocabulary, { bias: false });

  constructor(tied: boolean) {
    super();
    if (!tied) return;
    this.head.weight.dispose();
    this.head.weight = this.embedding.weight;
  }
  override forward(ids: Tensor): Tensor {
    return this.head.forward(this.body.forward(this.embedding.forward(ids), { isCausal: true }));
  }
}
const ids = tensor([[1, 4, 2, 6]], { dtype: 'int64' });
const labels = tensor([4, 2, 6, 0], { dtype: 'int64' });
const lossOf = (model: LanguageModel): Tensor => F.crossEntropy(model.forward(ids).reshape([-1, vocabulary]), labels);
/** A tied and an untied model of the same weights. */
function pair(): [LanguageModel, LanguageModel] {
  manualSeed(6);
  const [tied, apart] = [new LanguageModel(true), new LanguageModel(false)];
  apart.loadStateDict(tied.stateDict());
  return [tied, apart];
}

describe('tied weights', () => {
  test('count once as a parameter, and are in the state dict under both keys', () => {
    const [tied, apart] = pair();
    expect(tied.parameters()).toHaveLength(apart.parameters().length - 1);
    expect(tied.numParameters()).toBe(apart.numParameters() - vocabulary * width);
    const keys = Object.keys(apart.stateDict());
    expect(Object.keys(tied.stateDict())).toEqual(keys);
    expect(tied.stateDict()['head.weight']).toBe(tied.stateDict()['embedding.weight']);
    expect(tied.namedParameters().map(([key]) => key)).toEqual(keys.filter((key) => key !== 'head.weight'));
  });

  test('get the sum of both gradients, and one step of the optimizer', async () => {
    const [tied, apart] = pair();
    const [both] = grad(lossOf(tied), [tied.embedding.weight]);
    const [first, second] = grad(lossOf(apart), [apart.embedding.weight, apart.head.weight]);
    expect(compare(await both!.data(), await first!.add(second!).data()).difference).toBeLessThan(1e-6);
    const before = await tied.head.weight.data();
    const optimizer = new optim.SGD(tied.parameters(), { lr: 0.5 });
    lossOf(tied).backward();
    optimizer.step();
    const expected = before.map((value, i) => value - 0.5 * (both!.dataSync()[i] as number));
    expect(compare(await tied.embedding.weight.data(), expected).difference).toBeLessThan(1e-6);
    expect(tied.head.weight).toBe(tied.embedding.weight);
    const adam = new optim.AdamW(tied.parameters(), { lr: 0.1 });
    adam.zeroGrad();
    lossOf(tied).backward();
    adam.step();
    expect(adam.state.size).toBe(tied.parameters().length);
    expect(await nn.utils.clipGradNorm_(tied.parameters(), 1).item()).toBeGreaterThan(0);
  });

  test('stay one through files, loading, conversion and copies of layers', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fovea-tied-'));
    try {
      const [tied, apart] = pair();
      const file = join(folder, 'model.safetensors');
      await saveFile(tied.stateDict(), file);
      const again = new LanguageModel(true);
      expect(again.loadStateDict(loadFile(file))).toEqual({ missingKeys: [], unexpectedKeys: [] });
      expect(await again.head.weight.data()).toEqual(await tied.embedding.weight.data());
      apart.loadStateDict(loadFile(file));
      expect(await apart.head.weight.data()).toEqual(await tied.embedding.weight.data());
      const { 'head.weight': _left, ...once } = tied.stateDict();
      expect(again.loadStateDict(once).missingKeys).toEqual([]);
      expect(() => apart.loadStateDict(once)).toThrow(/missing: head\.weight/);
      again.loadStateDict({ 'head.weight': full([vocabulary, width], 2) }, { strict: false });
      expect(await again.embedding.weight.data()).toEqual(new Float32Array(vocabulary * width).fill(2));
      again.to('float64');
      expect(again.head.weight).toBe(again.embedding.weight);
      expect(again.embedding.weight.dtype).toBe('float64');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('a stack may hold one layer many times', () => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 4, nHead: 2, dimFeedforward: 8, dropout: 0 });
    const stack = new nn.TransformerEncoder(() => layer, { numLayers: 3 });
    expect(stack.parameters()).toEqual(layer.parameters());
    expect(Object.keys(stack.stateDict())).toHaveLength(3 * layer.parameters().length);
  });
});
