// Recordings as the addon offers them: queued ahead of the stream, freed meanwhile, dropped, and refused.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
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
  view,
} from './native.mjs';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
const one = tensor([1], [1]);
const none = new Float64Array();
const handles = (...tensors) => Int32Array.from(tensors, (t) => t.handle);

/** Records `step` on a copy of x; the copies, what it gave, and how to replay it. */
function recorded(x, step, owner = null) {
  const copy = run('copy', [x]);
  const id = native.recordBegin(owner, handles(copy));
  const result = step(copy);
  native.recordEnd(none);
  copy.dispose();
  return {
    id,
    result,
    replay: (next, draws = none, numbers = none) => native.replay(id, handles(next), draws, numbers),
  };
}

{
  const { id, result, replay } = recorded(tensor([0, 0], [2]), (x) => {
    const slow = busy(x, 1);
    const y = add(slow, x);
    slow.dispose();
    const z = add(y, y);
    y.dispose();
    return z;
  });
  const outputs = Array.from({ length: 100 }, (_, i) => {
    const x = tensor([i, -i], [2]);
    replay(x);
    x.dispose();
    tensor([9, 9], [2]).dispose();
    return run('copy', [result]);
  });
  native.recordFree(id);
  const others = outputs.map(() => tensor([7, 7], [2]));
  const right = outputs.every((y, i) => y.dataSync()[0] === 4 * i && y.dataSync()[1] === -4 * i);
  check('a hundred replays queued ahead', right);
  check(
    'memory freed while they were queued serves others',
    others.every((t) => t.dataSync()[0] === 7),
  );
  check('a freed recording is refused', codeOf(() => replay(tensor([1, 1], [2]))) === 'FOVEA_DISPOSED');
  native.recordFree(id);
}
{
  const p = [tensor([1, 2], [2]), tensor([3], [1])];
  const g = tensor([1, 1], [2]);
  const { id, replay } = recorded(g, (x) => {
    const half = run('mul', [x], { scalar: 0.5 });
    runMany(
      'sgd_',
      [
        [p[0], half],
        [p[1], one],
      ],
      { lr: 1 },
    );
  });
  for (let i = 0; i < 3; i++) replay(g);
  check('an op over many tensors', p[0].dataSync()[1] === 0 && p[1].dataSync()[0] === -1);
  native.recordFree(id);
}
{
  const x = empty([1000]);
  const { replay, result } = recorded(x, (t) => runAll('uniform_', [t], { seed: 5, offset: 7, high: 1 }) && add(t, t));
  check(
    'other counters than were drawn are refused',
    codeOf(() => replay(x, Float64Array.of(1, 2))) === 'FOVEA_ARGUMENT' && result.shape[0] === 1000,
  );
  const wrong = [tensor([1], [1]), tensor(new BigInt64Array(1000), [1000], 'int64')];
  check(
    'other shapes and dtypes are refused',
    wrong.every((t) => codeOf(() => replay(t)) === 'FOVEA_SHAPE'),
  );
}
{
  const p = tensor([1, 2], [2]);
  const g = tensor([1, 1], [2]);
  const { id, replay, result } = recorded(g, (x) => {
    const y = run('mul', [x], { scalar: 3 });
    native.recordVary('mul', 'scalar');
    runMany('sgd_', [[p, y]], { lr: 1, nesterov: false });
    native.recordVary('sgd_', 'lr', 'nesterov');
    check(
      'ops that were not recorded cannot vary',
      codeOf(() => native.recordVary('add', 'scalar')) === 'FOVEA_ARGUMENT',
    );
    check('nor can what they lack', codeOf(() => native.recordVary('mul', 'scale')) === 'FOVEA_ARGUMENT');
    return add(y, y);
  });
  replay(g, none, Float64Array.of(4, 0.5, 1));
  replay(g, none, Float64Array.of(5, 2, 0));
  check('numbers of a replay reach their ops', p.dataSync()[1] === 2 - 3 - 2 - 10 && result.dataSync()[0] === 10);
  const wrong = [none, Float64Array.of(1, 2), Float64Array.of(1, 2, 3, 4), [1, 2, 3]];
  check(
    'other numbers of them are refused',
    wrong.every((numbers) => codeOf(() => replay(g, none, numbers)) === 'FOVEA_ARGUMENT'),
  );
  native.recordFree(id);
}
{
  const x = tensor([1], [1]);
  let state;
  const { id, replay } = recorded(x, (t) => {
    native.recordPause(true);
    state = run('mul', [one], { scalar: 0 });
    native.recordPause(false);
    runMany('sgd_', [[state, t]], { lr: 1 });
  });
  for (let i = 0; i < 3; i++) replay(x);
  check('what is queued while a recording pauses happens once', state.dataSync()[0] === -4);
  native.recordFree(id);
  const others = Array.from({ length: 10 }, () => tensor([7], [1]));
  check('and is not the recording’s', state.dataSync()[0] === -4 && others.every((t) => t.dataSync()[0] === 7));
}
{
  const whole = tensor(full(8, 0), [8]);
  const numbers = (...list) => Float64Array.from(list);
  const x = tensor([1], [1]);
  const { id, replay, result } = recorded(x, (t) => {
    const [to, seen] = [narrow(whole, 1, 1), narrow(whole, 0, 2)];
    native.recordWindow(to.handle, 0, 1, 8, false);
    native.recordWindow(seen.handle, 0, 0, 8, true);
    runAll('copy_', [to, t]);
    return run('sum', [seen]);
  });
  replay(tensor([2], [1]), none, numbers(2, 3));
  replay(tensor([4], [1]), none, numbers(7, 8));
  check('windows move and grow', whole.dataSync().join() === '0,1,2,0,0,0,0,4' && result.dataSync()[0] === 7);
  replay(x, none, numbers(0, 1));
  check('and come back', whole.dataSync()[0] === 1 && result.dataSync()[0] === 1);
  const outside = [numbers(8, 8), numbers(-1, 8), numbers(0, 9), numbers(0, 0), numbers(0.5, 2), numbers(0, NaN)];
  check(
    'but stay inside of the axis',
    outside.every((list) => codeOf(() => replay(x, none, list)) === 'FOVEA_ARGUMENT'),
  );
  native.recordFree(id);
  check(
    'a window of no recording is refused',
    codeOf(() => native.recordWindow(x.handle, 0, 0, 1, false)) === 'FOVEA_ARGUMENT',
  );
}
{
  const whole = tensor(full(8, 0), [2, 4]);
  const square = tensor(full(4, 1), [2, 2]);
  const seen = () => {
    native.recordBegin(null, new Int32Array());
    const t = view(whole, [2, 2], [4, 1]);
    native.recordWindow(t.handle, 1, 0, 4, true);
    return t;
  };
  const refused = [
    (t) => add(t, t),
    (t) => view(t, [4], [1]),
    (t) => run('matmul', [t, square]),
    (t) => runMany('sgd_', [[t, square]], { lr: 1 }),
    (t) => native.recordWindow(t.handle, 1, 0, 4, true),
  ].map((use) => {
    const t = seen();
    const code = codeOf(() => use(t));
    native.recordAbort();
    return code;
  });
  check(
    'what would change its shape with a window is refused',
    refused.join() === 'FOVEA_UNSUPPORTED,'.repeat(4) + 'FOVEA_ARGUMENT',
    refused,
  );
  native.recordBegin(null, new Int32Array());
  const part = view(whole, [2, 2], [4, 1], 1);
  const wrong = [
    [2, 1, 4, false],
    [1, 3, 4, false],
    [1, 1, 5, false],
    [1, 1, 4, true],
    [1, 0, 1, true],
  ].map((args) => codeOf(() => native.recordWindow(part.handle, ...args)));
  native.recordAbort();
  check(
    'and a window that leaves its memory',
    wrong.every((code) => code === 'FOVEA_ARGUMENT'),
    wrong,
  );
  const t = seen();
  native.recordAbort();
  check('a view is none when the recording is over', codeOf(() => add(t, t)) === 'none');
}
{
  const own = tensor([2], [1]);
  const { id, replay, result } = recorded(tensor([1], [1]), (t) => add(t, own));
  replay(tensor([5], [1]));
  const fresh = result.dataSync()[0] === 7 && !native.recordStale(id);
  own.dispose();
  check('a tensor from outside that is gone is noticed', fresh && native.recordStale(id));
  native.recordFree(id);
}
{
  native.sweep();
  const before = native.memory().liveBytes;
  for (let i = 0; i < 100; i++) recorded(tensor(full(4096, 1), [4096]), (t) => add(t, t), {});
  collect();
  native.sweep();
  const { liveBytes } = native.memory();
  // The last one's owner may still lie on the stack.
  const left = liveBytes - before;
  check('recordings whose owners are gone are freed', left < 2 * 4 * 16384, `${left} bytes of 100 left`);
}
{
  const t = tensor([1], [1]);
  const before = native.memory().liveBytes;
  native.recordBegin(null, new Int32Array());
  const codes = [
    () => native.readNow(t.handle),
    () => native.read(t.handle),
    () => native.share(t.handle),
    () => tensor([1], [1]),
    () => native.transfer(null, t.handle, 0),
    () => native.recordBegin(null, new Int32Array()),
    () => native.replay(1, new Int32Array(), none, none),
    () => native.recordEnd(none),
  ].map(codeOf);
  check(
    'refused while recording',
    codes
      .slice(0, 6)
      .concat(codes[7])
      .every((code) => code === 'FOVEA_UNSUPPORTED'),
    codes,
  );
  add(t, t).dispose();
  native.recordAbort();
  native.recordAbort();
  check('an aborted recording leaves nothing', native.memory().liveBytes === before && t.dataSync()[0] === 1);
  check(
    'so are attributes that vary, and a pause',
    [() => native.recordVary('add', 'scalar'), () => native.recordPause(true)].every(
      (call) => codeOf(call) === 'FOVEA_ARGUMENT',
    ),
  );
  check('an end without a beginning is refused', codeOf(() => native.recordEnd(none)) === 'FOVEA_ARGUMENT');
}
