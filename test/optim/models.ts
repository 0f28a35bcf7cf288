// Optimizers in plain numbers, from their formulas: a model is made of the options and of a parameter's shape, and
// step(p, g) gives the next parameter. They share nothing with the library.

export type Model = (p: number[], g: number[]) => number[];
export type Options = Record<string, unknown>;
type Numbers = Record<string, number>;

const each = (n: number, of: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => of(i));
const zerosOf = (n: number): number[] => each(n, () => 0);
/** The gradient as the formulas take it: negated to ascend, with weight decay added where it is not decoupled. */
const decayed = (p: number[], g: number[], { weightDecay = 0 }: Numbers, maximize: boolean, add = true): number[] =>
  g.map((v, i) => (maximize ? -v : v) + (add ? weightDecay * p[i]! : 0));

/** m and v of Adam's family, and how many steps they saw. */
class Averages {
  step = 0;
  readonly m: number[];
  readonly v: number[];
  constructor(n: number) {
    this.m = zerosOf(n);
    this.v = zerosOf(n);
  }
  add(g: number[], [b1, b2]: readonly number[]): void {
    this.step++;
    g.forEach((x, i) => {
      this.m[i] = b1! * this.m[i]! + (1 - b1!) * x;
      this.v[i] = b2! * this.v[i]! + (1 - b2!) * x * x;
    });
  }
}
const betasOf = (options: Options, otherwise = [0.9, 0.999]): readonly [number, number] =>
  (options['betas'] ?? otherwise) as [number, number];

const adam =
  (decoupled: boolean) =>
  (options: Options, [n]: readonly [number]): Model => {
    const { lr = 1e-3, eps = 1e-8, weightDecay = decoupled ? 0.01 : 0 } = options as Numbers;
    const { amsgrad = false, maximize = false } = options as Record<string, boolean>;
    const [b1, b2] = betasOf(options);
    const averages = new Averages(n);
    const largest = zerosOf(n);
    return (p, g) => {
      averages.add(decayed(p, g, { weightDecay }, maximize, !decoupled), [b1, b2]);
      const { m, v, step } = averages;
      return p.map((x, i) => {
        largest[i] = Math.max(largest[i]!, v[i]!);
        const square = (amsgrad ? largest[i]! : v[i]!) / (1 - b2 ** step);
        return (
          (decoupled ? x * (1 - lr * weightDecay) : x) - (lr * m[i]!) / (1 - b1 ** step) / (Math.sqrt(square) + eps)
        );
      });
    };
  };

const radam = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 1e-3, eps = 1e-8, weightDecay = 0 } = options as Numbers;
  const { decoupledWeightDecay = false, maximize = false } = options as Record<string, boolean>;
  const [b1, b2] = betasOf(options);
  const averages = new Averages(n);
  return (p, g) => {
    averages.add(decayed(p, g, { weightDecay }, maximize, !decoupledWeightDecay), [b1, b2]);
    const { m, v, step } = averages;
    const most = 2 / (1 - b2) - 1;
    const length = most - (2 * step * b2 ** step) / (1 - b2 ** step);
    const factor = ((length - 4) * (length - 2) * most) / ((most - 4) * (most - 2) * length);
    return p.map((x, i) => {
      const mean = m[i]! / (1 - b1 ** step);
      const adaptive = length > 5 ? (Math.sqrt(factor) * Math.sqrt(1 - b2 ** step)) / (Math.sqrt(v[i]!) + eps) : 1;
      return (decoupledWeightDecay ? x * (1 - lr * weightDecay) : x) - lr * mean * adaptive;
    });
  };
};

const nadam = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 2e-3, eps = 1e-8, weightDecay = 0, momentumDecay = 4e-3 } = options as Numbers;
  const { decoupledWeightDecay = false, maximize = false } = options as Record<string, boolean>;
  const [b1, b2] = betasOf(options);
  const averages = new Averages(n);
  let product = 1;
  return (p, g) => {
    const gradient = decayed(p, g, { weightDecay }, maximize, !decoupledWeightDecay);
    averages.add(gradient, [b1, b2]);
    const { m, v, step } = averages;
    const now = b1 * (1 - 0.96 ** (step * momentumDecay) / 2);
    const next = b1 * (1 - 0.96 ** ((step + 1) * momentumDecay) / 2);
    product *= now;
    return p.map((x, i) => {
      const change = ((1 - now) * gradient[i]!) / (1 - product) + (next * m[i]!) / (1 - product * next);
      const root = Math.sqrt(v[i]! / (1 - b2 ** step)) + eps;
      return (decoupledWeightDecay ? x * (1 - lr * weightDecay) : x) - (lr * change) / root;
    });
  };
};

