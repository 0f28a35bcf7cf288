/**
 * `npm start [-- <file|folder> …]`: trains a small GPT-2 on text, saves it as a Hugging Face checkpoint, loads it from
 * disk and lets it write. Without arguments the text is TypeScript's own declaration files, which every install has on
 * disk.
 */
import { readdir } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { load } from '../models/auto.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import { runCommand } from './run-command.js';
import { streamText } from './stream-text.js';
import { defaultTrainOptions } from './train-options.js';
import { trainText } from './train-text.js';

const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** TypeScript's `lib.*.d.ts`, sorted by name: in TypeScript 7 they lie in its platform package. */
async function declarationFiles(): Promise<string[]> {
  const modules = join(packageRoot, 'node_modules');
  const scope = await readdir(join(modules, '@typescript')).catch(() => []);
  const platforms = scope.filter((name) => name.startsWith('typescript-')).map((name) => join('@typescript', name));
  const found: string[] = [];
  for (const owner of ['typescript', ...platforms]) {
    const folder = join(modules, owner, 'lib');
    const names = await readdir(folder).catch(() => []);
    found.push(...names.filter((name) => /^lib\..*\.d\.ts$/.test(name)).map((name) => join(folder, name)));
  }
  return found.sort();
}

async function main(signal: AbortSignal): Promise<void> {
  const given = process.argv.slice(2);
  const paths = given.length > 0 ? given : await declarationFiles();
  const out = join(packageRoot, 'checkpoint');
  await trainText({ ...defaultTrainOptions, paths, out, signal });

  process.stderr.write(`\nloaded again from ${relative(process.cwd(), out) || out}, it writes:\n\n`);
  using model = await load(out);
  const tokenizer = await ByteTokenizer.fromPretrained(out);
  const prompt = given.length > 0 ? '' : 'interface Window {\n';
  process.stdout.write(prompt);
  const options = {
    prompt,
    maxNewTokens: 600,
    doSample: true,
    temperature: 0.6,
    topK: 40,
    eosTokenId: null,
    seed: 0,
    signal,
  };
  for await (const text of streamText(model, tokenizer, options)) process.stdout.write(text);
  process.stdout.write('\n');
}

await runCommand(main);
