// The same program under every limit from nothing upwards: it works or reports FOVEA_OUT_OF_MEMORY, leaves nothing
// behind, and the next one works.
import { add, check, codeOf, full, native, run, tensor } from '../native-runtime/native.mjs';

const { limitBytes } = native.memory();
function program() {
  const made = [];
  const keep = (t) => {
    made.push(t);
    return t;
  };
  try {
    const a = keep(tensor(full(1 << 20, 2), [1024, 1024]));
    const b = keep(add(a, a));
    const c = keep(run('matmul', [a, b]));
    const d = keep(run('softmax', [c]));
    return keep(run('sum', [keep(run('mul', [d, b]))])).dataSync()[0];
  } finally {
    for (const t of made) t.dispose();
  }
}

const expected = program();
const outcomes = new Set();
let leaked = 0;
for (let megabytes = 0; megabytes <= 96; megabytes += 3) {
  native.synchronizeNow();
  native.trim();
  const live = native.memory().liveTensors;
  native.setLimit(megabytes << 20);
  let value;
  const code = codeOf(() => {
    value = program();
  });
  outcomes.add(code === 'none' && value !== expected ? 'wrong' : code);
  native.setLimit(limitBytes);
  if (native.memory().liveTensors !== live || program() !== expected) leaked++;
}
check(
  'it works or says so',
  outcomes.size === 2 && outcomes.has('none') && outcomes.has('FOVEA_OUT_OF_MEMORY'),
  [...outcomes].join(),
);
check('and leaves nothing behind', leaked === 0, `${leaked} of 33`);

const { liveBytes } = native.memory();
native.setLimit(liveBytes + (200 << 20));
let most = 0;
const dropping = codeOf(() => {
  for (let i = 0; i < 400; i++) {
    add(tensor(full(1 << 20, i), [1 << 20]), tensor(full(1 << 20, i), [1 << 20]));
    most = Math.max(most, native.memory().reservedBytes);
  }
});
check(
  'a loop that drops everything never meets the limit',
  dropping === 'none' && most <= liveBytes + (200 << 20),
  `${dropping}, ${most >> 20} MB`,
);
