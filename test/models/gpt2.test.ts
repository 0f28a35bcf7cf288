// GPT-2 against what PyTorch and transformers computed: outputs, generation, gradients, training.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FoveaError, noGrad, optim, tensor, tidy, type Tensor } from 'fovea';
import { loadFile, saveFile } from 'fovea/io';
import { type CausalLM, GPT2LMHeadModel, load, type LoadOptions } from 'fovea/models';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { device } from '../helpers.js';
import { compare, expectClose, type Golden, type Numbers, readGolden } from '../golden.js';

let golden: Golden;
let model: CausalLM;
const scratch = mkdtempSync(join(tmpdir(), 'fovea-gpt2-'));

const loadHere = (folder: string, options: LoadOptions = {}): Promise<CausalLM> => load(folder, { device, ...options });

beforeAll(async () => {
  golden = readGolden('gpt2');
  model = await loadHere(golden.folder);
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** A copy of the checkpoint with other options in its config. */
function variant(name: string, change: Record<string, unknown>): string {
  const folder = join(scratch, name);
  cpSync(golden.folder, folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...change }));
  return folder;
}

async function ids(x: Tensor): Promise<number[]> {
  return Array.from(await x.data<BigInt64Array>(), Number);
}

describe('outputs', () => {
  test('logits and hidden states', async () => {
    const inputIds = golden.inputs['input_ids']!;
    const { logits, hiddenStates } = noGrad(() => model.forward({ inputIds, outputHiddenStates: true }));
    const errors = golden.info.reference_error.fp32_vs_fp64;
    await expectClose('logits', logits, golden.expected['logits']!, errors['logits']![0]);
    expect(hiddenStates).toHaveLength(3);
    for (const [i, hidden] of hiddenStates!.entries()) {
      const name = `hidden_states.${i}`;
      await expectClose(name, hidden, golden.expected[name]!, errors[name]![0]);
    }
  });

  test.each(['bfloat16', 'float16'] as const)('%s stays within twice the error of PyTorch', async (dtype) => {
    const small = await loadHere(golden.folder, { dtype });
    const { logits } = noGrad(() => small.forward({ inputIds: golden.inputs['input_ids']! }));
    expect(logits.dtype).toBe(dtype);
    const { difference, largest } = compare(
      await logits.data({ as: 'float32' }),
      await golden.expected['logits']!.data(),
    );
    const [error] = golden.info.reference_error[dtype === 'float16' ? 'fp16_vs_fp64' : 'bf16_vs_fp64']['logits']!;
    expect(difference).toBeLessThanOrEqual(2 * error + 2e-5 * largest);
    small.dispose();
  });

  test('attention probabilities sum to 1 and give the same logits', async () => {
    const inputIds = golden.inputs['input_ids']!;
    const { logits, attentions } = noGrad(() => model.forward({ inputIds, outputAttentions: true }));
    expect(attentions!.map(({ shape }) => [...shape])).toEqual([
      [2, 4, 20, 20],
      [2, 4, 20, 20],
    ]);
    for (const weights of attentions!) {
      for (const sum of await weights.sum(-1).data()) expect(sum).toBeCloseTo(1, 5);
    }
    await expectClose('logits', logits, golden.expected['logits']!);
  });

  test('a later token changes nothing before it', async () => {
    const run = async (last: number): Promise<Float32Array> => {
      const { logits } = noGrad(() =>
        model.forward({ inputIds: tensor([[5, 6, 7, last]], { dtype: 'int64', device }) }),
      );
      return logits.narrow(1, 0, 3).data();
    };
    expect(await run(8)).toEqual(await run(90));
  });

  test('a cache gives the logits of the whole', async () => {
    const inputIds = golden.inputs['input_ids']!;
    using cache = model.makeCache(2, 20);
    const parts = noGrad(() =>
      [
        [0, 7],
        [7, 1],
        [8, 12],
      ].map(
        ([start, length]) =>
          model.forward({ inputIds: inputIds.narrow(1, start!, length!), pastKeyValues: cache }).logits,
      ),
    );
    let at = 0;
    for (const part of parts) {
      const expected = golden.expected['logits']!.narrow(1, at, part.shape[1]!);
      expect(compare(await part.data(), await expected.data()).difference).toBeLessThanOrEqual(1e-5 * 10.6);
      at += part.shape[1]!;
    }
    expect(cache.length).toBe(20);
  });

  test('wrong inputs are named', () => {
    const inputIds = tensor([[1, 2]], { dtype: 'int64', device });
    expect(() => model.forward({ inputIds: tensor([1, 2], { dtype: 'int64', device }) })).toThrow(
      /inputIds must be \[batch, tokens\]/,
    );
    expect(() => model.forward({ inputIds, attentionMask: tensor([[1]]) })).toThrow(/attentionMask must be \[1, 2\]/);
    expect(() =>
      model.forward({ inputIds: tensor([Array.from({ length: 65 }, () => 1)], { dtype: 'int64', device }) }),
    ).toThrow(/65 positions/);
  });
});

