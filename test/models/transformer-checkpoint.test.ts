// Saving the transformer of the paper and loading it: the same options, the same bits, and errors that name the file.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { manualSeed, nn, noGrad } from 'fovea';
import { GPT2LMHeadModel, load, Seq2SeqTransformer } from 'fovea/models';
import { afterAll, describe, expect, it } from 'vitest';
import { list } from '../helpers.js';
import { batchOf, rowsOf, vocabSize } from './number-words.js';

const root = mkdtempSync(join(tmpdir(), 'fovea-transformer-'));
afterAll(() => rmSync(root, { recursive: true }));

const sizes = { vocabSize, dModel: 12, nHead: 3, numEncoderLayers: 2, numDecoderLayers: 1, dimFeedforward: 20 };
const others = {
  activation: 'gelu',
  dropout: 0.25,
  normFirst: true,
  tieWordEmbeddings: false,
  labelSmoothing: 0,
  padTokenId: 3,
  bosTokenId: 4,
  eosTokenId: 1,
};
const make = (options = {}): Seq2SeqTransformer => {
  manualSeed(7);
  return new Seq2SeqTransformer({ ...sizes, ...options });
};
const read = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;

describe('a checkpoint', () => {
  it.each([
    ['tied', {}],
    ['apart', others],
  ])('%s gives the same model', async (name, options) => {
    const folder = join(root, name);
    using model = make(options).eval();
    await model.savePretrained(folder);
    expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors']);
    using loaded = await Seq2SeqTransformer.fromPretrained(folder);
    expect(loaded.config).toEqual(model.config);
    expect(loaded.training).toBe(false);
    const { inputIds, decoderInputIds } = batchOf([7, 1234, 90]);
    const logits = (one: Seq2SeqTransformer): number[] =>
      list(noGrad(() => one.forward({ inputIds, decoderInputIds }).logits));
    expect(logits(loaded)).toEqual(logits(model));
    const said = async (one: Seq2SeqTransformer): Promise<number[][]> =>
      rowsOf(await one.generate({ inputIds, numBeams: 2, maxNewTokens: 5 }));
    expect(await said(loaded)).toEqual(await said(model));
  });

  it('has the options in snake_case, and says what it is', async () => {
    const folder = join(root, 'named');
    using model = make();
    await model.savePretrained(folder);
    expect(read(folder)).toEqual({
      activation: 'relu',
      architectures: ['Seq2SeqTransformer'],
      bos_token_id: 1,
      d_model: 12,
      dim_feedforward: 20,
      dropout: 0.1,
      dtype: 'float32',
      eos_token_id: 2,
      is_encoder_decoder: true,
      label_smoothing: 0.1,
      model_type: 'transformer',
      n_head: 3,
      norm_first: false,
      num_decoder_layers: 1,
      num_encoder_layers: 2,
      pad_token_id: 0,
      tie_word_embeddings: true,
      vocab_size: vocabSize,
    });
  });

  it('may be converted and copied as it is read, which tells how far it is', async () => {
    const folder = join(root, 'converted');
    using model = make();
    await model.savePretrained(folder);
    const seen: number[] = [];
    const onProgress = ({ loadedBytes, totalBytes }: { loadedBytes: number; totalBytes: number }): void => {
      seen.push(loadedBytes / totalBytes);
    };
    using loaded = await Seq2SeqTransformer.fromPretrained(folder, { dtype: 'bfloat16', mmap: false, onProgress });
    expect(loaded.parameters().every(({ dtype }) => dtype === 'bfloat16')).toBe(true);
    expect(seen).toHaveLength(Object.keys(model.stateDict()).length);
    expect(seen.at(-1)).toBe(1);
    await loaded.savePretrained(folder);
    expect(read(folder)['dtype']).toBe('bfloat16');
  });

  it('needs vocab_size alone; the rest has defaults', async () => {
    const folder = join(root, 'defaults');
    using model = new Seq2SeqTransformer({ vocabSize: 5, numEncoderLayers: 1, numDecoderLayers: 1, dimFeedforward: 4 });
    await model.savePretrained(folder);
    const few = { model_type: 'transformer', vocab_size: 5, num_encoder_layers: 1, num_decoder_layers: 1 };
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...few, dim_feedforward: 4 }));
    using loaded = await Seq2SeqTransformer.fromPretrained(folder);
    expect(loaded.config).toEqual(model.config);
  });
});

