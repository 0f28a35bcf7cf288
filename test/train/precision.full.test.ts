// What 16 bits cost the demo of `npm start` (4 layers, 128 wide, bytes of text), which is shortened here: nothing to
// speak of.
import { fileURLToPath } from 'node:url';
import { ByteTokenizer, manualSeed } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';
import { bitsPerToken, type Corpus, readCorpus, trainCausalLM, type TrainOptions } from 'fovea/train';
import { beforeAll, expect, test } from 'vitest';
import { defaultTrainOptions } from '../../dist/cli/train-options.js';

const steps = 300;
const { layers, width, heads, context, batch, lr, seed } = defaultTrainOptions;
let corpus: Corpus;
const reached: Record<string, { learnt: number; measured: number }> = {};

/** Mean loss of the last steps, and that of text which was held out, in nats. */
async function run(precision: NonNullable<TrainOptions['precision']>): Promise<{ learnt: number; measured: number }> {
  manualSeed(seed);
  const { vocabSize, eosTokenId } = new ByteTokenizer();
  const pdrop = { embdPdrop: 0, residPdrop: 0, attnPdrop: 0 };
  const sizes = { vocabSize, nPositions: context, nEmbd: width, nLayer: layers, nHead: heads, ...pdrop };
  using model = new GPT2LMHeadModel({ ...sizes, bosTokenId: eosTokenId, eosTokenIds: [eosTokenId] });
  const losses: number[] = [];
  const onProgress = ({ loss }: { loss: number }): void => void losses.push(loss);
  await trainCausalLM(model, corpus.train, { steps, batchSize: batch, lr, seed, precision, onProgress });
  const last = losses.slice(-100);
  const measured = (await bitsPerToken(model, corpus.validation, { windows: 256 })) * Math.LN2;
  return { learnt: last.reduce((sum, loss) => sum + loss) / last.length, measured };
}

beforeAll(async () => {
  corpus = await readCorpus([fileURLToPath(new URL('../../src', import.meta.url))]);
  reached['float32'] = await run('float32');
}, 600_000);

test.each(['bfloat16', 'float16'] as const)('%s reaches the loss of float32 within 1 %', async (precision) => {
  const [rounded, exact] = [await run(precision), reached['float32']!];
  const apart = (name: 'learnt' | 'measured'): number => rounded[name] / exact[name] - 1;
  console.log(
    `${precision} after ${steps} steps: ${rounded.measured.toFixed(4)} nats of held-out bytes, float32 ${exact.measured.toFixed(4)}`,
    `(${(100 * apart('measured')).toFixed(2)} %; in training ${(100 * apart('learnt')).toFixed(2)} %)`,
  );
  // From ln 257 = 5.5 on.
  expect(exact.measured).toBeLessThan(3);
  expect(rounded.learnt).not.toBe(exact.learnt);
  expect(Math.abs(apart('learnt'))).toBeLessThan(0.01);
  expect(Math.abs(apart('measured'))).toBeLessThan(0.01);
});
