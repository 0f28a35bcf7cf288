/** `fovea finetune`: trains a LoRA adapter of a checkpoint on text. */
import { saveAdapter } from '../models/adapter-files.js';
import { load } from '../models/auto.js';
import { addAdapter, trainableParameters } from '../nn/lora.js';
import { manualSeed } from '../ops/index.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { readCorpus } from '../train/corpus.js';
import type { FinetuneOptions } from './finetune-options.js';
import { say, sayText, trainShown } from './train-shown.js';

/** Trains, saves the adapter and reports on the standard error stream. */
export async function finetuneCommand(folder: string, options: FinetuneOptions): Promise<void> {
  const { data, out, rank, alpha, dropout, targetModules, steps, batch, context, lr, seed, device, precision } =
    options;
  const cancel = options.signal ? { signal: options.signal } : {};
  // Text is read as bytes, which have to be the tokens of the model.
  await ByteTokenizer.fromPretrained(folder);
  using model = await load(folder, { device, ...cancel });
  const corpus = await readCorpus(data);
  sayText(corpus);
  manualSeed(seed);
  addAdapter(model, {
    r: rank,
    loraAlpha: alpha,
    loraDropout: dropout,
    targetModules: targetModules === 'all-linear' ? targetModules : targetModules.split(',').map((name) => name.trim()),
  });
  say(String(trainableParameters(model)));
  await trainShown(model, corpus, {
    steps,
    batchSize: batch,
    lr,
    precision,
    seed,
    // Terms start at zero, and are what training has found: there is nothing to pull back.
    weightDecay: 0,
    ...(context === undefined ? {} : { contextLength: context }),
    ...cancel,
  });
  await saveAdapter(model, out, { baseModelNameOrPath: folder, ...cancel });
  say(`saved: ${out} (adapter_config.json, adapter_model.safetensors)`);
}
