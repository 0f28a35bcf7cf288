#!/usr/bin/env node
/**
 * The command `fovea`. Commands load what they need themselves, so that `fovea build` works where there is no binary.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { defaultFinetuneOptions, type FinetuneOptions } from './finetune-options.js';
import type { GenerateCommandOptions } from './generate-command.js';
import { runCommand } from './run-command.js';
import { precisionNames } from '../train/precision.js';
import { defaultTrainOptions, type TrainTextOptions } from './train-options.js';

const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '../..');
const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };

function count(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('expected a whole number.');
  return value;
}

function real(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number.');
  return value;
}

function tokenIds(text: string): number[] {
  return text.split(',').map((part) => count(part.trim()));
}

/** Commander keeps an option's state in it, so that every command gets one of its own. */
const precision = (otherwise: string): Option =>
  new Option('--precision <name>', 'of products and attention; weights stay float32')
    .choices(precisionNames)
    .default(otherwise);

/** The options that were set on the command line, such as `--steps`. */
function givenOptions(command: Command): string[] {
  const given = command.options.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli');
  return given.flatMap(({ long }) => long ?? []);
}

const defaults = defaultTrainOptions;
const program = new Command('fovea').description('The attention engine for Node.js').version(version);

program
  .command('info')
  .description('print the version, the instruction set, the threads and the devices')
  .option('--json', 'as JSON')
  .action((options: { json?: boolean }) => runCommand(async () => (await import('./info.js')).printInfo(options)));

program
  .command('build')
  .description('compile the native addon from the packed sources')
  .option('--tool <name>', 'cmake-js or node-gyp (default: what is there)')
  .action(({ tool }: { tool?: string }) => {
    const script = join(packageRoot, 'scripts/build.mjs');
    const { status } = spawnSync(process.execPath, [script, ...(tool ? ['--tool', tool] : [])], { stdio: 'inherit' });
    process.exitCode = status ?? 1;
  });

program
  .command('train')
  .description('train a small byte-level GPT-2 on text and save it as a Hugging Face checkpoint, or run a config')
  .argument('<paths...>', 'text files, or folders of them; or one config, a .json file with everything')
  .option('--out <folder>', 'the checkpoint directory', 'checkpoint')
  .option('--steps <n>', 'training steps', count, defaults.steps)
  .option('--layers <n>', 'blocks', count, defaults.layers)
  .option('--width <n>', 'width of the model', count, defaults.width)
  .option('--heads <n>', 'attention heads; divides the width', count, defaults.heads)
  .option('--context <n>', 'bytes that the model sees at once', count, defaults.context)
  .option('--batch <n>', 'windows per step', count, defaults.batch)
  .option('--lr <x>', 'the highest learning rate', real, defaults.lr)
  .option('--seed <n>', 'seed of the weights and of the windows', count, defaults.seed)
  .option('--device <name>', 'where to train: cpu, cuda or cuda:<n>', defaults.device)
  .addOption(precision(defaults.precision))
  .action((paths: string[], options: Omit<TrainTextOptions, 'paths' | 'signal'>, command: Command) => {
    return runCommand(async (signal) => {
      const { trainCommand } = await import('./train-command.js');
      await trainCommand({ ...options, paths, signal }, givenOptions(command));
    });
  });

const lora = defaultFinetuneOptions;
program
  .command('finetune')
  .description('train a LoRA adapter of a checkpoint, and save it as PEFT does; started again, it goes on')
  .argument('<folder>', 'a Hugging Face checkpoint directory')
  .requiredOption('--data <paths...>', 'text for a byte-level checkpoint, or .bin files of token ids (uint16)')
  .option('--out <folder>', 'the folder of the adapter, of checkpoints, log and loss curve', lora.out)
  .option('--rank <n>', 'of the terms that are trained', count, lora.rank)
  .option('--alpha <x>', 'the terms are multiplied by alpha / rank', real, lora.alpha)
  .option('--dropout <p>', 'of what the terms take', real, lora.dropout)
  .option('--target-modules <names>', 'modules with terms, separated by commas, or all-linear', lora.targetModules)
  .option('--steps <n>', 'training steps', count, lora.steps)
  .option('--batch <n>', 'windows per step', count, lora.batch)
  .option('--context <n>', 'tokens that the model sees at once (default: as many as it takes)', count)
  .option('--lr <x>', 'the highest learning rate', real, lora.lr)
  .option('--evaluate-every <n>', 'steps from one evaluation to the next (default: one at the end)', count)
  .option('--save-every <n>', 'steps from one checkpoint to the next (default: one at the end)', count)
  .option('--seed <n>', 'seed of the terms and of the windows', count, lora.seed)
  .option('--device <name>', 'where to train: cpu, cuda or cuda:<n>', lora.device)
  .addOption(precision(lora.precision))
  .action((folder: string, options: Omit<FinetuneOptions, 'signal'>) =>
    runCommand(async (signal) =>
      (await import('./finetune-command.js')).finetuneCommand(folder, { ...options, signal }),
    ),
  );

program
  .command('generate')
  .description('continue a prompt with a checkpoint, or say what an encoder-decoder makes of it')
  .argument('<folder>', 'a Hugging Face checkpoint directory')
  .option('--prompt <text>', 'the text; to continue it needs a byte-level tokenizer.json')
  .option('--ids <numbers>', 'token numbers instead, separated by commas', tokenIds)
  .option('--max-new-tokens <n>', 'how many tokens to make', count, 200)
  .option('--temperature <x>', '0 takes the likeliest token always', real, 0.8)
  .option('--top-k <n>', 'draw among this many likeliest tokens; 0: all', count, 0)
  .option('--top-p <x>', 'draw among the likeliest tokens that reach this probability', real, 1)
  .option('--seed <n>', 'makes the draws repeatable', count)
  .option('--beams <n>', 'of an encoder-decoder, which draws nothing: continuations carried on', count, 1)
  .option('--adapter <folder>', 'a LoRA adapter of the checkpoint')
  .option('--device <name>', 'where to run: cpu, cuda or cuda:<n>', 'cpu')
  .action((folder: string, options: Omit<GenerateCommandOptions, 'signal'>, command: Command) => {
    return runCommand(async (signal) => {
      const { generateCommand } = await import('./generate-command.js');
      await generateCommand(folder, { ...options, signal }, givenOptions(command));
    });
  });

await program.parseAsync();
