// Training in fovea beside PyTorch: the same initial weights, the same batches, the same rates. Prints the losses'
// greatest relative difference, and overlays their curves in one SVG for each run.
//
//   npm run bench:losses -- [--steps 50] [--run gpt2] [--out bench/results] [--threads 2] [--limit 1e-4]
//
// Ends with 1 if losses differ by more than the limit. bench/peers/README.md says how to install PyTorch.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { concat, full, Generator, manualSeed, nn, optim, randint, tensor, tidy, train } from 'fovea';
import { saveFile } from 'fovea/io';
import { GPT2LMHeadModel, Seq2SeqTransformer } from 'fovea/models';
import { peers } from './peers/registry.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values: options } = parseArgs({
  options: {
    steps: { type: 'string', default: '50' },
    run: { type: 'string' },
    out: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    limit: { type: 'string', default: '1e-4' },
  },
});
const [steps, limit] = [Number(options.steps), Number(options.limit)];
const maxNorm = 1;

/** Random windows of this repository's own README as bytes: int64 [steps, batch, length]. */
function windows(batch, length) {
  const text = readFileSync(join(root, 'README.md'));
  const starts = randint(0, text.length - length, [steps * batch], { generator: new Generator(1) });
  const rows = Array.from(starts.dataSync({ as: 'int32' }), (start) => [...text.subarray(start, start + length)]);
  return tensor(rows, { dtype: 'int64' }).reshape([steps, batch, length]);
}

/** Sequences to be written backwards: sources, what the decoder reads (1 first), what it says (2 last). */
function reversals(batch, length, vocab) {
  const source = randint(3, vocab, [steps, batch, length], { generator: new Generator(2) });
  const target = source.flip(2);
  const mark = (id) => full([steps, batch, 1], id, { dtype: 'int64' });
  return [source, concat([mark(1), target], 2), concat([target, mark(2)], 2)];
}

/** What is run: models without dropout, since two libraries draw different numbers. */
const runs = {
  gpt2: {
    title: 'GPT-2, 4 layers of 256, on text: AdamW, warm-up and cosine',
    make() {
      const sizes = { vocab: 256, context: 128, width: 256, layers: 4, heads: 8 };
      const dropout = { embdPdrop: 0, residPdrop: 0, attnPdrop: 0 };
      const { vocab: vocabSize, context: nPositions, width: nEmbd, layers: nLayer, heads: nHead } = sizes;
      const model = new GPT2LMHeadModel({ vocabSize, nPositions, nEmbd, nLayer, nHead, ...dropout });
      const settings = { lr: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1 };
      const optimizer = new optim.AdamW(model.parameters(), settings);
      return {
        model,
        optimizer,
        schedule: optim.lrScheduler.warmupCosine(optimizer, { warmupSteps: Math.ceil(steps / 10), totalSteps: steps }),
        inputs: [windows(8, 128)],
        loss: (ids) => model.forward({ inputIds: ids, labels: ids, outputLogits: false }).loss,
        asked: { model: 'gpt2', sizes, optimizer: 'AdamW', options: torchOptions(settings) },
      };
    },
  },
  seq2seq: {
    title: 'Transformer of the paper, 2 + 2 layers of 128, writing backwards: Adam, Noam',
    make() {
      const sizes = { vocab: 64, width: 128, layers: 2, heads: 4, hidden: 256, smoothing: 0.1 };
      const model = new Seq2SeqTransformer({
        vocabSize: sizes.vocab,
        dModel: sizes.width,
        nHead: sizes.heads,
        numEncoderLayers: sizes.layers,
        numDecoderLayers: sizes.layers,
        dimFeedforward: sizes.hidden,
        labelSmoothing: sizes.smoothing,
        dropout: 0,
      });
      const settings = { betas: [0.9, 0.98], eps: 1e-9 };
      const optimizer = new optim.Adam(model.parameters(), { lr: 1, ...settings });
      const [source, given, labels] = reversals(16, 12, sizes.vocab);
      return {
        model,
        optimizer,
        schedule: optim.lrScheduler.noam(optimizer, { dModel: sizes.width, warmupSteps: 400 }),
        inputs: [source, given, labels],
        loss: (inputIds, decoderInputIds, target) => model.forward({ inputIds, decoderInputIds, labels: target }).loss,
        asked: { model: 'seq2seq', sizes, optimizer: 'Adam', options: torchOptions(settings) },
      };
    },
  },
};

