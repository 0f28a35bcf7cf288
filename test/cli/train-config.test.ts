// `fovea train <config.json>`, run as users run it.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tensor } from 'fovea';
import { Seq2SeqTransformer } from 'fovea/models';
import { describe, expect, test } from 'vitest';
import { config, configFolder, main } from './configs.ts';

const { folder, write, fovea, events, weights } = configFolder();

test('trains, evaluates, saves and says so', { timeout: 120_000 }, () => {
  const { status, stderr } = fovea('train', write('run.json', config));
  expect(stderr).toMatch(
    /step 40\/40 {2}loss \d\.\d{4} {2}held out \d\.\d{4} {2}lr 0\.00\d+ {2}peak \d+\.\d MB {2}0 s left/,
  );
  expect(stderr).toMatch(/^text: 1 files, 0\.01 MB, the last 5 % held out\n/);
  const [, bits, before] = /held-out text: (\d+\.\d+) bits per token after 40 steps, (\d+\.\d+) before\n/.exec(stderr)!;
  expect(Number(bits)).toBeLessThan(6);
  expect(Number(before)).toBeGreaterThan(7);
  expect(status).toBe(0);
  expect(readdirSync(join(folder, 'run')).sort()).toEqual([
    'log.jsonl',
    'loss.svg',
    'model',
    'step-00000030',
    'step-00000040',
  ]);
  expect(readdirSync(join(folder, 'run', 'model')).sort()).toEqual([
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
  ]);
  const again = fovea('train', 'run.json');
  expect(again.stderr).toMatch(/\nresumed from step 40 in .*run\nall 40 steps are done; for more, raise steps/);
  expect(again.status).toBe(0);
  const from = {
    ...config,
    model: { load: 'run/model', context: 8 },
    folder: 'more',
    steps: 2,
    schedule: { type: 'constant' },
    saveEvery: undefined,
  };
  expect(fovea('train', write('more.json', from)).status).toBe(0);
});

const rising = (...factors: number[]): number[] => [0.5, 1, ...factors];
const halves = [Math.sqrt(2 / 3), Math.sqrt(1 / 2)];
/** Optimizers and schedules, each once: with the factors of the rate in four steps, two of which warm up. */
const parts: [string, object, string, object, number[]][] = [
  ['AdamW', { eps: 1e-6, amsgrad: true }, 'linear', {}, rising(1, 0.55)],
  ['Adam', { stateDtype: 'bfloat16', betas: [0.8, 0.9] }, 'linear', { minLrRatio: 0 }, rising(1, 0.5)],
  ['SGD', { momentum: 0.9, nesterov: true }, 'polynomial', { power: 2 }, rising(1, 0.25)],
  ['RAdam', { decoupledWeightDecay: true, weightDecay: 0.1 }, 'exponential', { gamma: 0.9 }, rising(1, 0.9)],
  ['NAdam', { momentumDecay: 0.01 }, 'restarts', { t0: 2, etaMin: 0.002 }, rising(1, 0.6)],
  ['RMSprop', { centered: true }, 'wsd', { decaySteps: 2, decayShape: '1-sqrt' }, rising(1, 1 - 0.9 * Math.SQRT1_2)],
  ['Adagrad', { lrDecay: 0.1 }, 'noam', {}, rising(...halves).map((factor) => factor / Math.sqrt(2 * 16))],
  ['Adafactor', { d: 2 }, 'inverse-sqrt', {}, rising(...halves)],
  ['Lion', { stateDtype: 'int8', weightDecay: 0.3 }, 'constant', {}, rising(1, 1)],
  ['Muon', { momentum: 0.8, nesterov: false }, 'cosine', {}, rising(1, 0.55)],
  ['Sophia', { gamma: 0.01, eps: 1e-10 }, 'cosine', {}, rising(1, 0.55)],
];
test.each(parts)('takes %s %j with the schedule %s %j', { timeout: 60_000 }, (type, options, name, more, factors) => {
  const optimizer = { type, lr: 0.01, ...options, ...(type === 'Muon' ? { others: { lr: 0.02, eps: 1e-5 } } : {}) };
  const given = { text: 'notes', steps: 4, folder: type, model: config.model, clipValue: 0.5, batchSize: 2 };
  const schedule = { type: name, warmupSteps: 2, ...more };
  const { status, stderr } = fovea('train', write('one.json', { ...given, optimizer, schedule }));
  expect(stderr).toMatch(/bits per token after 4 steps/);
  expect(status).toBe(0);
  const rates = events(type)
    .filter(({ event }) => event === 'step')
    .map(({ lr }) => lr);
  expect(rates).toHaveLength(4);
  for (const [i, rate] of rates.entries()) expect(rate).toBeCloseTo(0.01 * factors[i]!, 12);
  const { state } = JSON.parse(readFileSync(join(folder, type, 'step-00000004', 'trainer.json'), 'utf8')) as {
    state: { optimizerName: string; core: { optimizer: { paramGroups: { params: number[] }[] } } };
  };
  const { paramGroups } = state.core.optimizer;
  expect(paramGroups[0]).toMatchObject(options);
  expect(state.optimizerName).toBe(type === 'Muon' ? 'ChainedOptimizer' : type);
  if (type !== 'Muon') return;
  // The four matrices of the block; beside them embeddings, and biases and norms.
  expect(paramGroups.map(({ params }) => params.length)).toEqual([4, 2, 10]);
  expect(paramGroups[1]).toMatchObject({ eps: 1e-5, weightDecay: 0.1, initialLr: 0.02 });
});

