// Every export with every kind of argument, in every position: an error at most, never a crash.
import { check, native, ops, tensor } from './native.mjs';

const live = tensor([1, 2, 3, 4], [4]);
const detached = new Float32Array(4);
structuredClone(detached.buffer, { transfer: [detached.buffer] });
const revoked = Proxy.revocable({}, {});
revoked.revoke();
const thrower = new Proxy([], {
  get() {
    throw new Error('from a trap');
  },
});
const values = [
  undefined,
  null,
  true,
  false,
  0,
  -0,
  1,
  -1,
  2,
  8,
  9,
  63,
  1.5,
  NaN,
  Infinity,
  -Infinity,
  2 ** 31 - 1,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 53,
  1e300,
  5e-324,
  live.handle,
  live.handle + 1,
  '',
  '1',
  'abc',
  '/',
  '\0',
  'x'.repeat(1 << 16),
  0n,
  1n,
  2n ** 80n,
  Symbol('s'),
  Symbol.iterator,
  {},
  [],
  [1, 2, 3, 0, 4],
  new Array(5),
  () => 1,
  Map,
  new Date(),
  /x/,
  new Map(),
  new Set(),
  new WeakMap(),
  Promise.resolve(1),
  new Error('e'),
  new ArrayBuffer(16),
  new SharedArrayBuffer(16),
  new Float32Array(4),
  new Float64Array(2),
  new Uint8Array(16),
  new Int32Array([live.handle]),
  new BigInt64Array(2),
  new DataView(new ArrayBuffer(16)),
  Buffer.alloc(16),
  detached,
  revoked.proxy,
  thrower,
  globalThis,
  Object.create(null),
  { valueOf: () => 1 },
  {
    valueOf: () => {
      throw new Error('from valueOf');
    },
  },
  live,
];
const random = (() => {
  let state = Number(process.argv[2] ?? 1);
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
})();
const pick = () => values[random(values.length)];

const numbers = values.filter((value) => typeof value === 'number');
const scratch = native.scratch();
const limit = native.memory().limitBytes;
const without = new Set(['busy']); // would keep the stream busy for as long as the argument says
const quiet = ops.map((op, i) => (without.has(op.name) ? -1 : i)).filter((i) => i >= 0);
let calls = 0;
let odd = 0;
function call(name, args) {
  calls++;
  for (let i = 0; i < 16; i++) scratch[i] = random(3) ? random(5) : numbers[random(numbers.length)];
  try {
    const result = native[name](...args);
    if (typeof result?.then === 'function') result.catch(() => {});
  } catch (error) {
    if (typeof error.code === 'string' && error.code.startsWith('FOVEA_') && error.code !== 'FOVEA_INTERNAL') return;
    if (error.message === 'from a trap' || error.message === 'from valueOf') return;
    odd++;
    if (odd < 10) console.log(name, args.length, error);
  }
}

const names = Object.keys(native).filter((name) => name !== 'setErrorClass');
for (const name of names) {
  call(name, []);
  for (const value of values) {
    if (name === 'run' && !quiet.includes(value)) continue;
    call(name, [value]);
    for (let position = 0; position < 5; position++) {
      const args = Array.from({ length: 5 }, pick);
      args[position] = value;
      if (name === 'run' || name === 'runMany') args[0] = quiet[random(quiet.length)];
      call(name, args);
    }
  }
  native.setLimit(limit);
}
for (const op of quiet) {
  const { inputs, outputs, attrs, many } = ops[op];
  for (let i = 0; i < 40; i++) {
    const plausible = Array.from({ length: inputs.length }, () => (random(4) ? live.handle : pick()));
    const handles = many
      ? [new Int32Array(Array.from({ length: inputs.length * random(3) }, () => (random(4) ? live.handle : 0)))]
      : plausible;
    call(many ? 'runMany' : 'run', [
      op,
      ...outputs.map(() => (random(4) ? {} : pick())),
      ...handles,
      ...attrs.map(() => (random(2) ? undefined : pick())),
    ]);
    if (i % 10 === 0) native.synchronizeNow();
  }
}
native.setErrorClass(function Thrower() {
  throw new Error('from the constructor');
});
let survived = '';
try {
  native.free(-1);
} catch (error) {
  survived = error.code;
}
check('an error class that throws does not hide the error', survived === 'FOVEA_ARGUMENT', survived);
native.setLimit(limit);
await native.synchronize();
const t = tensor([1, 2], [2]);
check('every export takes any argument', odd === 0 && t.dataSync()[1] === 2, `${calls} calls, ${odd} odd`);