/** PyTorch's names of what an optimizer is given; rates come step by step. */
const torchOptions = ({ lr: _lr, weightDecay, ...rest }) =>
  weightDecay === undefined ? rest : { ...rest, weight_decay: weightDecay };

/** Trains in fovea. @returns losses and rates of the steps */
async function trainOurs({ model, optimizer, schedule, inputs, loss }) {
  const [losses, rates] = [[], []];
  for (let step = 0; step < steps; step++) {
    rates.push(schedule.getLastLr()[0]);
    const value = tidy(() => {
      const error = loss(...inputs.map((input) => input.select(0, step)));
      optimizer.zeroGrad();
      error.backward();
      nn.utils.clipGradNorm_(model.parameters(), maxNorm);
      optimizer.step();
      return error.detach();
    });
    losses.push(await value.item());
    value.dispose();
    schedule.step();
  }
  return { losses, rates };
}

/** Trains in PyTorch from what a file holds. */
function trainTheirs(file, asked) {
  const { command, environment, install } = peers().torch;
  const script = join(root, 'bench/peers/torch_train.py');
  const { status, stdout, stderr, error } = spawnSync(command[0], [script, file], {
    input: JSON.stringify(asked),
    env: { ...process.env, ...environment(asked.threads) },
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (status === 0) return JSON.parse(stdout.trim().split('\n').at(-1));
  const why = error?.message ?? stderr.trim().split('\n').at(-1);
  throw new Error(`PyTorch did not train: ${why}\n  to install it: ${install}`);
}

/** Runs one side, then the other. @returns the greatest relative difference of their losses */
async function compare(name, folder) {
  manualSeed(0);
  const made = runs[name].make();
  const { model, inputs, asked } = made;
  const file = join(folder, `${name}.safetensors`);
  // Tied weights and masks are not parameters of their own in PyTorch's model.
  const weights = Object.fromEntries(model.namedParameters());
  await saveFile({ ...weights, ...Object.fromEntries(inputs.map((input, i) => [`batch.${i}`, input])) }, file);
  const ours = await trainOurs(made);
  const threads = Number(options.threads);
  const theirs = trainTheirs(file, { ...asked, inputs: inputs.length, rates: ours.rates, maxNorm, threads });
  const differences = ours.losses.map((loss, i) => Math.abs(loss / theirs.losses[i] - 1));
  const worst = Math.max(...differences);
  const points = (losses) => losses.map((loss, i) => [i + 1, loss]);
  const [first, last] = [ours.losses[0], ours.losses.at(-1)].map((loss) => loss.toFixed(4));
  const torch = `PyTorch ${theirs.version}`;
  console.log(
    `${name}: ${steps} steps, loss ${first} to ${last}, ${torch} to ${theirs.losses.at(-1).toFixed(4)}; ` +
      `relative difference at most ${worst.toExponential(1)} (in step ${differences.indexOf(worst) + 1})`,
  );
  const svg = train.lossCurveSvg({
    title: `${runs[name].title}; difference ≤ ${worst.toExponential(1)}`,
    train: points(ours.losses),
    name: 'fovea',
    others: { [torch]: points(theirs.losses) },
  });
  writeFileSync(join(options.out ?? join(root, 'bench/results'), `loss-${name}.svg`), svg);
  return worst;
}

const folder = mkdtempSync(join(tmpdir(), 'fovea-losses-'));
try {
  for (const name of options.run?.split(',') ?? Object.keys(runs)) {
    if (!(name in runs)) throw new Error(`unknown run ${name}; there are ${Object.keys(runs).join(', ')}`);
    if (!((await compare(name, folder)) <= limit)) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
