// Writes GPT-2 with random weights as a GGUF file for llama.cpp:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A file is a header, named values, a list of tensors with
// their offsets, and the tensors, each at a multiple of 32 bytes.
import { closeSync, openSync, writeSync } from 'node:fs';
import { randomNumbers } from './random.mjs';

const alignment = 32;
const types = {
  float32: { id: 0, size: 4 },
  float16: { id: 1, size: 2 },
  bfloat16: { id: 30, size: 2 },
};

const u32 = (value) => {
  const made = Buffer.alloc(4);
  made.writeUInt32LE(value);
  return made;
};
const u64 = (value) => {
  const made = Buffer.alloc(8);
  made.writeBigUInt64LE(BigInt(value));
  return made;
};
const f32 = (value) => {
  const made = Buffer.alloc(4);
  made.writeFloatLE(value);
  return made;
};
const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const count = (value) => Buffer.concat([u32(4), u32(value)]);
const real = (value) => Buffer.concat([u32(6), f32(value)]);
const string = (value) => Buffer.concat([u32(8), text(value)]);
const list = (type, items) => Buffer.concat([u32(9), u32(type), u64(items.length), ...items]);

/** A vocabulary that is never used: the case gives tokens. The first is a line feed, which the loader looks for. */
function metadata({ vocabulary, positions, width, layers, heads }) {
  const tokens = Array.from({ length: vocabulary }, (_, i) => text(i === 0 ? 'Ċ' : `t${i}`));
  return {
    'general.architecture': string('gpt2'),
    'gpt2.context_length': count(positions),
    'gpt2.embedding_length': count(width),
    'gpt2.block_count': count(layers),
    'gpt2.feed_forward_length': count(4 * width),
    'gpt2.attention.head_count': count(heads),
    'gpt2.attention.layer_norm_epsilon': real(1e-5),
    'tokenizer.ggml.model': string('gpt2'),
    'tokenizer.ggml.pre': string('gpt-2'),
    'tokenizer.ggml.tokens': list(8, tokens),
    'tokenizer.ggml.token_type': list(
      5,
      tokens.map(() => u32(1)),
    ),
    'tokenizer.ggml.merges': list(8, [text('t 1')]),
    'tokenizer.ggml.bos_token_id': count(vocabulary - 1),
    'tokenizer.ggml.eos_token_id': count(vocabulary - 1),
  };
}

/**
 * [name, sizes from the innermost] of all tensors; vectors and positions are float32, as llama.cpp's own files have
 * them.
 */
function tensors({ vocabulary, positions, width, layers }) {
  const norm = (name) => [
    [`${name}.weight`, [width]],
    [`${name}.bias`, [width]],
  ];
  const linear = (name, inputs, outputs) => [
    [`${name}.weight`, [inputs, outputs]],
    [`${name}.bias`, [outputs]],
  ];
  const block = (i) => [
    ...norm(`blk.${i}.attn_norm`),
    ...linear(`blk.${i}.attn_qkv`, width, 3 * width),
    ...linear(`blk.${i}.attn_output`, width, width),
    ...norm(`blk.${i}.ffn_norm`),
    ...linear(`blk.${i}.ffn_up`, width, 4 * width),
    ...linear(`blk.${i}.ffn_down`, 4 * width, width),
  ];
  return [
    ['token_embd.weight', [width, vocabulary]],
    ['position_embd.weight', [width, positions]],
    ...norm('output_norm'),
    ...Array.from({ length: layers }, (_, i) => block(i)).flat(),
  ];
}

/** Random weights of about 0.01 in size; of 16 bits, those whose exponent is that and whose other bits are any. */
function weights(dtype, size) {
  if (dtype === 'float32') return randomNumbers(size, 0.02);
  const exponent = dtype === 'float16' ? 8 << 10 : 120 << 7;
  const mantissa = dtype === 'float16' ? 0x83ff : 0x807f;
  return Uint16Array.from(randomNumbers(size, 0x7fff), (x) => (x & mantissa) | exponent);
}

/** Writes the model. @param dtype of its matrices: float32, float16 or bfloat16 */
export function writeGpt2(path, model, dtype) {
  const file = openSync(path, 'w');
  let written = 0;
  const put = (bytes) => (written += writeSync(file, bytes));
  const values = Object.entries(metadata(model));
  const all = tensors(model).map(([name, dims]) => {
    const narrow = dims.length > 1 && !name.startsWith('position');
    return { name, dims, dtype: narrow ? dtype : 'float32', size: dims.reduce((a, b) => a * b, 1) };
  });
  put(Buffer.concat([Buffer.from('GGUF'), u32(3), u64(all.length), u64(values.length)]));
  for (const [name, value] of values) put(Buffer.concat([text(name), value]));
  const padded = (length) => Math.ceil(length / alignment) * alignment;
  let offset = 0;
  for (const { name, dims, dtype: type, size } of all) {
    put(Buffer.concat([text(name), u32(dims.length), ...dims.map(u64), u32(types[type].id), u64(offset)]));
    offset += padded(size * types[type].size);
  }
  for (const { dtype: type, size } of all) {
    put(Buffer.alloc(padded(written) - written));
    put(weights(type, size));
  }
  put(Buffer.alloc(padded(written) - written));
  closeSync(file);
}