describe('all at once: adapters, averages, guards, recomputed activations', () => {
  const all = {
    text: 'notes/text.txt',
    model: { load: 'run/model' },
    lora: { r: 2, loraDropout: 0.1, targetModules: 'all-linear' },
    optimizer: { type: 'Lion', stateDtype: 'int8', lr: 1e-2 },
    schedule: { type: 'constant' },
    guards: { nonFinite: 'skip', lossSpike: { window: 4 }, gradientNorm: { max: 1e9 }, overfitting: true },
    ema: { decay: 0.5, useWarmup: true },
    checkpoint: true,
    precision: 'bfloat16',
    steps: 6,
    batchSize: 2,
    evaluateEvery: 2,
    folder: 'all',
  };
  const adapterOf = (run: string): Buffer => readFileSync(join(folder, run, 'adapter', 'adapter_model.safetensors'));

  test('a run that is stopped and extended ends where one without a stop does', { timeout: 120_000 }, () => {
    const whole = fovea('train', write('all.json', all));
    expect(whole.stderr).toMatch(/trainable params: 512 \|\| all params/);
    expect(whole.stderr).toMatch(/bits per token after 6 steps, of averaged weights, \d+\.\d+ before/);
    expect(whole.stderr).toMatch(/saved: .*adapter \(adapter_config\.json, adapter_model\.safetensors\)/);
    expect(whole.status).toBe(0);
    expect(fovea('train', write('some.json', { ...all, steps: 3, folder: 'part' })).status).toBe(0);
    const early = adapterOf('part');
    expect(fovea('train', write('more.json', { ...all, folder: 'part' })).stderr).toMatch(/resumed from step 3/);
    expect(adapterOf('part').equals(adapterOf('all'))).toBe(true);
    expect(adapterOf('part').equals(early)).toBe(false);
    // Averages, not the weights themselves, are what was saved; recomputing changes nothing.
    expect(fovea('train', write('plain.json', { ...all, ema: undefined, folder: 'plain' })).status).toBe(0);
    expect(adapterOf('plain').equals(adapterOf('all'))).toBe(false);
    expect(fovea('train', write('kept.json', { ...all, checkpoint: false, folder: 'kept' })).status).toBe(0);
    expect(adapterOf('kept').equals(adapterOf('all'))).toBe(true);
  });

  test('a guard acts', { timeout: 60_000 }, () => {
    const guards = { gradientNorm: { max: 1e-9, action: 'stop' } };
    const { stderr } = fovea('train', write('guarded.json', { ...all, guards, folder: 'guarded' }));
    expect(stderr).toMatch(/step 1: gradientNorm \(stop\): the norm of the gradients is [\d.e-]+, above 1e-9/);
  });

  test('so does the one that looks at attention', { timeout: 60_000 }, () => {
    const run = (threshold: number): string => {
      const guards = { attentionCollapse: { every: 2, threshold } };
      return fovea('train', write('watched.json', { ...all, guards, folder: `watched-${threshold}` })).stderr;
    };
    expect(run(100)).toMatch(
      /step 2: attentionCollapse \(stop\): the entropy of attention is below 100 nats in transformer\.h\.0\.attn/,
    );
    expect(run(1e-9)).toMatch(/bits per token after 6 steps/);
  });

  test('options of an adapter that do not fit', { timeout: 60_000 }, () => {
    const lora = { r: 2, targetModules: ['nothing'] };
    const { stderr, status } = fovea('train', write('lora.json', { ...all, lora, folder: 'none' }));
    expect(stderr).toMatch(/fovea: train: lora\.json: lora: addAdapter: expected names of modules of the model/);
    expect(status).toBe(1);
  });
});

