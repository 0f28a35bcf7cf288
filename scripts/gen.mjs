// Writes the two generated files of src/ops; `--check` writes nothing and fails when they are out of date.
//   kernels.gen.ts   typed stubs of every kernel, from what the addon says about itself
//   methods.gen.ts   the ops as methods of Tensor, typed and documented from the functions of src/ops
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { kernelsSource } from './gen-kernels.mjs';
import { methodsSource } from './gen-methods.mjs';

const require = createRequire(import.meta.url);
const binary = process.env['FOVEA_BINARY'] ?? '../build/Release/fovea.node';
const ops = JSON.parse(require(binary).describe());
const folder = new URL('../src/ops/', import.meta.url);
const sources = { 'kernels.gen.ts': kernelsSource(ops), 'methods.gen.ts': methodsSource(folder) };

let stale = 0;
for (const [name, text] of Object.entries(sources)) {
  const file = new URL(name, folder);
  if (existsSync(file) && readFileSync(file, 'utf8') === text) continue;
  stale++;
  if (process.argv.includes('--check')) console.error(`gen: src/ops/${name} is out of date; run \`npm run gen\``);
  else writeFileSync(file, text);
}
if (stale && process.argv.includes('--check')) process.exitCode = 1;