describe('generation', () => {
  const prompt = (): { inputIds: Tensor; attentionMask: Tensor } => ({
    inputIds: golden.expected['gen.input_ids']!,
    attentionMask: golden.expected['gen.attention_mask']!,
  });

  test.each([true, false])('greedy, left-padded, cache %s', async (useCache) => {
    const out = await model.generate({ ...prompt(), maxNewTokens: 10, useCache, padTokenId: 0 });
    expect([...out.shape]).toEqual([2, 22]);
    expect(await ids(out)).toEqual(await ids(golden.expected['greedy.ids']!));
  });

  test('ends at a token and pads', async () => {
    const eosTokenId = golden.info.generation.eos_case_token;
    const out = await model.generate({ ...prompt(), maxNewTokens: 10, eosTokenId, padTokenId: 0 });
    expect(await ids(out)).toEqual(await ids(golden.expected['greedy_eos.ids']!));
  });

  test('a batch gives what its rows give alone', async () => {
    const rows = [
      [3, 1, 4, 1, 5],
      [9, 2, 6],
    ];
    const alone = await Promise.all(
      rows.map(async (row) => {
        const out = await model.generate({ inputIds: tensor([row], { dtype: 'int64', device }), maxNewTokens: 8 });
        return (await ids(out)).slice(row.length);
      }),
    );
    const inputIds = tensor([rows[0]!, [0, 0, ...rows[1]!]], { dtype: 'int64', device });
    const attentionMask = tensor(
      [
        [1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1],
      ],
      { dtype: 'int64', device },
    );
    const together = await ids(await model.generate({ inputIds, attentionMask, maxNewTokens: 8 }));
    expect([together.slice(5, 13), together.slice(18, 26)]).toEqual(alone);
  });
});

describe('training', () => {
  test('loss and gradients', async () => {
    const fresh = await loadHere(golden.folder);
    const { loss } = fresh.forward({ inputIds: golden.inputs['input_ids']!, labels: golden.inputs['train.labels']! });
    const [loss0] = await golden.expected['train.loss0']!.data();
    expect(Math.abs((await loss!.item()) / Number(loss0) - 1)).toBeLessThanOrEqual(1e-5);
    loss!.backward();
    const parameters = new Map(fresh.namedParameters());
    const norms: Numbers = await golden.expected['train.grad_norms']!.data();
    const sums: Numbers = await golden.expected['train.grad_abs_sums']!.data();
    for (const [i, name] of golden.info.train_param_order.entries()) {
      const grad = parameters.get(name)!.grad!;
      const norm = await grad.square().sum().sqrt().item();
      expect(Math.abs(norm / Number(norms[i]) - 1), name).toBeLessThanOrEqual(1e-4);
      // Sums of both signs cancel, so that the terms set the scale.
      const scale = await grad.abs().sum().item();
      expect(Math.abs((await grad.sum().item()) - Number(sums[i])), name).toBeLessThanOrEqual(2e-5 * scale);
    }
    fresh.dispose();
  });

  test('five steps of AdamW', async () => {
    const fresh = await loadHere(golden.folder);
    const optimizer = new optim.AdamW(fresh.parameters(), {
      lr: 1e-3,
      betas: [0.9, 0.999],
      eps: 1e-8,
      weightDecay: 0.01,
    });
    const losses: number[] = [];
    const lossOf = (): Tensor =>
      fresh.forward({ inputIds: golden.inputs['input_ids']!, labels: golden.inputs['train.labels']! }).loss!;
    for (let step = 0; step < 5; step++) {
      const loss = tidy(() => {
        const value = lossOf();
        value.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return value.detach();
      });
      losses.push(await loss.item());
    }
    losses.push(await noGrad(lossOf).item());
    const { difference, largest } = compare(losses, await golden.expected['train.adamw_losses']!.data());
    expect(difference).toBeLessThanOrEqual(2e-5 * largest);
    fresh.dispose();
  });
});

