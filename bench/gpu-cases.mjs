// What bench/gpu.mjs times on a GPU, and bench/peers/torch_gpu.py too: plain data, so that both read the same sizes.
//
// `work` is what a call stands for, and `unit` how it is reported: floating-point operations as TFLOP/s, the fewest
// bytes that must be moved (each read and written once) as TB/s, tokens as tokens/s; 'ms' reports the time itself.
// `target` is for an H200: `atLeast` a rate, `atMost` a time, or a share of a peer's rate; `memory` says that bandwidth
// bounds it, so that another card's target is in proportion to its own bandwidth.

const bytesOf = { float32: 4, bfloat16: 2 };
const MEMORY = { atLeast: 3.4, memory: true };
/** Bytes per second of copies on an H200, in TB/s, that targets for memory are made for. */
export const H200_COPY = 4.3;

/** The shapes of GPT-2's parameters; the logits' weight is that of the embedding. */
export function gpt2Shapes({ vocabulary, width, layers, positions }) {
  const block = [
    [width, 3 * width],
    [3 * width],
    [width, width],
    [width],
    [width, 4 * width],
    [4 * width],
    [4 * width, width],
    [width],
    ...Array.from({ length: 4 }, () => [width]),
  ];
  const all = [[vocabulary, width], [positions, width], [width], [width]];
  for (let layer = 0; layer < layers; layer++) all.push(...block);
  return all;
}

function matmuls(size) {
  const product = (m, k, n, layout, dtype, rest) => ({
    id: `matmul ${dtype} ${m} x ${k} x ${n} ${layout}`,
    kind: 'matmul',
    m,
    k,
    n,
    layout,
    dtype,
    work: 2 * m * k * n,
    unit: 'TFLOP/s',
    target: { torch: 0.85 },
    ...rest,
  });
  const [large, middle] = [size(8192, 256), size(4096, 128)];
  const vector = (k, n) => product(1, k, n, 'NT', 'bfloat16', { work: 2 * k * n, unit: 'TB/s', target: MEMORY });
  return [
    product(large, large, large, 'NN', 'bfloat16'),
    product(large, large, large, 'NT', 'bfloat16'),
    product(large, large, large, 'TN', 'bfloat16'),
    product(middle, middle, middle, 'NN', 'bfloat16'),
    product(middle, middle, middle, 'NT', 'bfloat16'),
    product(middle, middle, middle, 'NN', 'float32'),
    product(size(8192, 64), size(768, 64), size(3072, 128), 'NN', 'bfloat16'),
    product(size(8192, 64), size(768, 64), size(50304, 512), 'NT', 'bfloat16'),
    vector(size(8192, 128), size(28672, 256)),
  ];
}

/** 16k tokens of a model of width 2048. */
function attentions(size) {
  const all = [];
  for (const d of [64, 128])
    for (const n of [size(2048, 128), size(8192, 256)])
      for (const causal of [false, true]) {
        const [b, h] = [Math.max(1, size(16384, 256) / n), size(2048 / d, 2)];
        const shape = { b, h, g: h, n, m: n, d, causal, dtype: 'bfloat16' };
        const flops = 4 * b * h * n * n * d * (causal ? 0.5 : 1);
        const name = `D ${d}, S ${n}, ${causal ? 'causal' : 'full'}`;
        all.push(
          {
            id: `attention ${name}`,
            kind: 'attention',
            ...shape,
            work: flops,
            unit: 'TFLOP/s',
            target: { cudnn: 0.7, flash: 1 },
          },
          {
            id: `attention backward ${name}`,
            kind: 'attentionBackward',
            ...shape,
            work: 2.5 * flops,
            unit: 'TFLOP/s',
            target: { flash: 1 },
          },
        );
      }
  return all;
}

/** One query per sequence and head over long caches of keys and values. */
function decodes(size) {
  return [
    { b: size(16, 2), h: size(32, 4), g: size(8, 2), m: size(32768, 300), d: 128 },
    { b: 1, h: size(32, 4), g: size(8, 2), m: size(131072, 600), d: 128 },
    { b: size(16, 2), h: size(12, 2), g: size(12, 2), m: size(16384, 300), d: 64 },
  ].map((shape) => ({
    id: `decode attention B ${shape.b}, H ${shape.h}/${shape.g}, D ${shape.d}, ${shape.m} keys`,
    kind: 'attention',
    ...shape,
    n: 1,
    causal: false,
    dtype: 'bfloat16',
    work: 2 * shape.b * shape.g * shape.m * shape.d * 2,
    unit: 'TB/s',
    target: MEMORY,
  }));
}

