// Mapped files: what they hold is not believed, what is written to them stays private, and views keep them mapped.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { check, codeOf, native, run, Tensor, tensor } from './native.mjs';

const folder = mkdtempSync(join(tmpdir(), 'fovea-files-'));
const path = join(folder, 'data.bin');
const values = Float32Array.from({ length: 1024 }, (_, i) => i);
writeFileSync(path, values);
const scratch = native.scratch();

function mapTensor(id, byteOffset, dtype, shape) {
  shape.forEach((n, i) => {
    scratch[i] = n;
  });
  const made = new Tensor();
  made.handle = native.mapTensor(made, id, byteOffset, dtype, shape.length);
  return made;
}

const [id, bytes] = native.mapFile(path);
check('the size is the size of the file', bytes === 4096 && native.memory().mappedBytes === 4096);
check('mapRead copies', new Float32Array(native.mapRead(id, 8, 12)).join() === '2,3,4');
const t = mapTensor(id, 16, 0, [2, 3]);
check('a tensor on the file', t.dataSync().join() === '4,5,6,7,8,9' && native.memory().liveBytes === 0);
const misaligned = mapTensor(id, 5, 0, [3]);
const bits = new Uint8Array(values.buffer, 5, 12).slice();
check('a misaligned tensor is a copy', new Uint8Array(misaligned.dataSync().buffer).join() === bits.join());
run('mul_', [t], { scalar: 100 });
check('writes are seen by the map', t.dataSync()[0] === 400 && new Float32Array(native.mapRead(id, 16, 4))[0] === 400);
check('and never reach the file', readFileSync(path).readFloatLE(16) === 4);

const outside = [
  () => native.mapRead(id, 4096, 1),
  () => native.mapRead(id, 1, 4096),
  () => native.mapRead(id, 2 ** 53, 2 ** 53),
  () => native.mapRead(id, 0, 2 ** 53),
  () => mapTensor(id, 4, 0, [1024]),
  () => mapTensor(id, 0, 1, [1024]),
  () => mapTensor(id, 2 ** 53, 6, [1]),
];
check(
  'what reaches beyond the end is refused',
  outside.every((read) => codeOf(read) === 'FOVEA_FILE_FORMAT'),
  outside.map(codeOf).join(),
);
check('a shape whose size wraps is refused', codeOf(() => mapTensor(id, 0, 0, [2 ** 32, 2 ** 32])) === 'FOVEA_SHAPE');
check('nothing at the very end', mapTensor(id, 4096, 0, [0]).dataSync().length === 0);

native.mapClose(id);
native.mapClose(id);
check('a closed file is refused', codeOf(() => native.mapRead(id, 0, 1)) === 'FOVEA_DISPOSED');
check('its tensors keep it mapped', t.dataSync()[1] === 500 && native.memory().mappedBytes === 4096);
t.dispose();
await native.synchronize();
native.trim();
check('until the last is gone', native.memory().mappedBytes === 0, `${native.memory().mappedBytes} bytes`);

writeFileSync(join(folder, 'empty'), '');
const [empty, none] = native.mapFile(join(folder, 'empty'));
check(
  'an empty file',
  none === 0 && native.mapRead(empty, 0, 0).byteLength === 0 && mapTensor(empty, 0, 0, [0]).rank === 1,
);
const fifo = join(folder, 'fifo');
spawnSync('mkfifo', [fifo]);
const irregular = [folder, '/dev/zero', fifo];
check(
  'only regular files',
  irregular.every((name) => codeOf(() => native.mapFile(name)) === 'FOVEA_FILE_FORMAT'),
);
const codesOf = (names) => names.map((name) => codeOf(() => native.mapFile(name))).join();
const unopened = codesOf([join(folder, 'missing'), join(path, 'below')]);
check('what cannot be opened', unopened === 'FOVEA_IO,FOVEA_IO', unopened);
const noPaths = codesOf(['', 'a\0b', 5]);
check('what is no path', noPaths === 'FOVEA_ARGUMENT,FOVEA_ARGUMENT,FOVEA_ARGUMENT', noPaths);
check('memory goes on as before', tensor([1], [1]).dataSync()[0] === 1);
rmSync(folder, { recursive: true });