test('takes token numbers, and says which it has no place for', { timeout: 60_000 }, () => {
  const numbers = Uint16Array.from({ length: 2000 }, (_, i) => (i * i) % 300);
  writeFileSync(join(folder, 'numbers.bin'), Buffer.from(numbers.buffer));
  const model = { layers: 1, width: 8, heads: 2, context: 16, vocabSize: 300 };
  const given = { tokens: 'numbers.bin', heldOut: 0.1, model, steps: 2, folder: 'tokens' };
  const { stderr, status } = fovea('train', write('tokens.json', given));
  expect(stderr).toMatch(/^tokens: 1 files, 2,000 numbers, the last 10 % held out\n/);
  expect(status).toBe(0);
  expect(readdirSync(join(folder, 'tokens', 'model'))).not.toContain('tokenizer.json');
  const small = { ...given, model: { ...model, vocabSize: 200 }, folder: 'small' };
  expect(fovea('train', write('small.json', small)).stderr).toMatch(/train: token \d+ is not in the .* of 200/);
});

test('what is read from disk when its turn comes trains the same model', { timeout: 120_000 }, () => {
  mkdirSync(join(folder, 'parts', 'more'), { recursive: true });
  const texts = [7, 30, 500].map((n) => Array.from({ length: n }, (_, i) => `${(i * i) % 91} é`).join(' '));
  for (const [i, text] of texts.entries()) writeFileSync(join(folder, 'parts', i === 1 ? 'more/b' : `a${i}`), text);
  writeFileSync(join(folder, 'parts', 'empty'), '');
  writeFileSync(join(folder, 'parts', 'image'), Buffer.from([1, 0, 2]));
  const given = { text: ['parts', 'notes/text.txt'], model: config.model, steps: 5, batchSize: 3, heldOut: 0.3 };
  const [inMemory, onDisk] = [false, true].map((stream) => {
    const name = write('stream.json', { ...given, stream, folder: `stream-${stream}` });
    return fovea('train', name).stderr;
  });
  expect(onDisk).toMatch(/^text: 4 files, 0\.01 MB, the last 30 % held out\n/);
  expect(onDisk!.replaceAll('stream-true', '')).toContain(/held-out text: .*/.exec(inMemory!)![0]);
  expect(weights('stream-true').equals(weights('stream-false'))).toBe(true);
  const model = { layers: 1, width: 8, heads: 2, context: 16, vocabSize: 300 };
  const numbers = {
    tokens: ['numbers.bin', 'numbers.bin'],
    model,
    stream: true,
    heldOut: 0.2,
    steps: 4,
    folder: 'disk',
  };
  expect(fovea('train', write('disk.json', numbers)).status).toBe(0);
  const kept = { ...numbers, stream: false, folder: 'kept-numbers' };
  expect(fovea('train', write('kept.json', kept)).status).toBe(0);
  expect(weights('disk').equals(weights('kept-numbers'))).toBe(true);
  const small = { ...numbers, model: { ...model, vocabSize: 50 }, folder: 'small-disk' };
  expect(fovea('train', write('small.json', small)).stderr).toMatch(/train: token \d+ is not in the .* of 50/);
  writeFileSync(join(folder, 'half.bin'), Buffer.from([1, 0, 2]));
  const half = { ...numbers, tokens: 'half.bin', folder: 'half' };
  expect(fovea('train', write('half.json', half)).stderr).toMatch(/^fovea: read: .*half\.bin has 3 bytes/);
  const none = { ...numbers, tokens: 'none.bin', folder: 'none' };
  expect(fovea('train', write('none.json', none)).stderr).toMatch(/^fovea: read: .*none\.bin: ENOENT/);
});