const adagrad = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 1e-2, lrDecay = 0, eps = 1e-10, weightDecay = 0, initialAccumulatorValue = 0 } = options as Numbers;
  const sum = each(n, () => initialAccumulatorValue);
  let step = 0;
  return (p, g) => {
    const rate = lr / (1 + step++ * lrDecay);
    const gradient = decayed(p, g, { weightDecay }, Boolean(options['maximize']));
    return p.map((x, i) => {
      sum[i]! += gradient[i]! ** 2;
      return x - (rate * gradient[i]!) / (Math.sqrt(sum[i]!) + eps);
    });
  };
};

const rmsprop = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 1e-2, alpha = 0.99, eps = 1e-8, weightDecay = 0, momentum = 0 } = options as Numbers;
  const [squares, means, buffer] = [zerosOf(n), zerosOf(n), zerosOf(n)];
  return (p, g) => {
    const gradient = decayed(p, g, { weightDecay }, Boolean(options['maximize']));
    return p.map((x, i) => {
      const d = gradient[i]!;
      squares[i] = alpha * squares[i]! + (1 - alpha) * d * d;
      means[i] = alpha * means[i]! + (1 - alpha) * d;
      const variance = squares[i]! - (options['centered'] ? means[i]! ** 2 : 0);
      buffer[i] = momentum * buffer[i]! + d / (Math.sqrt(variance) + eps);
      return x - lr * buffer[i]!;
    });
  };
};

const lion = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 1e-4, weightDecay = 0 } = options as Numbers;
  const [b1, b2] = betasOf(options, [0.9, 0.99]);
  const m = zerosOf(n);
  return (p, g) => {
    const gradient = decayed(p, g, {}, Boolean(options['maximize']));
    return p.map((x, i) => {
      const direction = Math.sign(b1 * m[i]! + (1 - b1) * gradient[i]!);
      m[i] = b2 * m[i]! + (1 - b2) * gradient[i]!;
      return x - lr * (direction + weightDecay * x);
    });
  };
};

/** Before any estimate of the Hessian, which is zero then. */
const sophia = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 1e-4, eps = 1e-12, weightDecay = 0.1 } = options as Numbers;
  const [b1] = betasOf(options, [0.965, 0.99]);
  const m = zerosOf(n);
  return (p, g) =>
    p.map((x, i) => {
      m[i] = b1 * m[i]! + (1 - b1) * g[i]!;
      return x * (1 - lr * weightDecay) - lr * Math.min(1, Math.max(-1, m[i]! / eps));
    });
};

const sgd = (options: Options, [n]: readonly [number]): Model => {
  const { lr = 1e-3, momentum = 0, dampening = 0, weightDecay = 0 } = options as Numbers;
  const buffer = zerosOf(n);
  let first = true;
  return (p, g) => {
    const gradient = decayed(p, g, { weightDecay }, Boolean(options['maximize']));
    const next = p.map((x, i) => {
      buffer[i] = first ? gradient[i]! : momentum * buffer[i]! + (1 - dampening) * gradient[i]!;
      if (momentum === 0) return x - lr * gradient[i]!;
      return x - lr * (options['nesterov'] ? gradient[i]! + momentum * buffer[i]! : buffer[i]!);
    });
    first = false;
    return next;
  };
};

