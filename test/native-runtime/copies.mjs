// Two copies of the addon in one process, as two versions of the package in one dependency tree: each its own runtime.
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binary, check, native, tensor } from './native.mjs';

const folder = mkdtempSync(join(tmpdir(), 'fovea-copies-'));
const path = join(folder, 'fovea.node');
copyFileSync(binary, path);
const second = createRequire(import.meta.url)(path);
rmSync(folder, { recursive: true });

const scratch = second.scratch();
const upload = (value) => {
  scratch[0] = 1;
  return second.upload(null, Float32Array.of(value), 0, 1);
};
const here = tensor([1], [1]);
const there = upload(2);
const number = JSON.parse(second.describe()).findIndex((op) => op.name === 'add');
const sum = second.run(number, null, there, there);
check('each has its own tensors', new Float32Array(second.readNow(sum))[0] === 4 && here.dataSync()[0] === 1);
check('and its own memory', second.memory().liveTensors === 2 && native.memory().liveTensors === 1);
const [a, b] = await Promise.all([second.read(sum), here.data()]);
check('both settle promises', new Float32Array(a)[0] === 4 && b[0] === 1);
