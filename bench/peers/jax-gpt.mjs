// A training step of GPT-2 in jax-js: loss and gradients compiled as one function, then AdamW on each parameter. Labels
// are the tokens themselves, which is as much work as those that follow.
import { randomIndices, randomNumbers } from './random.mjs';

const epsilon = 1e-5;

function makeWeights(np, { vocabulary, positions, width, layers }) {
  const normal = (...dims) =>
    np
      .array(
        randomNumbers(
          dims.reduce((a, b) => a * b, 1),
          0.035,
        ),
      )
      .reshape(dims);
  const weights = { tokens: normal(vocabulary, width), places: normal(positions, width) };
  const norm = (name) =>
    Object.assign(weights, { [`${name}Scale`]: np.ones([width]), [`${name}Shift`]: np.zeros([width]) });
  const linear = (name, inputs, outputs) =>
    Object.assign(weights, { [`${name}Weight`]: normal(inputs, outputs), [`${name}Bias`]: np.zeros([outputs]) });
  norm('last');
  for (let layer = 0; layer < layers; layer++) {
    norm(`first${layer}`);
    linear(`qkv${layer}`, width, 3 * width);
    linear(`projection${layer}`, width, width);
    norm(`second${layer}`);
    linear(`up${layer}`, width, 4 * width);
    linear(`down${layer}`, 4 * width, width);
  }
  return weights;
}

/** @returns the mean cross entropy of weights `w` for tokens as one-hot rows [batch · length, vocabulary] */
function lossOf({ numpy: np, nn }, { model, batch, length }) {
  const { width, layers, heads } = model;
  const norm = (x, w, name) => {
    const centred = x.ref.sub(x.mean(-1, { keepdims: true }));
    const variance = np.square(centred.ref).mean(-1, { keepdims: true });
    return centred
      .div(np.sqrt(variance.add(epsilon)))
      .mul(w[`${name}Scale`])
      .add(w[`${name}Shift`]);
  };
  const linear = (x, w, name) => np.matmul(x, w[`${name}Weight`]).add(w[`${name}Bias`]);
  const attend = (x, w, layer) => {
    const qkv = linear(x, w, `qkv${layer}`).reshape([batch, length, 3, heads, width / heads]);
    const [q, k] = [0, 1].map((i) => qkv.ref.slice([], [], i));
    const attended = nn.dotProductAttention(q, k, qkv.slice([], [], 2), { isCausal: true });
    return linear(attended.reshape([batch, length, width]), w, `projection${layer}`);
  };
  return (w, hot) => {
    let x = np
      .matmul(hot.ref, w.tokens.ref)
      .reshape([batch, length, width])
      .add(w.places.slice([0, length]));
    for (let layer = 0; layer < layers; layer++) {
      x = x.ref.add(attend(norm(x, w, `first${layer}`), w, layer));
      const hidden = nn.gelu(linear(norm(x.ref, w, `second${layer}`), w, `up${layer}`));
      x = x.add(linear(hidden, w, `down${layer}`));
    }
    const rows = norm(x, w, 'last').reshape([batch * length, width]);
    const logits = np.matmul(rows, w.tokens.transpose());
    return nn
      .logSoftmax(logits, -1)
      .mul(hot)
      .sum()
      .mul(-1 / (batch * length));
  };
}

/** AdamW of one parameter: [the parameter, its first moment, its second]. */
function update({ numpy: np, jit }) {
  return jit((p, m, v, g) => {
    const first = m.mul(0.9).add(g.ref.mul(0.1));
    const second = v.mul(0.999).add(np.square(g).mul(0.001));
    const step = first.ref.mul(1e-4).div(np.sqrt(second.ref).add(1e-8));
    return [p.mul(1 - 1e-6).sub(step), first, second];
  });
}

/** @returns `step()`, which gives the loss, and `release()` */
export function makeTraining(jax, test) {
  const { numpy: np, jit, valueAndGrad } = jax;
  const { vocabulary } = test.model;
  const rows = test.batch * test.length;
  const oneHot = new Float32Array(rows * vocabulary);
  for (const [row, token] of randomIndices(rows, vocabulary).entries()) oneHot[row * vocabulary + token] = 1;
  const hot = np.array(oneHot).reshape([rows, vocabulary]);
  const gradients = jit(valueAndGrad(lossOf(jax, test)));
  const adamw = update(jax);
  const state = Object.entries(makeWeights(np, test.model)).map(([name, p]) => ({
    name,
    p,
    m: np.zeros(p.shape),
    v: np.zeros(p.shape),
  }));

  const step = async () => {
    const [loss, g] = gradients(Object.fromEntries(state.map(({ name, p }) => [name, p.ref])), hot.ref);
    for (const one of state) [one.p, one.m, one.v] = adamw(one.p, one.m, one.v, g[one.name]);
    for (const { p } of state) await p.blockUntilReady();
    return (await loss.data())[0];
  };
  const release = () => {
    for (const array of [hot, ...state.flatMap(({ p, m, v }) => [p, m, v])]) array.dispose();
  };
  return { step, release };
}
