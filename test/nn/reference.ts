// Plain float64 formulas to compare layers with.

/** Rows of numbers. */
export type Matrix = number[][];

/** A matrix of numbers that look random and are the same each time. */
export function matrix(rows: number, columns: number, seed: number): Matrix {
  return Array.from({ length: rows }, (_, i) =>
    Array.from({ length: columns }, (_unused, j) => Math.sin(seed * 12.9898 + i * 78.233 + j * 37.719) * 0.9),
  );
}

/** x Wᵀ + b */
export function affine(x: Matrix, w: Matrix, b?: readonly number[]): Matrix {
  return x.map((row) => w.map((weights, j) => weights.reduce((sum, value, k) => sum + value * row[k]!, b?.[j] ?? 0)));
}

export function addRows(a: Matrix, b: Matrix): Matrix {
  return a.map((row, i) => row.map((value, j) => value + b[i]![j]!));
}

export function layerNorm(x: Matrix, weight: readonly number[], bias: readonly number[], eps = 1e-5): Matrix {
  return x.map((row) => {
    const mean = row.reduce((sum, value) => sum + value, 0) / row.length;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
    return row.map((value, j) => ((value - mean) / Math.sqrt(variance + eps)) * weight[j]! + bias[j]!);
  });
}

export function rmsNorm(x: Matrix, weight: readonly number[], eps: number): Matrix {
  return x.map((row) => {
    const square = row.reduce((sum, value) => sum + value ** 2, 0) / row.length;
    return row.map((value, j) => (value / Math.sqrt(square + eps)) * weight[j]!);
  });
}

/** Probabilities of each query over the keys that it may see; a row that sees none is zero. */
export function probabilities(q: Matrix, k: Matrix, visible: (i: number, j: number) => boolean): Matrix {
  const scale = 1 / Math.sqrt(q[0]!.length);
  return q.map((query, i) => {
    const weights = k.map((key, j) =>
      visible(i, j) ? Math.exp(scale * query.reduce((sum, value, d) => sum + value * key[d]!, 0)) : 0,
    );
    const total = weights.reduce((sum, value) => sum + value, 0);
    return weights.map((value) => (total === 0 ? 0 : value / total));
  });
}

/** Attention of every head, side by side, and the probabilities of each. */
export function multiHead(
  q: Matrix,
  k: Matrix,
  v: Matrix,
  heads: number,
  visible: (i: number, j: number) => boolean,
): { output: Matrix; weights: Matrix[] } {
  const width = q[0]!.length / heads;
  const columns = (x: Matrix, head: number): Matrix => x.map((row) => row.slice(head * width, (head + 1) * width));
  const weights = Array.from({ length: heads }, (_, head) =>
    probabilities(columns(q, head), columns(k, head), visible),
  );
  const output = q.map((_, i) =>
    weights.flatMap((rows, head) =>
      columns(v, head)[0]!.map((_unused, d) =>
        rows[i]!.reduce((sum, weight, j) => sum + weight * columns(v, head)[j]![d]!, 0),
      ),
    ),
  );
  return { output, weights };
}