describe('an encoder and a decoder', () => {
  const pairs = Array.from({ length: 300 }, (_, i) => `${i % 10}é${i % 7}\t${'ab'.repeat(1 + (i % 3))}`);
  const model = { dModel: 16, nHead: 2, numEncoderLayers: 1, numDecoderLayers: 1, dimFeedforward: 32, dropout: 0.1 };
  const given = {
    pairs: 'pairs.tsv',
    model,
    optimizer: { type: 'Adam', betas: [0.9, 0.98], eps: 1e-9, lr: 2 },
    schedule: { type: 'noam', warmupSteps: 20 },
    ema: { decay: 0.9, useWarmup: true },
    steps: 60,
    batchSize: 16,
    accumulate: 2,
    folder: 'pairs',
  };
  writeFileSync(join(folder, 'pairs.tsv'), `${pairs.join('\r\n')}\n`);

  test('learn pairs of text, and go on to the bit', { timeout: 120_000 }, async () => {
    const { stderr, status } = fovea('train', write('pairs.json', given));
    expect(stderr).toMatch(/^pairs: 285, and 15 held out\n/);
    const [, after, before] = /(\d+\.\d+) bits per token after 60 steps, of averaged weights, (\d+\.\d+)/.exec(stderr)!;
    expect(Number(before)).toBeGreaterThan(6);
    expect(Number(after)).toBeLessThan(2);
    expect(status).toBe(0);
    expect(fovea('train', write('some.json', { ...given, steps: 25, folder: 'some' })).status).toBe(0);
    expect(fovea('train', write('on.json', { ...given, folder: 'some' })).stderr).toMatch(/resumed from step 25/);
    expect(weights('some').equals(weights('pairs'))).toBe(true);
    using loaded = await Seq2SeqTransformer.fromPretrained(join(folder, 'pairs', 'model'));
    expect(loaded.config).toMatchObject({ ...model, vocabSize: 259, bosTokenId: 1 });
    const inputIds = tensor([[...Buffer.from('4é4')].map((byte) => byte + 3).concat(2)], { dtype: 'int64' });
    const said = Array.from(await (await loaded.generate({ inputIds })).data<BigInt64Array>(), Number);
    expect(Buffer.from(said.filter((token) => token > 2).map((token) => token - 3)).toString()).toMatch(/^ab/);
  });

  test.each([
    [{ ...given, model: { ...model, nHead: 3 } }, /wrong\.json: model: TransformerConfig: .* for nHead, received 3/],
    [{ ...given, model: { ...model, vocabSize: 9 } }, /nothing, since tokens are bytes, for model\.vocabSize/],
    [{ ...given, checkpoint: true }, /checkpoint is not known here; known are steps, pairs/],
    [{ ...given, text: 'notes' }, /text is not known here/],
    [{ ...given, pairs: 'notes/text.txt' }, /line 1 of .*text\.txt has 0 tabs, expected one/],
    [{ ...given, pairs: 'one.tsv' }, /one\.tsv has 1 pairs, too few/],
  ])('%j', { timeout: 30_000 }, (wrong, message) => {
    writeFileSync(join(folder, 'one.tsv'), 'a\tb\n');
    const { stderr, status } = fovea('train', write('wrong.json', wrong));
    expect(stderr).toMatch(message);
    expect(status).toBe(1);
  });
});