describe('what is wrong is named', () => {
  const folder = join(root, 'wrong');
  const edited = async (edit: object): Promise<string> => {
    using model = make();
    await model.savePretrained(folder);
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...read(folder), ...edit }));
    return folder;
  };
  it.each([
    [{ d_model: 0 }, 'FOVEA_UNSUPPORTED', /^load: .*config\.json: d_model is 0; expected a whole number of at least 1/],
    [{ vocab_size: undefined }, 'FOVEA_UNSUPPORTED', /config\.json: vocab_size is undefined; expected a whole number/],
    [{ n_head: 5 }, 'FOVEA_ARGUMENT', /^load: .*config\.json: expected a divisor of dModel \(12\) for nHead, received/],
    [{ activation: 'sine' }, 'FOVEA_UNSUPPORTED', /config\.json: activation.*sine/],
    [{ label_smoothing: 1 }, 'FOVEA_ARGUMENT', /config\.json: .*labelSmoothing/],
    [{ eos_token_id: 1 }, 'FOVEA_ARGUMENT', /config\.json: .*eosTokenId/],
    [{ tie_word_embeddings: 1 }, 'FOVEA_UNSUPPORTED', /tie_word_embeddings is 1; expected true or false/],
    [{ is_encoder_decoder: false }, 'FOVEA_UNSUPPORTED', /is_encoder_decoder is false; expected true or null/],
    [{ rope_theta: 1e4 }, 'FOVEA_UNSUPPORTED', /the option rope_theta is not known for this model/],
    [{ architectures: ['T5'] }, 'FOVEA_UNSUPPORTED', /architectures is \["T5"\]; expected \["Seq2SeqTransformer"\]/],
    [{ model_type: 't5' }, 'FOVEA_UNSUPPORTED', /model_type is "t5"; expected "transformer"; other models/],
    [{ num_encoder_layers: 3 }, 'FOVEA_FILE_FORMAT', /^load: the weights in .*wrong do not fit its config\.json/],
    [{ tie_word_embeddings: false }, 'FOVEA_FILE_FORMAT', /do not fit its config\.json: .*lm_head\.weight/],
  ])('%j', async (edit, code, message) => {
    const error = await Seq2SeqTransformer.fromPretrained(await edited(edit)).catch((e: unknown) => e);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
  });

  it('each kind of model is loaded by its own function', async () => {
    await expect(load(await edited({}))).rejects.toThrow(
      /^load: .*config\.json: this is an encoder and a decoder; use Seq2SeqTransformer\.fromPretrained$/,
    );
    const other = join(root, 'gpt2');
    using gpt2 = new GPT2LMHeadModel({ vocabSize: 5, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 });
    await gpt2.savePretrained(other);
    await expect(Seq2SeqTransformer.fromPretrained(other)).rejects.toThrow(/model_type is "gpt2"; .*function load$/);
  });

  it('arguments, files, cancellation, adapters', async () => {
    const op = 'Seq2SeqTransformer.fromPretrained';
    await expect(Seq2SeqTransformer.fromPretrained(3 as never)).rejects.toThrow(`${op}: expected the path`);
    await expect(Seq2SeqTransformer.fromPretrained('x', { to: 1 } as never)).rejects.toThrow(`${op}: expected only`);
    await expect(Seq2SeqTransformer.fromPretrained('x', { device: 'tpu' as never })).rejects.toThrow(`${op}: `);
    const empty = join(root, 'empty');
    mkdirSync(empty);
    await expect(Seq2SeqTransformer.fromPretrained(empty)).rejects.toMatchObject({ code: 'FOVEA_IO' });
    const signal = AbortSignal.abort();
    const aborted = { code: 'FOVEA_ABORTED' };
    await expect(Seq2SeqTransformer.fromPretrained(await edited({}), { signal })).rejects.toMatchObject(aborted);
    using model = make();
    await expect(model.savePretrained(join(root, 'aborted'), { signal })).rejects.toMatchObject(aborted);
    nn.addAdapter(model, { targetModules: 'all-linear' });
    await expect(model.savePretrained(folder)).rejects.toThrow(/savePretrained: the model has adapters/);
  });
});
