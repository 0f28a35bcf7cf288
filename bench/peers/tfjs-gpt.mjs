// GPT-2 in the ops of TensorFlow.js, with random weights and without dropout.

/** @returns `weights`; `forward(ids, { cache, last })`, which gives `logits` and the new `cache`; `loss(ids)` */
export function makeGpt(tf, { vocabulary, positions, width, layers, heads }) {
  const size = width / heads;
  const normal = (...dims) => tf.variable(tf.randomNormal(dims, 0, 0.02));
  const zeros = (n) => tf.variable(tf.zeros([n]));
  const norm = () => [tf.variable(tf.ones([width])), zeros(width)];
  const linear = (inputs, outputs) => [normal(inputs, outputs), zeros(outputs)];
  const embedding = normal(vocabulary, width);
  const places = normal(positions, width);
  const lastNorm = norm();
  const blocks = Array.from({ length: layers }, () => ({
    norm1: norm(),
    qkv: linear(width, 3 * width),
    projection: linear(width, width),
    norm2: norm(),
    up: linear(width, 4 * width),
    down: linear(4 * width, width),
  }));

  const normalised = (x, [scale, shift]) => {
    const { mean, variance } = tf.moments(x, -1, true);
    return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-5))), scale), shift);
  };
  const applied = (x, [weight, bias]) => {
    const rows = tf.reshape(x, [-1, x.shape.at(-1)]);
    return tf.reshape(tf.add(tf.matMul(rows, weight), bias), [...x.shape.slice(0, -1), bias.shape[0]]);
  };
  // The tanh approximation: x / 2 · (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))).
  const gelu = (x) => {
    const cubic = tf.mul(tf.mul(x, x), tf.mul(x, 0.044715));
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(tf.add(x, cubic), Math.sqrt(2 / Math.PI))), 1));
  };

  function attend(x, block, past) {
    const [b, n] = x.shape;
    const split = tf.split(applied(x, block.qkv), 3, -1);
    const [q, newK, newV] = split.map((t) => tf.transpose(tf.reshape(t, [b, n, heads, size]), [0, 2, 1, 3]));
    const [k, v] = past ? [tf.concat([past[0], newK], 2), tf.concat([past[1], newV], 2)] : [newK, newV];
    let scores = tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(size));
    if (n > 1) scores = tf.add(scores, tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([n, n]), -1, 0)), -1e9));
    const merged = tf.reshape(tf.transpose(tf.matMul(tf.softmax(scores), v), [0, 2, 1, 3]), [b, n, width]);
    return { attended: applied(merged, block.projection), kept: [k, v] };
  }

  /** @param embedded [b, n, width] @param past keys and values by layer */
  function run(embedded, past) {
    let x = embedded;
    const cache = blocks.map((block, layer) => {
      const { attended, kept } = attend(normalised(x, block.norm1), block, past?.[layer]);
      x = tf.add(x, attended);
      x = tf.add(x, applied(gelu(applied(normalised(x, block.norm2), block.up)), block.down));
      return kept;
    });
    return { x: normalised(x, lastNorm), cache };
  }

  function forward(ids, { cache: past, last = false } = {}) {
    const [b, n] = ids.shape;
    const start = past ? past[0][0].shape[2] : 0;
    const tokens = tf.reshape(tf.gather(embedding, tf.reshape(ids, [-1])), [b, n, width]);
    const { x, cache } = run(tf.add(tokens, tf.slice(places, [start, 0], [n, width])), past);
    const rows = last ? tf.slice(x, [0, n - 1, 0], [b, 1, width]) : x;
    return { logits: tf.matMul(tf.reshape(rows, [-1, width]), embedding, false, true), cache };
  }

  /**
   * Mean cross entropy of the tokens themselves, which is as much work as of those that follow. The embedding is a
   * product with one-hot rows, since the backend has no gradient of gather.
   */
  function loss(ids) {
    const [b, n] = ids.shape;
    const hot = tf.oneHot(tf.reshape(ids, [-1]), vocabulary).toFloat();
    const tokens = tf.reshape(tf.matMul(hot, embedding), [b, n, width]);
    const { x } = run(tf.add(tokens, tf.slice(places, [0, 0], [n, width])));
    const logits = tf.matMul(tf.reshape(x, [-1, width]), embedding, false, true);
    return tf.neg(tf.mean(tf.sum(tf.mul(hot, tf.logSoftmax(logits)), -1)));
  }

  const ofBlocks = blocks.flatMap((block) => Object.values(block).flat());
  return { weights: [embedding, places, ...lastNorm, ...ofBlocks], forward, loss };
}