describe('checkpoints', () => {
  test('saving gives the bytes of the file that was loaded', async () => {
    const folder = join(scratch, 'saved');
    await model.savePretrained(folder);
    expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(
      readFileSync(join(golden.folder, 'model.safetensors')),
    );
    const again = await loadHere(folder, { mmap: false });
    const { logits } = noGrad(() => again.forward({ inputIds: golden.inputs['input_ids']! }));
    await expectClose('logits', logits, golden.expected['logits']!);
    again.dispose();
  });

  test('training a mapped model leaves its file alone', async () => {
    const folder = variant('mapped', {});
    const before = readFileSync(join(folder, 'model.safetensors'));
    const mapped = await loadHere(folder);
    const { loss } = mapped.forward({ inputIds: golden.inputs['input_ids']!, labels: golden.inputs['train.labels']! });
    loss!.backward();
    new optim.SGD(mapped.parameters(), { lr: 1 }).step();
    await mapped.parameters()[0]!.data();
    expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(before);
    mapped.dispose();
  });

  test('keys without the prefix and with stored masks load', async () => {
    const folder = variant('bare', { architectures: ['GPT2Model'] });
    const tensors = loadFile(join(golden.folder, 'model.safetensors'));
    const renamed = Object.entries(tensors).map(([key, value]) => [key.replace('transformer.', ''), value] as const);
    const masks = { 'h.0.attn.bias': tensor([1]), 'h.1.attn.masked_bias': tensor([-1e4]) };
    await saveFile({ ...Object.fromEntries(renamed), ...masks }, join(folder, 'model.safetensors'));
    const bare = await loadHere(folder);
    const { logits } = noGrad(() => bare.forward({ inputIds: golden.inputs['input_ids']! }));
    await expectClose('logits', logits, golden.expected['logits']!);
    bare.dispose();
  });

  test('shards with an index load, and a path in it is refused', async () => {
    const folder = variant('shards', {});
    const tensors = Object.entries(loadFile(join(golden.folder, 'model.safetensors')));
    const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    await saveFile(Object.fromEntries(tensors.slice(0, 10)), join(folder, names[0]!));
    await saveFile(Object.fromEntries(tensors.slice(10)), join(folder, names[1]!));
    rmSync(join(folder, 'model.safetensors'));
    const index = (second: string): string =>
      JSON.stringify({
        weight_map: Object.fromEntries(tensors.map(([name], i) => [name, i < 10 ? names[0] : second])),
      });
    writeFileSync(join(folder, 'model.safetensors.index.json'), index(names[1]!));
    const sharded = await loadHere(folder);
    const { logits } = noGrad(() => sharded.forward({ inputIds: golden.inputs['input_ids']! }));
    await expectClose('logits', logits, golden.expected['logits']!);
    sharded.dispose();
    for (const evil of ['../secret.safetensors', '/etc/passwd', '..', 'a/b']) {
      writeFileSync(join(folder, 'model.safetensors.index.json'), index(evil));
      await expect(load(folder)).rejects.toMatchObject({
        code: 'FOVEA_FILE_FORMAT',
        message: expect.stringContaining('plain file name'),
      });
    }
  });

  test.each([
    ['an unknown option', { rotary_dim: 4 }, 'rotary_dim'],
    ['an option that changes the computation', { add_cross_attention: true }, 'add_cross_attention'],
    ['another model type', { model_type: 'gpt_neox' }, 'model_type'],
    ['another architecture', { architectures: ['GPT2ForSequenceClassification'] }, 'GPT2ForSequenceClassification'],
    ['an unknown activation', { activation_function: 'mish2' }, 'mish2'],
    ['a wrong type', { n_layer: 'two' }, 'n_layer'],
    ['a probability above 1', { resid_pdrop: 3 }, 'resid_pdrop'],
    ['beam search', { num_beams: 4 }, 'num_beams is 4'],
    ['a penalty', { repetition_penalty: 1.2 }, 'repetition_penalty is 1.2'],
    ['banned words', { bad_words_ids: [[5]] }, 'bad_words_ids'],
    ['another length', { max_length: 50 }, 'max_length is 50'],
  ])('%s is refused by name', async (_name, change, text) => {
    const error = await loadHere(variant('refused', change)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(FoveaError);
    expect(error).toMatchObject({ code: 'FOVEA_UNSUPPORTED', message: expect.stringContaining(text) });
  });

  test('weights that do not fit the config are refused', async () => {
    await expect(load(variant('wider', { n_embd: 64 }))).rejects.toMatchObject({
      code: 'FOVEA_FILE_FORMAT',
      message: expect.stringContaining('transformer.wte.weight'),
    });
    await expect(load(variant('deeper', { n_layer: 3 }))).rejects.toMatchObject({
      code: 'FOVEA_FILE_FORMAT',
      message: expect.stringContaining('transformer.h.2.'),
    });
  });

  test('loading reports progress and can be cancelled', async () => {
    let last = { loadedBytes: 0, totalBytes: 1 };
    const watched = await loadHere(golden.folder, { onProgress: (progress) => (last = progress) });
    expect(last.loadedBytes).toBe(last.totalBytes);
    watched.dispose();
    await expect(load(golden.folder, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
  });
});

describe('options that change the computation', () => {
  const logitsOf = async (change: Record<string, unknown>): Promise<Float32Array> => {
    const changed = await loadHere(variant('changed', change));
    const { logits } = noGrad(() => changed.forward({ inputIds: golden.inputs['input_ids']! }));
    const values = await logits.data();
    changed.dispose();
    return values;
  };
  test('each does', async () => {
    const base = await golden.expected['logits']!.data();
    const scaling = [{ scale_attn_weights: false }, { scale_attn_by_inverse_layer_idx: true }];
    const changes = [...scaling, { activation_function: 'relu' }, { layer_norm_epsilon: 0.1 }];
    for (const change of changes) expect(compare(await logitsOf(change), base).difference).toBeGreaterThan(1e-3);
    expect(compare(await logitsOf({ reorder_and_upcast_attn: true }), base).difference).toBeLessThan(1e-4);
  });

  test('an untied head is a parameter of its own', () => {
    const tied = new GPT2LMHeadModel({ vocabSize: 11, nPositions: 8, nEmbd: 8, nLayer: 1, nHead: 2 });
    const untied = new GPT2LMHeadModel({
      vocabSize: 11,
      nPositions: 8,
      nEmbd: 8,
      nLayer: 1,
      nHead: 2,
      tieWordEmbeddings: false,
    });
    expect(untied.numParameters() - tied.numParameters()).toBe(88);
    expect(untied.namedParameters().at(-1)![0]).toBe('lm_head.weight');
  });
});

describe('defaults of generation', () => {
  const inputIds = (): Tensor => golden.inputs['input_ids']!.narrow(0, 0, 1);
  /** A variant whose generation_config.json holds `generation`. */
  function withGeneration(name: string, generation: unknown, change: Record<string, unknown> = {}): string {
    const folder = variant(name, change);
    writeFileSync(join(folder, 'generation_config.json'), JSON.stringify(generation));
    return folder;
  }

  test('come from generation_config.json, and options come before them', async () => {
    const generation = { max_new_tokens: 3, do_sample: true, top_k: 1, min_p: 0.1, pad_token_id: 7, num_beams: 1 };
    const own = await loadHere(withGeneration('generation', generation, { repetition_penalty: 1.5 }));
    expect(own.generationConfig).toEqual({ maxNewTokens: 3, doSample: true, topK: 1, minP: 0.1, padTokenId: 7 });
    const made = await own.generate({ inputIds: inputIds(), maxNewTokens: undefined });
    expect(made.shape[1]).toBe(inputIds().shape[1]! + 3);
    // Drawing among one token is greedy.
    expect(await ids(made)).toEqual(await ids(await model.generate({ inputIds: inputIds(), maxNewTokens: 3 })));
    const shorter = await own.generate({ inputIds: inputIds(), maxNewTokens: 1 });
    expect(shorter.shape[1]).toBe(inputIds().shape[1]! + 1);
  });

  test('come from config.json where there is no such file', async () => {
    const old = await loadHere(
      variant('old', { temperature: 0.7, top_k: 50, do_sample: false, max_length: 20, top_p: null }),
    );
    expect(old.generationConfig).toEqual({ temperature: 0.7, topK: 50, doSample: false });
  });

  test('name the tokens that end and fill, and are saved', async () => {
    const own = await loadHere(withGeneration('ends', { eos_token_id: [3, 5], temperature: 0.5 }, { eos_token_id: 9 }));
    const next = (await ids(await model.generate({ inputIds: inputIds(), maxNewTokens: 1 }))).at(-1)!;
    own.generationConfig = { ...own.generationConfig, eosTokenIds: [next] };
    const stream = own.stream({ inputIds: inputIds() });
    for await (const _ of stream);
    expect(stream.usage!.finishReasons).toEqual(['eos']);
    const folder = join(scratch, 'ends-saved');
    await own.savePretrained(folder);
    expect((await load(folder)).generationConfig).toEqual({ eosTokenIds: [next], temperature: 0.5 });
  });

  test.each([
    ['num_beams', { num_beams: 5 }],
    ['stop_strings', { stop_strings: ['end'] }],
    ['top_k', { top_k: -1 }],
    ['temperature', { temperature: 'warm' }],
    ['beam_width', { beam_width: 2 }],
  ])('%s is refused by name', async (key, generation) => {
    await expect(load(withGeneration('refused-generation', generation))).rejects.toMatchObject({
      code: 'FOVEA_UNSUPPORTED',
      message: expect.stringContaining(key),
    });
  });
});
