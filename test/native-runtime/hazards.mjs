// Everything that stream order and the immediate reuse of memory could get wrong. FOVEA_SCALE makes it longer.
import {
  add,
  busy,
  check,
  codeOf,
  empty,
  full,
  narrow,
  native,
  run,
  runAll,
  runMany,
  tensor,
  transpose,
  view,
} from './native.mjs';

const scale = Number(process.env.FOVEA_SCALE ?? 1);
const n = 1000;
const every = (array, value) => array.every((x) => x === value);
const range = (length) => Float32Array.from({ length }, (_, i) => i);

{
  const results = [];
  for (let i = 0; i < 300 * scale; i++) {
    const a = tensor(full(n, i), [n]);
    const b = busy(a, i % 10 === 0 ? 2 : 0);
    a.dispose();
    const c = tensor(full(n, -1), [n]); // wants the block of a, which `busy` has not read yet
    const d = add(b, c);
    b.dispose();
    c.dispose();
    results.push(d.data());
    d.dispose(); // while its read is queued
  }
  const all = await Promise.all(results);
  check(
    'a freed block is reused in stream order',
    all.every((r, i) => every(r, i - 1)),
  );
}
{
  const source = full(n, 7);
  const slow = busy(tensor(full(n, 0), [n]), 5);
  const sums = [];
  for (let i = 0; i < 50; i++) {
    source.fill(i);
    sums.push(add(tensor(source, [n]), slow));
    source.fill(-999);
  }
  check(
    'an upload is copied at the call',
    sums.every((t, i) => every(t.dataSync(), i)),
  );
}
{
  const base = busy(tensor(range(n), [10, 100]), 5);
  const part = narrow(transpose(base), 3, 5);
  base.dispose();
  const junk = tensor(full(n, -5), [n]); // would overwrite, if the view did not hold the block
  const r = await part.data();
  check('a view outlives its base', r.length === 50 && r[0] === 3 && r[1] === 103 && r[10] === 4 && junk.rank === 1);
}
{
  const base = tensor(full(100, 1), [10, 10]);
  const before = add(base, base);
  const early = base.data();
  const column = view(base, [10, 4], [10, 1], 2);
  run('add_', [column, tensor([10], [1])]);
  const now = base.dataSync();
  const then = await early;
  check(
    'in place on a view shows in its base',
    now[2] === 11 && now[5] === 11 && now[6] === 1 && before.dataSync()[2] === 2,
  );
  check('a read queued before a write sees the old values', then[2] === 1);
  run('add_', [base, transpose(base)]);
  const sum = base.dataSync();
  const symmetric = sum.every((x, k) => x === now[k] + now[(k % 10) * 10 + Math.floor(k / 10)]);
  check('a += transpose(a) reads the old values', symmetric);
  run('add_', [base, base]);
  check(
    'a += a needs no copy',
    base.dataSync().every((x, k) => x === 2 * sum[k]),
  );
  const shifted = tensor(range(10), [10]);
  run('copy_', [narrow(shifted, 1, 9), narrow(shifted, 0, 9)]);
  check('copying onto itself, shifted', shifted.dataSync().join() === '0,0,1,2,3,4,5,6,7,8');
  const repeated = view(tensor([1], [1]), [4], [0]);
  check(
    'in place on an expanded view is refused',
    codeOf(() => run('add_', [repeated, tensor([1, 2, 3, 4], [4])])) === 'FOVEA_LAYOUT',
  );
  const windows = view(tensor(range(10), [10]), [4, 3], [1, 1]);
  check(
    'in place on overlapping windows is refused',
    codeOf(() => run('add_', [windows, tensor(full(12, 1), [4, 3])])) === 'FOVEA_LAYOUT',
  );
  const y = tensor(range(4), [4]);
  run('scatter_', [y, tensor([3, 2, 1, 0].map(BigInt), [4], 'int64'), y]);
  check('an op that is not elementwise reads a copy of what it writes', y.dataSync().join() === '3,2,1,0');
}
{
  const parameter = (values) => tensor(values, [values.length]);
  const p = [0, 1, 2].map((i) => parameter(full(5, i)));
  const g = p.map(() => parameter(full(5, 1)));
  const zeros = () => p.map(() => parameter(full(5, 0)));
  const [m, v] = [zeros(), zeros()];
  const tuples = p.map((_, i) => [p[i], g[i], m[i], v[i]]);
  runMany('adamw_', tuples, { lr: 0.5, weightDecay: 0 });
  check(
    'one command steps every parameter',
    p.every((t, i) => t.dataSync().every((x) => Math.abs(x - (i - 0.5)) < 1e-5)),
  );
  check(
    'a parameter that is listed twice is refused',
    codeOf(() => runMany('adamw_', [tuples[0], tuples[1], tuples[0]])) === 'FOVEA_LAYOUT',
  );
  check(
    'the same gradient may serve two parameters',
    codeOf(() =>
      runMany('adamw_', [
        [p[0], g[0], m[0], v[0]],
        [p[1], g[0], m[1], v[1]],
      ]),
    ) === 'none',
  );
  check(
    'moments that are the parameter itself are refused',
    codeOf(() => runMany('adamw_', [[p[0], g[0], p[0], v[0]]])) === 'FOVEA_LAYOUT',
  );
  check('an empty list does nothing', codeOf(() => runMany('adamw_', [])) === 'none');
  const matrix = tensor(range(6), [2, 3]);
  runMany(
    'adamw_',
    [[transpose(matrix), tensor(full(6, 1), [3, 2]), tensor(full(6, 0), [3, 2]), tensor(full(6, 0), [3, 2])]],
    { lr: 1, weightDecay: 0 },
  );
  check(
    'a strided parameter is copied in and back',
    matrix.dataSync().every((x, i) => Math.abs(x - (i - 1)) < 1e-5),
    matrix.dataSync().join(),
  );
  const many = Array.from({ length: 5000 }, () => [tensor(full(4, 1), [4])]);
  check('a list longer than the ring', Math.abs(runMany('gradNorm', many).dataSync()[0] - Math.sqrt(20000)) < 1e-2);
}
for (const inChunk of [false, true]) {
  const name = inChunk ? 'failure in a chunk' : 'failure';
  const a = tensor(full(n, 1), [n]);
  const bad = run('throws', [a], { inChunk });
  const dependent = add(add(bad, a), a);
  const good = add(a, a);
  const [first, second, third] = await Promise.allSettled([dependent.data(), good.data(), bad.data()]);
  check(
    `${name}: what depends on it rejects`,
    first.status === 'rejected' && third.status === 'rejected',
    first.reason?.message,
  );
  check(`${name}: a neighbour is untouched`, second.status === 'fulfilled' && every(second.value, 2));
  check(`${name}: a waiting read throws`, codeOf(() => dependent.dataSync()) === 'FOVEA_KERNEL_FAILED');
  dependent.dispose();
  bad.dispose();
  const clean = Array.from({ length: 20 }, (_, i) => tensor(full(n, i), [n]).dataSync()[5]);
  check(`${name}: its block can be used again`, clean.every((x, i) => x === i) && add(a, a).dataSync()[0] === 2);
  check(`${name}: and by empty()`, codeOf(() => empty([n]).dataSync()) === 'none');
  const p = tensor(full(4, 1), [4]);
  run('add_', [p, run('throws', [tensor(full(4, 1), [4])])]);
  check(`${name}: in place with a failed operand`, codeOf(() => p.dataSync()) === 'FOVEA_KERNEL_FAILED');
  run('copy_', [narrow(p, 0, 2), tensor([8, 8], [2])]);
  check(`${name}: overwriting a part does not mend the rest`, codeOf(() => p.dataSync()) === 'FOVEA_KERNEL_FAILED');
  run('copy_', [p, tensor(full(4, 9), [4])]);
  check(`${name}: overwriting all of it does`, every(p.dataSync(), 9));
}
{
  const { reservedBytes, limitBytes } = native.memory();
  native.setLimit(reservedBytes + 64e6);
  const kept = [];
  const uploading = codeOf(() => {
    for (let i = 0; i < 100; i++) kept.push(tensor(full(1e6, i), [1e6]));
  });
  const computing = codeOf(() => {
    for (let i = 0; i < 100; i++) kept.push(add(kept[0], kept[0]));
  });
  check(
    'out of memory at the cap',
    uploading === 'FOVEA_OUT_OF_MEMORY' && computing === 'FOVEA_OUT_OF_MEMORY',
    `${uploading}, ${computing}`,
  );
  check('what was made before it is intact', every(kept[1].dataSync(), 1));
  for (const t of kept) t.dispose();
  check('another size fits after dispose', tensor(full(9e6, 2), [9e6]).dataSync()[8e6] === 2);
  const dropping = codeOf(() => {
    for (let i = 0; i < 200; i++) tensor(full(1e6, i), [1e6]);
  });
  check('dropped tensors stay under the cap, in a plain loop', dropping === 'none', dropping);
  native.setLimit(limitBytes);
  native.trim();
}
{
  const t = tensor([1], [1]);
  const id = t.handle;
  t.dispose();
  const one = tensor([1], [1]);
  const stale = [
    () => native.readNow(id),
    () => native.free(id),
    () => native.free(0),
    () => native.readNow(2 ** 31 - 1),
    () => native.inspect(id),
  ];
  check(
    'a handle that is not live throws',
    stale.every((f) => codeOf(f) === 'FOVEA_DISPOSED'),
    stale.map(codeOf).join(),
  );
  const refused = [
    () => native.free(-5),
    () => native.free(NaN),
    () => native.free(),
    () => native.run(1e6),
    () => native.run(0, 5, one.handle),
    () => view(one, [2], [1]),
  ];
  check(
    'a bad argument throws',
    refused.every((f) => ['FOVEA_ARGUMENT', 'FOVEA_INDEX'].includes(codeOf(f))),
    refused.map(codeOf).join(),
  );
  check(
    'a shape beyond memory throws',
    codeOf(() => empty([2 ** 40, 2 ** 40])) === 'FOVEA_SHAPE' &&
      codeOf(() => empty([2 ** 42])) === 'FOVEA_OUT_OF_MEMORY',
  );
  const wide = [view(one, [2 ** 40, 1], [0, 0]), view(one, [1, 2 ** 40], [0, 0])];
  check('broadcasting beyond memory throws', codeOf(() => add(...wide)) === 'FOVEA_SHAPE');
  check('reading an enormous view throws', codeOf(() => native.readNow(wide[0].handle)) === 'FOVEA_OUT_OF_MEMORY');
}
{
  let x = busy(tensor(full(16, 0), [16]), 20);
  const one = tensor(full(16, 1), [16]);
  const reads = [];
  for (let i = 0; i < 20000 * scale; i++) {
    const y = add(x, one);
    x.dispose();
    x = y;
    if (i % 4 === 0) reads.push(x.data().then((d) => d[0] - i - 1));
  }
  check(
    'far more work than the ring holds, thousands of reads in flight',
    (await Promise.all(reads)).every((difference) => difference === 0),
  );
}
{
  const shapes = [[0], [3, 0], [0, 3, 2]];
  const empties = shapes.map((shape) => tensor([], shape));
  check(
    'empty tensors',
    empties.every((t, i) => t.dataSync().length === 0 && add(t, t).shape.join() === shapes[i].join()),
  );
  const [values, indices] = runAll('sort', [tensor([3, 1, 2], [3])]);
  check('several outputs', values.dataSync().join() === '1,2,3' && indices.dataSync().join() === '1,2,0');
  const all = [1, 2, 3, 4];
  const dtypes = ['float32', 'float64', 'int32', 'uint8', 'int8'];
  check(
    'dtypes travel',
    dtypes.every(
      (dtype) =>
        add(tensor(all, [4], dtype), tensor(all, [4], dtype))
          .dataSync()
          .join() === '2,4,6,8',
    ),
  );
  const transposed = transpose(tensor(range(6), [2, 3]));
  check(
    'a strided read is dense',
    transposed.dataSync().join() === '0,3,1,4,2,5' && (await transposed.data()).join() === '0,3,1,4,2,5',
  );
}
{
  const bytes = 24 << 20;
  const big = busy(tensor(full(bytes / 4, 3), [bytes / 4]), 3);
  check('a large read', every(await big.data(), 3) && every(big.dataSync(), 3));
  await native.synchronize();
  const slow = busy(big, 30);
  const done = native.synchronize();
  check('synchronize waits for what was queued before it', (await done) === undefined && slow.dataSync()[0] === 3);
}