test('Ctrl-C saves, and the next start goes on as if nothing had been', { timeout: 120_000 }, async () => {
  const long = { ...config, steps: 300, saveEvery: 1000, folder: 'cut' };
  const child = spawn(process.execPath, [main, 'train', write('cut.json', long)], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  let interrupted = false;
  child.stderr.on('data', (text) => {
    stderr += String(text);
    if (!interrupted && stderr.includes('step ')) interrupted = child.kill('SIGINT');
  });
  const status = await new Promise((resolve) => void child.once('close', resolve));
  expect(stderr).toMatch(/fovea: train: cancelled/);
  expect(status).toBe(130);
  expect(existsSync(join(folder, 'cut', 'model'))).toBe(false);
  const resumed = fovea('train', 'cut.json');
  expect(resumed.stderr).toMatch(/\nresumed from step [1-9]\d* in/);
  expect(fovea('train', write('whole.json', { ...long, folder: 'whole' })).status).toBe(0);
  expect(weights('cut').equals(weights('whole'))).toBe(true);
});

describe('a config that cannot be run is one sentence', () => {
  const wrong: [object | string, RegExp][] = [
    [{ ...config, steps: 0 }, /expected a whole number of at least 1 for steps, received 0/],
    [{ ...config, steps: undefined }, /a whole number of at least 1 for steps, received nothing/],
    [{ ...config, text: [] }, /a path or a list of paths for text, received \[\]/],
    [{ ...config, folder: undefined }, /a string for folder, received nothing/],
    [
      { ...config, model: { width: 10, heads: 4 } },
      /a divisor of the width, which is 10, for model\.heads, received 4/,
    ],
    [{ ...config, model: { load: 'x', width: 4 } }, /model\.width is not known here; known are load/],
    [{ ...config, model: 3 }, /an object for model, received 3/],
    [
      { ...config, optimizer: { type: 'adam' } },
      /one of AdamW, Adam, SGD, RAdam, .*, Muon, Sophia for optimizer\.type, received "adam"/,
    ],
    [
      { ...config, optimizer: { type: 'SGD', betas: [0, 0] } },
      /wrong\.json: optimizer: SGD: expected only lr, .*nesterov.* received string "betas"/,
    ],
    [
      { ...config, optimizer: { betas: [0.9, 1] } },
      /optimizer: AdamW: expected two numbers of at least 0 and below 1 for betas/,
    ],
    [{ ...config, optimizer: { lr: '1e-3' } }, /optimizer: AdamW: expected a finite number .* for lr, received string/],
    [{ ...config, optimizer: { stateDtype: 'int4' } }, /optimizer: AdamW: .* for stateDtype/],
    [
      { ...config, optimizer: { type: 'SGD', momentum: 0.9, nesterov: 'yes' } },
      /true or false for optimizer\.nesterov, received "yes"/,
    ],
    [{ ...config, optimizer: { type: 'Muon', others: { eps: -1 } } }, /optimizer\.others: AdamW: .* for eps/],
    [{ ...config, optimizer: { type: 'Sophia', gamma: -1 } }, /optimizer: Sophia: .* for gamma/],
    [{ ...config, optimizer: { type: 'Sophia', estimator: 'x' } }, /one of .* for optimizer\.estimator, received "x"/],
    [{ ...config, optimizer: { estimateEvery: 3 } }, /optimizer: AdamW: .* received string "estimateEvery"/],
    [{ ...config, distillation: {} }, /a string for distillation\.teacher, received nothing/],
    [{ ...config, distillation: { teacher: 'x', alpha: 2 } }, /distillation: distillationLoss: .* for alpha/],
    [
      { ...config, distillation: { teacher: 'x', labels: 1 } },
      /nothing: every token counts.* for distillation\.labels/,
    ],
    [{ ...config, zLoss: -1 }, /a number of at least 0 for zLoss, received -1/],
    [{ ...config, optimizer: { others: {} } }, /optimizer: AdamW: .* received string "others"/],
    [{ ...config, schedule: { type: 'exponential' } }, /schedule: ExponentialLR: .* for gamma, received undefined/],
    [{ ...config, schedule: { type: 'wsd', decaySteps: -1 } }, /schedule: warmupStableDecay: .* for decaySteps/],
    [{ ...config, schedule: { type: 'restarts', t0: 0 } }, /schedule: CosineAnnealingWarmRestarts: .* for t0/],
    [{ ...config, schedule: { type: 'noam', warmupSteps: 0 } }, /schedule: noam: .* for warmupSteps/],
    [{ ...config, guards: { nonFinite: 'warn' } }, /guards: nonFinite: expected 'skip' or 'stop' for action/],
    [{ ...config, guards: { gradientNorm: true } }, /guards: gradientNorm: expected a number above 0 for max/],
    [{ ...config, guards: { lossSpike: 3 } }, /true, the action or an object for guards\.lossSpike, received 3/],
    [{ ...config, guards: { collapse: true } }, /guards\.collapse is not known here; known are nonFinite, lossSpike/],
    [{ ...config, guards: { attentionCollapse: { every: 0 } } }, /guards: attentionCollapse: .* for every, received 0/],
    [{ ...config, guards: { attentionCollapse: { entropies: 1 } } }, /no entropies.* for guards\.attentionCollapse/],
    [{ ...config, ema: { decay: 1 } }, /ema: ExponentialMovingAverage: .* for decay, received 1/],
    [{ ...config, maxTokens: 9 }, /maxTokens is not known here/],
    [{ ...config, stream: 'yes' }, /true or false for stream, received "yes"/],
    [{ ...config, checkpoint: 1 }, /true or false for checkpoint, received 1/],
    [{ ...config, lora: { r: 2 } }, /nothing beside a new model, which has learnt nothing yet, for lora/],
    [{ ...config, tokens: 'x.bin' }, /nothing beside tokens for text/],
    [{ ...config, text: undefined, tokens: 'x.bin' }, /at least 1 for model\.vocabSize, received nothing/],
    [{ ...config, model: { load: 'x', context: 1 } }, /at least 2 for model\.context, received 1/],
    [
      { ...config, schedule: { warmupSteps: 41 } },
      /at most the steps, which are 40, for schedule\.warmupSteps, received 41/,
    ],
    [{ ...config, schedule: { type: 'constant', gamma: 4 } }, /schedule\.gamma is not known here/],
    [{ ...config, precision: 'bf8' }, /one of float32, bfloat16, float16, f32, bf16, f16 for precision/],
    [{ ...config, clipNorm: 0 }, /for clipNorm, received 0/],
    [{ ...config, earlyStopping: {} }, /for earlyStopping\.patience, received nothing/],
    [{ ...config, resume: 'yes' }, /true or false for resume, received "yes"/],
    [{ ...config, device: 'tpu' }, /cpu, cuda or cuda:<n> for device, received "tpu"/],
    [{ ...config, heldOut: 1 }, /a number from 0 to 0\.9 for heldOut/],
    [{ ...config, stpes: 3 }, /stpes is not known here; known are steps, pairs, tokens, text/],
    ['{"steps": 1, "steps": 2}', /the key "steps" occurs twice/],
    ['[]', /must hold a JSON object/],
  ];
  test.each(wrong)('%j', { timeout: 30_000 }, (value, message) => {
    const { status, stderr } = fovea('train', write('wrong.json', value));
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^fovea: [^\n]+\n$/);
    expect(status).toBe(1);
  });

  test('one that is beside other paths or options, or is not there', () => {
    write('run.json', config);
    expect(fovea('train', 'run.json', 'notes').stderr).toMatch(/run\.json is a config.*leave out the other paths/);
    expect(fovea('train', 'run.json', '--steps', '3').stderr).toMatch(/leave out --steps/);
    expect(fovea('train', 'absent.json').stderr).toMatch(/^fovea: read: absent\.json: ENOENT/);
  });
});