/** `passes`: how often the large tensor is read or written. */
function memoryBound(size) {
  const rows = (kind, op, [r, width], dtype, passes) => ({
    id: `${op}${kind.endsWith('Backward') ? ' backward' : ''} ${dtype} ${r} x ${width}`,
    kind,
    op,
    rows: r,
    width,
    dtype,
    work: passes * r * width * bytesOf[dtype],
    unit: 'TB/s',
    target: MEMORY,
  });
  const [wide, narrow, long] = [
    [size(65536, 32), size(4096, 512)],
    [size(349504, 32), size(768, 256)],
    [size(8192, 8), size(32768, 1024)],
  ];
  return [
    rows('copy', 'copy', wide, 'bfloat16', 2),
    rows('elementwise', 'add', wide, 'bfloat16', 3),
    rows('elementwise', 'add', wide, 'float32', 3),
    rows('elementwise', 'gelu', wide, 'bfloat16', 2),
    rows('elementwiseBackward', 'gelu', wide, 'bfloat16', 3),
    rows('rows', 'layerNorm', wide, 'bfloat16', 2),
    rows('rowsBackward', 'layerNorm', wide, 'bfloat16', 3),
    rows('rows', 'layerNorm', narrow, 'bfloat16', 2),
    rows('rowsBackward', 'layerNorm', narrow, 'bfloat16', 3),
    rows('rows', 'layerNorm', wide, 'float32', 2),
    rows('rowsBackward', 'layerNorm', wide, 'float32', 3),
    rows('rows', 'rmsNorm', wide, 'bfloat16', 2),
    rows('rowsBackward', 'rmsNorm', wide, 'bfloat16', 3),
    rows('rows', 'softmax', wide, 'bfloat16', 2),
    rows('rowsBackward', 'softmax', wide, 'bfloat16', 3),
    rows('rows', 'softmax', long, 'bfloat16', 2),
    rows('rows', 'sum', wide, 'bfloat16', 1),
  ];
}

function training(size) {
  const [tokens, vocabulary] = [size(32768, 64), size(50304, 512)];
  const model = {
    vocabulary,
    positions: size(1024, 64),
    width: size(768, 64),
    layers: size(12, 2),
    heads: size(12, 2),
    dtype: 'bfloat16',
  };
  const [batch, length] = [size(8, 2), size(1024, 32)];
  const [start, steps] = [size(512, 8), size(32, 4)];
  const shapes = gpt2Shapes(model);
  const parameters = shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return [
    {
      id: `crossEntropy forward + backward bfloat16 ${tokens} x ${vocabulary}`,
      kind: 'crossEntropy',
      rows: tokens,
      width: vocabulary,
      dtype: 'bfloat16',
      unit: 'ms',
      target: { atMost: 1.8, memory: true },
    },
    {
      id: `AdamW float32 ${(parameters / 1e6).toFixed(0)} M parameters`,
      kind: 'adamw',
      shapes,
      dtype: 'float32',
      unit: 'ms',
      target: { atMost: 1.1, memory: true },
    },
    {
      id: `GPT-2 training step ${batch} x ${length}`,
      kind: 'train',
      ...model,
      batch,
      length,
      work: batch * length,
      unit: 'tokens/s',
      target: { atLeast: 300e3 },
    },
    {
      id: `GPT-2 decode step, batch 1, from ${start} on`,
      kind: 'decode',
      ...model,
      start,
      steps,
      unit: 'ms',
      target: { atMost: 0.15 },
    },
    {
      id: `GPT-2 generate, batch 1, from ${start} on, per token`,
      kind: 'generate',
      ...model,
      start,
      steps: 4 * steps,
      unit: 'ms',
      target: {},
    },
  ];
}

/** All cases. @param tiny sizes for an emulated device, on which only running matters */
export function gpuCases(tiny = false) {
  const size = (full, small) => (tiny ? small : full);
  return [...memoryBound(size), ...matmuls(size), ...attentions(size), ...decodes(size), ...training(size)];
}