const rms = (x: number[]): number => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
const adafactor = (options: Options, shape: readonly number[], epsilon: number): Model => {
  const { lr = 1e-2, beta2Decay = -0.8, d = 1, weightDecay = 0 } = options as Numbers;
  const [least, scale] = (options['eps'] ?? [null, 1e-3]) as [number | null, number];
  const eps = least ?? epsilon;
  const n = shape.reduce((a, b) => a * b, 1);
  // Leading axes count matrices: element i is in row floor(i / columns), and in column i % columns of its matrix.
  const [rows, columns] = [shape.at(-2) ?? 1, shape.at(-1) ?? 1];
  const matrixOf = (i: number): number => Math.floor(i / (rows * columns));
  const rowOf = (i: number): number => Math.floor(i / columns);
  const columnOf = (i: number): number => matrixOf(i) * columns + (i % columns);
  const [row, column, all] = [zerosOf(n / columns), zerosOf(n / rows), zerosOf(n)];
  let step = 0;
  return (p, g) => {
    const gradient = decayed(p, g, {}, Boolean(options['maximize']));
    const rate = (++step) ** beta2Decay;
    const follow = (old: number[], groupOf: (i: number) => number): void =>
      old.forEach((v, group) => {
        const members = gradient.filter((_, i) => groupOf(i) === group);
        old[group] = v + rate * (rms(members) ** 2 - v);
      });
    follow(row, rowOf);
    follow(column, columnOf);
    follow(all, (i) => i);
    const meanOf = (matrix: number): number =>
      row.slice(matrix * rows, (matrix + 1) * rows).reduce((sum, v) => sum + v, 0) / rows;
    const estimate = (i: number): number =>
      shape.length > 1 ? (row[rowOf(i)]! * column[columnOf(i)]!) / Math.max(meanOf(matrixOf(i)), eps) : all[i]!;
    const update = gradient.map((v, i) => v / Math.sqrt(Math.max(estimate(i), eps * eps)));
    const size = Math.max(scale, rms(p)) * Math.min(lr, 1 / Math.sqrt(step));
    return p.map((x, i) => x * (1 - lr * weightDecay) - (size * update[i]!) / Math.max(1, rms(update) / d));
  };
};

type Matrix = number[][];
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((r) => b[0]!.map((_, j) => r.reduce((sum, v, k) => sum + v * b[k]![j]!, 0)));
const turned = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map((r) => r[j]!));
const blend = (a: Matrix, s: number, b: Matrix, t: number): Matrix =>
  a.map((r, i) => r.map((v, j) => s * v + t * b[i]![j]!));
const muon = (options: Options, [rows, columns]: readonly [number, number]): Model => {
  const { lr = 1e-3, weightDecay = 0.1, momentum = 0.95, eps = 1e-7, nsSteps = 5 } = options as Numbers;
  const [a, b, c] = (options['nsCoefficients'] ?? [3.4445, -4.775, 2.0315]) as [number, number, number];
  const buffer = zerosOf(rows * columns);
  return (p, g) => {
    g.forEach((v, i) => (buffer[i] = momentum * buffer[i]! + (1 - momentum) * v));
    const nesterov = options['nesterov'] ?? true;
    const direction = nesterov ? g.map((v, i) => (1 - momentum) * v + momentum * buffer[i]!) : buffer;
    const norm = Math.max(eps, Math.sqrt(direction.reduce((sum, v) => sum + v * v, 0)));
    let x: Matrix = each(rows, (i) => i).map((i) => each(columns, (j) => direction[i * columns + j]! / norm));
    for (let i = 0; i < nsSteps; i++) {
      // The other product: (a + b XXᵀ + c (XXᵀ)²) X = X (a + b XᵀX + c (XᵀX)²).
      const gram = product(turned(x), x);
      x = blend(x, a, product(x, blend(gram, b, product(gram, gram), c)), 1);
    }
    const shapeRate =
      options['adjustLrFn'] === 'match_rms_adamw'
        ? 0.2 * Math.sqrt(Math.max(rows, columns))
        : Math.sqrt(Math.max(1, rows / columns));
    return p.map((v, i) => v * (1 - lr * weightDecay) - lr * shapeRate * x[Math.floor(i / columns)]![i % columns]!);
  };
};

const flat =
  (make: (options: Options, size: readonly [number]) => Model) =>
  (options: Options, shape: readonly number[]): Model =>
    make(options, [shape.reduce((a, b) => a * b, 1)]);

/** By the optimizer's name; `epsilon` is the step at 1 of the parameter's dtype. */
export const models: Record<string, (options: Options, shape: readonly number[], epsilon: number) => Model> = {
  Adam: flat(adam(false)),
  AdamW: flat(adam(true)),
  RAdam: flat(radam),
  NAdam: flat(nadam),
  Adagrad: flat(adagrad),
  RMSprop: flat(rmsprop),
  Lion: flat(lion),
  SGD: flat(sgd),
  Sophia: flat(sophia),
  Adafactor: adafactor,
  Muon: (options, shape) => muon(options, shape as [number, number]),
};
