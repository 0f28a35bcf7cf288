// Adapters on disk, in the layout of PEFT, and what PEFT computes with them (test/golden/lora/make.py).
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nn, noGrad, randn, type Tensor, tensor, zeros } from 'fovea';
import { loadFile, saveFile } from 'fovea/io';
import { type CausalLM, GPT2LMHeadModel, load, loadAdapter, saveAdapter } from 'fovea/models';
import { afterAll, describe, expect, it } from 'vitest';
import { expectClose } from '../golden.js';
import { device, list } from '../helpers.js';

const golden = join(import.meta.dirname, '../golden/lora');
const expected = loadFile(join(golden, 'expected.safetensors'));
const info = JSON.parse(readFileSync(join(golden, 'golden.json'), 'utf8')) as Record<
  string,
  { trainable: number; all: number }
>;
const folder = mkdtempSync(join(tmpdir(), 'fovea-adapter-'));
afterAll(() => rmSync(folder, { recursive: true }));

const base = (): Promise<CausalLM> => load(join(golden, '../gpt2'), { device });
const logits = (model: CausalLM): Tensor => model.forward({ inputIds: expected['gpt2.ids']!.to(device) }).logits;

class Encoder extends nn.Module {
  layers = [0, 1].map(
    () =>
      new nn.TransformerEncoderLayer({
        dModel: 16,
        nHead: 4,
        dimFeedforward: 24,
        dropout: 0,
        batchFirst: true,
        normFirst: true,
      }),
  );
  override forward(x: Tensor): Tensor {
    return this.layers.reduce((h, layer) => layer.forward(h), x);
  }
}
function encoder(): Encoder {
  const model = new Encoder();
  model.loadStateDict(loadFile(join(golden, 'base.safetensors')));
  return model.to(device);
}

/** A name of a gradient as PEFT has it. */
const stored = (key: string): string =>
  key
    .replace(/in_proj_lora\.default\.|lora\.default\./, '')
    .replace(/self_attn\.(out_proj|in_proj_bias)/, 'self_attn.base_layer.$1');

async function compareGradients(name: string, model: nn.Module): Promise<number> {
  const found = model.namedParameters().filter(([, { grad }]) => grad !== null);
  for (const [key, { grad }] of found) {
    // PEFT adds this term twice but differentiates it once; here it is once, with B doubled.
    const factor = /out_proj.*lora_A/.test(key) ? 0.5 : 1;
    await expectClose(key, grad!.to('cpu').mul(factor), expected[`${name}.grad.${stored(key)}`] ?? zeros([0]));
  }
  return found.length;
}

describe('what PEFT has written', () => {
  it.each(['gpt2', 'biases'])('%s computes, learns and merges as there', async (name) => {
    const model = await base();
    const names = await loadAdapter(model, join(golden, name), { isTrainable: true });
    expect(names).toHaveLength(name === 'gpt2' ? 6 : 2);
    const y = logits(model);
    await expectClose('logits', y.to('cpu'), expected[`${name}.output`]!);
    const { trainable, all } = nn.trainableParameters(model);
    expect({ trainable, all }).toEqual(info[name]);
    y.square().mean().backward();
    const gradients = Object.keys(expected).filter((key) => key.startsWith(`${name}.grad.`));
    expect(await compareGradients(name, model)).toBe(gradients.length);
    nn.unloadAdapters(model, { merge: true });
    await expectClose('merged', logits(model).to('cpu'), expected[`${name}.merged`]!);
  });

  it('attention and layers of an encoder compute, learn and merge as there', async () => {
    const model = encoder();
    const names = await loadAdapter(model, join(golden, 'attention'), { isTrainable: true });
    expect(names.filter((name) => name.startsWith('layers.0'))).toEqual([
      'layers.0.linear2',
      'layers.0.self_attn.out_proj',
      'layers.0.self_attn',
    ]);
    const x = expected['attention.x']!.to(device);
    const y = model.forward(x);
    await expectClose('output', y.to('cpu'), expected['attention.output']!);
    y.square().mean().backward();
    expect(await compareGradients('attention', model)).toBe(12);
    nn.unloadAdapters(model, { merge: true });
    await expectClose('merged', model.forward(x).to('cpu'), expected['attention.merged']!);
  });

  it('may be of a later version, if what it means is clear', async () => {
    const copy = (name: string, version: string): string => {
      const out = mkdtempSync(join(folder, 'later-'));
      cpSync(join(golden, name), out, { recursive: true });
      const path = join(out, 'adapter_config.json');
      const config = JSON.parse(readFileSync(path, 'utf8')) as object;
      writeFileSync(path, JSON.stringify({ ...config, peft_version: version }));
      return out;
    };
    await loadAdapter(await base(), copy('gpt2', '0.30.1'));
    await loadAdapter(encoder(), copy('attention', '0.18.2.dev0'));
    for (const version of ['0.22.0', '1.0.0', 'newest'])
      await expect(loadAdapter(encoder(), copy('attention', version))).rejects.toMatchObject({
        code: 'FOVEA_UNSUPPORTED',
        message: expect.stringMatching(/layers\.0\.self_attn\.out_proj.*later PEFT/) as string,
      });
  });

  it('is frozen unless it is to be trained', async () => {
    const model = await base();
    await loadAdapter(model, join(golden, 'biases'));
    expect(model.parameters().some(({ requiresGrad }) => requiresGrad)).toBe(false);
  });
});

