// llama.cpp through node-llama-cpp: GPT-2 out of a GGUF file with random weights, which is written to a folder that git
// ignores and kept for the next run.
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { batches } from '../timing.mjs';
import { writeGpt2 } from './gguf.mjs';
import { randomIndices } from './random.mjs';
import { serve, Unsupported } from './serve.mjs';
import { versionOf } from './versions.mjs';

const folder = join(dirname(fileURLToPath(import.meta.url)), '.cache');
let library;
let llama;

function fileOf(model, dtype) {
  const path = join(folder, `gpt2-${Object.values(model).join('-')}-${dtype}.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  // A run that is stopped leaves no half a file under the name.
  writeGpt2(`${path}.part`, model, dtype);
  renameSync(`${path}.part`, path);
  return path;
}

async function load({ model, dtype }, threads, tokens) {
  // It would take four threads on two cores.
  llama ??= await library.getLlama({
    gpu: false,
    build: 'never',
    maxThreads: threads,
    logLevel: library.LlamaLogLevel.error,
  });
  const loaded = await llama.loadModel({ modelPath: fileOf(model, dtype) });
  const contextSize = Math.ceil((tokens + 8) / 32) * 32;
  const context = await loaded.createContext({ contextSize, batchSize: contextSize, threads });
  const release = async () => {
    await context.dispose();
    await loaded.dispose();
  };
  return { sequence: context.getSequence(), release };
}

async function preparePrefill(test, threads) {
  const { sequence, release } = await load(test, threads, test.length);
  const ids = randomIndices(test.length, test.model.vocabulary - 1);
  const call = async () => {
    await sequence.clearHistory();
    await sequence.evaluateWithoutGeneratingNewTokens(ids);
  };
  return { batch: batches(call), release };
}

/** Greedy tokens as they come out of its stream; the first one ends the prompt, which is not timed. */
async function prepareDecode(test, threads) {
  const { sequence, release } = await load(test, threads, test.start + test.steps);
  const ids = randomIndices(test.start, test.model.vocabulary - 1);
  const batch = async (count) => {
    await sequence.clearHistory();
    let made = 0;
    let start = 0;
    for await (const _ of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
      start ||= performance.now();
      if (made++ === count) break;
    }
    return performance.now() - start;
  };
  return { batch, count: test.steps, release };
}

const kinds = { prefill: preparePrefill, decode: prepareDecode };

function prepare(test, threads) {
  if (!(test.kind in kinds)) throw new Unsupported('it runs language models only');
  return kinds[test.kind](test, threads);
}

await serve(async () => {
  library = await import('node-llama-cpp');
  return { name: 'llama.cpp (node-llama-cpp)', version: versionOf('node-llama-cpp'), prepare };
});
