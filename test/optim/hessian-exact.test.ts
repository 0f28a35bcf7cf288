// The estimators of the Hessian's diagonal without chance: the mean over every draw that there is, by its probability,
// is the diagonal itself, off-diagonal elements and all.
import { type Dtype, functional as F, nn, type Tensor, tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
// The random part is beside these; users draw.
import { alongVectors, squaredSlopes } from '../../dist/optim/hessian.js';
import { device, list } from '../helpers.js';

const wave = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.round(64 * Math.sin(1.7 * i * i + 2.3 * i + seed)) / 64);
const make = (values: number[], shape: number[], dtype: Dtype): Tensor => tensor(values, { shape, dtype, device });
const dtypes = [
  ['float64', 1e-12],
  ['float32', 1e-6],
] as const;
/** The largest difference, in units of the largest value. */
const off = (found: number[], exact: number[]): number =>
  Math.max(...found.map((v, i) => Math.abs(v - exact[i]!))) / Math.max(...exact.map(Math.abs));

describe('hutchinson over all signs', () => {
  // f(z) = Σ c sin(W z), whose second derivatives are -Σ c sin(W z) w_i w_j: none is 0. z is two parameters.
  const [terms, sizes] = [5, [6, 4]] as const;
  const n = 10;
  const [z, w, c] = [wave(n, 1), wave(terms * n, 2), wave(terms, 3)];
  const second = (i: number, j: number): number => {
    let sum = 0;
    for (let t = 0; t < terms; t++) {
      const row = w.slice(t * n, (t + 1) * n);
      const at = row.reduce((total, v, k) => total + v * z[k]!, 0);
      sum -= c[t]! * Math.sin(at) * row[i]! * row[j]!;
    }
    return sum;
  };
  const exact = z.map((_, i) => second(i, i));

  it.each(dtypes)('is the exact diagonal in %s', (dtype, allowed) => {
    const params = [
      nn.parameter(make(z.slice(0, sizes[0]), [2, 3], dtype)),
      nn.parameter(make(z.slice(sizes[0]), [4], dtype)),
    ];
    const columns = (from: number, to: number): Tensor =>
      make(
        Array.from({ length: terms }, (_, t) => w.slice(t * n + from, t * n + to)).flat(),
        [terms, to - from],
        dtype,
      );
    const [first, other] = [columns(0, sizes[0]), columns(sizes[0], n)];
    const weights = make(c, [terms], dtype);
    const loss = (): Tensor =>
      first
        .matmul(params[0]!.reshape([sizes[0]]))
        .add(other.matmul(params[1]!))
        .sin()
        .mul(weights)
        .sum();
    const mean = exact.map(() => 0);
    let [most, one] = [0, [] as number[]];
    for (let signs = 0; signs < 2 ** n; signs++)
      tidy(() => {
        const u = z.map((_, i) => ((signs >> i) & 1 ? 1 : -1));
        const vectors = [make(u.slice(0, sizes[0]), [2, 3], dtype), make(u.slice(sizes[0]), [4], dtype)];
        one = alongVectors(loss(), params, (_, place) => vectors[place]!, false).flatMap(list);
        one.forEach((v, i) => (mean[i]! += v / 2 ** n));
        most = Math.max(most, off(one, exact));
      });
    expect(off(mean, exact)).toBeLessThan(allowed);
    // One draw is far off, so it is the mean that is right.
    expect(most).toBeGreaterThan(0.5);
  });
});

describe('gaussNewtonBartlett over all labels', () => {
  // logits = tanh(x V) W: of logit c, d / d W_hc = t_h and d / d V_ih = W_hc (1 - t_h²) x_i; the diagonal of the
  // Gauss-Newton matrix of the mean cross entropy is 1 / n Σ over rows of Σ_c p_c J_c² - (Σ_c p_c J_c)².
  const [rows, width, hidden, classes] = [3, 2, 3, 3];
  const [x, v, w] = [wave(rows * width, 4), wave(width * hidden, 5), wave(hidden * classes, 6)];
  const each = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));
  const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);
  const models = each(rows, (r) => {
    const t = each(hidden, (h) => Math.tanh(sum(each(width, (i) => x[r * width + i]! * v[i * hidden + h]!))));
    const powers = each(classes, (k) => Math.exp(sum(each(hidden, (h) => t[h]! * w[h * classes + k]!))));
    const p = powers.map((power) => power / sum(powers));
    const ofV = each(width * hidden, (at) => {
      const [i, h] = [Math.floor(at / hidden), at % hidden];
      return each(classes, (k) => w[h * classes + k]! * (1 - t[h]! ** 2) * x[r * width + i]!);
    });
    const ofW = each(hidden * classes, (at) =>
      each(classes, (k) => (k === at % classes ? t[Math.floor(at / classes)]! : 0)),
    );
    const slopes = [...ofV, ...ofW];
    const variance = (j: number[]): number =>
      sum(j.map((s, k) => p[k]! * s * s)) - sum(j.map((s, k) => p[k]! * s)) ** 2;
    return { p, diagonal: slopes.map(variance) };
  });
  const exact = models[0]!.diagonal.map((_, i) => sum(models.map(({ diagonal }) => diagonal[i]!)) / rows);

  it.each(dtypes)('is the exact diagonal of the Gauss-Newton matrix in %s', (dtype, allowed) => {
    const params = [
      nn.parameter(make(v, [width, hidden], dtype)),
      nn.parameter(make(w, [hidden, classes], dtype)),
    ] as const;
    const input = make(x, [rows, width], dtype);
    const mean = exact.map(() => 0);
    let [most, total] = [0, 0];
    for (let draw = 0; draw < classes ** rows; draw++)
      tidy(() => {
        const labels = each(rows, (r) => Math.floor(draw / classes ** r) % classes);
        const probability = labels.reduce((product, label, r) => product * models[r]!.p[label]!, 1);
        const logits = F.tanh(input.matmul(params[0])).matmul(params[1]);
        const one = squaredSlopes(logits, make(labels, [rows], 'int64'), params, false).flatMap(list);
        one.forEach((value, i) => (mean[i]! += probability * value));
        most = Math.max(most, off(one, exact));
        total += probability;
      });
    expect(total).toBeCloseTo(1, 12);
    expect(off(mean, exact)).toBeLessThan(allowed);
    expect(most).toBeGreaterThan(0.5);
  });
});