describe('what is saved here', () => {
  const keysOf = (path: string): [string, readonly number[]][] =>
    Object.entries(loadFile(join(path, 'adapter_model.safetensors')))
      .map(([key, { shape }]): [string, readonly number[]] => [key, shape])
      .sort(([a], [b]) => (a < b ? -1 : 1));

  it.each(['gpt2', 'biases', 'attention'])('%s has the keys, the bytes and the options of PEFT', async (name) => {
    const model = name === 'attention' ? encoder() : await base();
    await loadAdapter(model, join(golden, name));
    const out = join(folder, name);
    await saveAdapter(model, out, { baseModelNameOrPath: 'gpt2' });
    expect(keysOf(out)).toEqual(keysOf(join(golden, name)));
    const [ours, theirs] = [out, join(golden, name)].map((path) => loadFile(join(path, 'adapter_model.safetensors')));
    for (const [key, x] of Object.entries(theirs!)) expect(list(ours![key]!), key).toEqual(list(x));
    const [config, original] = [out, join(golden, name)].map(
      (path) => JSON.parse(readFileSync(join(path, 'adapter_config.json'), 'utf8')) as Record<string, unknown>,
    );
    for (const [key, value] of Object.entries(config!)) {
      if (key === 'base_model_name_or_path') continue;
      expect(value, key).toEqual(original![key]);
    }
  });

  it('comes back bit for bit, under another name and dtype', async () => {
    const model = await base();
    nn.addAdapter(model, { targetModules: /transformer\.h\.1\..*c_proj/, r: 3, loraAlpha: 4.5, adapterName: 'mine' });
    noGrad(() =>
      model.parameters().forEach((p) => p.requiresGrad && void p.copy_(randn(p.shape, { device }).mul(0.1))),
    );
    const y = list(logits(model));
    const out = join(folder, 'mine');
    await saveAdapter(model, out, { adapterName: 'mine' });
    const config = JSON.parse(readFileSync(join(out, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    expect(config).toMatchObject({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      r: 3,
      lora_alpha: 4.5,
      bias: 'none',
      fan_in_fan_out: true,
      use_rslora: false,
      base_model_name_or_path: null,
      target_modules: ['transformer.h.1.attn.c_proj', 'transformer.h.1.mlp.c_proj'],
    });
    const other = await base();
    await loadAdapter(other, out, { adapterName: 'yours' });
    expect(list(logits(other))).toEqual(y);
    const halves = Object.fromEntries(
      Object.entries(loadFile(join(out, 'adapter_model.safetensors'))).map(([key, x]) => [key, x.to('bfloat16')]),
    );
    await saveFile(halves, join(out, 'adapter_model.safetensors'));
    const third = await base();
    await loadAdapter(third, out);
    expect(third.parameters().every(({ dtype }) => dtype === 'float32')).toBe(true);
    nn.unloadAdapters(third);
    expect(list(logits(third))).toEqual(list(logits(await base())));
  });

  it('is not a checkpoint', async () => {
    const model = await base();
    await loadAdapter(model, join(golden, 'gpt2'));
    await expect(model.savePretrained(join(folder, 'whole'))).rejects.toMatchObject({
      code: 'FOVEA_UNSUPPORTED',
      message: expect.stringMatching(/saveAdapter.*unloadAdapters/) as string,
    });
    nn.unloadAdapters(model, { merge: true });
    await model.savePretrained(join(folder, 'whole'));
    expect(list(logits(await load(join(folder, 'whole'), { device })))).toEqual(list(logits(model)));
  });

  it('needs an adapter, and can be cancelled', async () => {
    const model = await base();
    await expect(saveAdapter(model, folder)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    nn.addAdapter(model, { targetModules: ['c_attn'] });
    await expect(saveAdapter(model, folder, { adapterName: 'x' })).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    await expect(saveAdapter(model, folder, { name: 'x' } as never)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    await expect(saveAdapter(model, 3 as never)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    const signal = AbortSignal.abort();
    await expect(saveAdapter(model, folder, { signal })).rejects.toMatchObject({ code: 'FOVEA_ABORTED' });
  });
});

describe('files that do not fit', () => {
  const prefix = 'base_model.model.transformer.h.0.attn.c_attn';
  type Tensors = Record<string, Tensor>;

  /** A copy of PEFT's adapter, changed. */
  async function changed(options: Record<string, unknown>, change: (tensors: Tensors) => Tensors): Promise<string> {
    const out = mkdtempSync(join(folder, 'changed-'));
    cpSync(join(golden, 'gpt2'), out, { recursive: true });
    const config = JSON.parse(readFileSync(join(out, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    writeFileSync(join(out, 'adapter_config.json'), JSON.stringify({ ...config, ...options }));
    const tensors = loadFile(join(golden, 'gpt2/adapter_model.safetensors'));
    await saveFile(change({ ...tensors }), join(out, 'adapter_model.safetensors'));
    return out;
  }
  const same = (tensors: Tensors): Tensors => tensors;

  it.each([
    [{ r: 3 }, same, 'FOVEA_FILE_FORMAT', /lora_A.weight has shape \[4,32\]; the model and r = 3 .* need \[3,32\]/],
    [
      {},
      (t: Tensors) => ({ ...t, [`${prefix}.lora_B.weight`]: zeros([32, 4]) }),
      'FOVEA_FILE_FORMAT',
      /lora_B.weight has shape \[32,4\]/,
    ],
    [
      {},
      (t: Tensors) => ({ ...t, [`${prefix}.lora_A.weight`]: tensor([[1]], { dtype: 'int32' }) }),
      'FOVEA_FILE_FORMAT',
      /lora_A.weight has dtype int32/,
    ],
    [
      {},
      (t: Tensors) => Object.fromEntries(Object.entries(t).filter(([key]) => key !== `${prefix}.lora_B.weight`)),
      'FOVEA_FILE_FORMAT',
      /lora_B of transformer\.h\.0\.attn\.c_attn is missing/,
    ],
    [
      {},
      (t: Tensors) => Object.fromEntries(Object.entries(t).filter(([key]) => !key.startsWith(prefix))),
      'FOVEA_FILE_FORMAT',
      /no term for transformer\.h\.0\.attn\.c_attn/,
    ],
    [{}, (t: Tensors) => ({ ...t, stranger: zeros([1]) }), 'FOVEA_FILE_FORMAT', /"stranger" must begin with/],
    [
      {},
      (t: Tensors) => ({ ...t, [`${prefix}.lora_magnitude_vector`]: zeros([1]) }),
      'FOVEA_FILE_FORMAT',
      /lora_magnitude_vector" is of no term/,
    ],
    [
      {},
      (t: Tensors) => ({ ...t, 'base_model.model.nowhere.lora_A.weight': zeros([4, 2]) }),
      'FOVEA_FILE_FORMAT',
      /nowhere is no module of the model/,
    ],
    [
      {},
      (t: Tensors) => ({ ...t, 'base_model.model.transformer.wte.lora_A.weight': zeros([4, 2]) }),
      'FOVEA_UNSUPPORTED',
      /wte is no linear layer/,
    ],
    [
      {},
      (t: Tensors) => ({ ...t, [`${prefix}.base_layer.bias`]: zeros([96]) }),
      'FOVEA_FILE_FORMAT',
      /holds biases, but bias .* is none/,
    ],
    [{}, () => ({ x: zeros([1]) }), 'FOVEA_FILE_FORMAT', /"x" must begin/],
    [{ peft_type: 'IA3' }, same, 'FOVEA_UNSUPPORTED', /peft_type is "IA3"/],
    [{ use_dora: true }, same, 'FOVEA_UNSUPPORTED', /use_dora is true/],
    [{ rank_pattern: { c_attn: 8 } }, same, 'FOVEA_UNSUPPORTED', /rank_pattern/],
    [{ modules_to_save: ['lm_head'] }, same, 'FOVEA_UNSUPPORTED', /modules_to_save/],
    [{ init_lora_weights: 'pissa' }, same, 'FOVEA_UNSUPPORTED', /init_lora_weights/],
    [{ bias: 'some' }, same, 'FOVEA_UNSUPPORTED', /bias is "some"/],
    [{ r: 0 }, same, 'FOVEA_UNSUPPORTED', /r is 0/],
    [{ lora_dropout: 2 }, same, 'FOVEA_UNSUPPORTED', /lora_dropout is 2/],
    [{ target_modules: 7 }, same, 'FOVEA_UNSUPPORTED', /target_modules is 7/],
    [{ an_invention: 1 }, same, 'FOVEA_UNSUPPORTED', /an_invention is not known/],
  ] as const)('%j: %#', async (options, change, code, message) => {
    const model = await base();
    const keys = Object.keys(model.stateDict());
    const path = await changed(options, change as (tensors: Tensors) => Tensors);
    await expect(loadAdapter(model, path)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
    expect(Object.keys(model.stateDict())).toEqual(keys);
    expect(model.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true);
  });

  it('an expression in place of names is not evaluated: the terms say where they belong', async () => {
    const model = await base();
    const path = await changed({ target_modules: '(a+)+$' }, same);
    expect(await loadAdapter(model, path)).toHaveLength(6);
  });

  it('an adapter of the model without its head loads', async () => {
    const model = await base();
    const path = await changed({}, (tensors) =>
      Object.fromEntries(Object.entries(tensors).map(([key, x]) => [key.replace('transformer.', ''), x])),
    );
    await loadAdapter(model, path);
    await expectClose('logits', logits(model).to('cpu'), expected['gpt2.output']!);
  });

  it('missing files, names that are taken, another model', async () => {
    const model = await base();
    await expect(loadAdapter(model, folder)).rejects.toMatchObject({ code: 'FOVEA_IO' });
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ peft_type: 'LORA', target_modules: ['x'] }));
    await expect(loadAdapter(model, folder)).rejects.toMatchObject({
      code: 'FOVEA_IO',
      message: expect.stringMatching(/holds no adapter_model\.safetensors/) as string,
    });
    await loadAdapter(model, join(golden, 'gpt2'));
    await expect(loadAdapter(model, join(golden, 'gpt2'))).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    await loadAdapter(model, join(golden, 'gpt2'), { adapterName: 'second' });
    nn.mergeAdapters(model);
    const third = loadAdapter(model, join(golden, 'gpt2'), { adapterName: 'third' });
    await expect(third).rejects.toMatchObject({ code: 'FOVEA_UNSUPPORTED' });
    const small = new GPT2LMHeadModel({ vocabSize: 9, nPositions: 8, nEmbd: 16, nLayer: 2, nHead: 2 });
    await expect(loadAdapter(small, join(golden, 'gpt2'))).rejects.toMatchObject({ code: 'FOVEA_FILE_FORMAT' });
    await expect(loadAdapter(3 as never, folder)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    await expect(loadAdapter(small, 3 as never)).rejects.toMatchObject({ code: 'FOVEA_ARGUMENT' });
    await expect(loadAdapter(small, folder, { trainable: true } as never)).rejects.toMatchObject({
      code: 'FOVEA_ARGUMENT',
    });
  });
});
