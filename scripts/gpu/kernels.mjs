// What the compiler made of the CUDA kernels: registers and spills from its report (nvcc -Xptxas=-v), the instructions
// of the tensor cores from the disassembly of the objects, where there is a cuobjdump.
//
//   node scripts/gpu/kernels.mjs <build folder> <build log>
//
// Ends with 1 when a kernel of GEMM or attention spills, a wgmma was serialised (C75xx), or an object lacks the
// instructions that its file is named for. The last line is a summary.
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';

const [folder, log] = process.argv.slice(2);
const mustNotSpill = /matmul|attention/;
const tensorCores = [
  [/_sm90\w*\.cu\.o$/, 'HGMMA'],
  [/_sm80\w*\.cu\.o$/, 'HMMA'],
];
const counted = ['HGMMA', 'HMMA', 'DMMA', 'UTMALDG', 'LDGSTS', 'LDL', 'STL'];
const problems = [];

function readable(name) {
  const { status, stdout } = spawnSync('c++filt', [name], { encoding: 'utf8' });
  const text = status === 0 ? stdout.trim() : name;
  return text
    .replace(/\((int|unsigned int|bool)\)/g, '')
    .replaceAll('fovea::cuda::', '')
    .replaceAll('(anonymous namespace)::', '')
    .replace(/\(.*$/, '');
}

/**
 * { file, kernel, registers, spilled } of every kernel in the log; the build names a file before what it says of it.
 */
function reported(text) {
  const found = [];
  let [file, kernel, spilled] = ['', '', 0];
  for (const line of text.split('\n')) {
    file = /Building CUDA object (\S+)/.exec(line)?.[1].replace(/^.*\.dir\//, '') ?? file;
    kernel = /Compiling entry function '(\S+)'/.exec(line)?.[1] ?? kernel;
    const spill = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (spill) spilled = Number(spill[1]) + Number(spill[2]);
    const used = /Used (\d+) registers/.exec(line);
    if (used && kernel) found.push({ file, kernel, registers: Number(used[1]), spilled });
    if (used) [kernel, spilled] = ['', 0];
  }
  return found;
}

const objects = readdirSync(folder, { recursive: true })
  .filter((name) => name.endsWith('.cu.o') && mustNotSpill.test(name))
  .map((name) => join(folder, name));

/** How often an object has each of the instructions, by kernel; undefined without a disassembler. */
async function disassembled(object) {
  const child = spawn('cuobjdump', ['-sass', object], { stdio: ['ignore', 'pipe', 'ignore'] });
  const started = await new Promise((resolve) =>
    child.once('spawn', () => resolve(true)).once('error', () => resolve(false)),
  );
  if (!started) return undefined;
  const kernels = new Map();
  let counts = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const name = /^\s*Function : (\S+)/.exec(line)?.[1];
    if (name) kernels.set(name, (counts = Object.fromEntries(counted.map((key) => [key, 0]))));
    const instruction = /^\s*\/\*[0-9a-f]+\*\/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)/.exec(line)?.[1];
    if (instruction in counts) counts[instruction]++;
  }
  return kernels;
}

const text = readFileSync(log, 'utf8');
const serialised = new Set(text.split('\n').filter((line) => /\bC75\d\d\b/.test(line)));
for (const line of serialised) problems.push(line.trim());
const kernels = reported(text);
for (const { file, kernel, registers, spilled } of kernels.filter((one) => one.spilled > 0)) {
  const line = `${file}: ${readable(kernel)} spills ${spilled} bytes (${registers} registers)`;
  if (mustNotSpill.test(file)) problems.push(line);
  else console.log(`note: ${line}`);
}

const totals = Object.fromEntries(counted.map((key) => [key, 0]));
let seen = 0;
for (const object of objects) {
  const found = await disassembled(object);
  if (!found) {
    console.log('note: no cuobjdump on the path, so nothing was disassembled');
    break;
  }
  seen++;
  const name = relative(folder, object).replace(/^.*\.dir\//, '');
  let all = 0;
  const wanted = tensorCores.find(([pattern]) => pattern.test(object))?.[1];
  for (const [kernel, counts] of found) {
    const line = Object.entries(counts).filter(([, count]) => count > 0);
    if (line.length)
      console.log(`${name}: ${readable(kernel)}: ${line.map(([key, count]) => `${count} ${key}`).join(', ')}`);
    for (const key of counted) totals[key] += counts[key];
    if (wanted) all += counts[wanted];
  }
  if (wanted && all === 0) problems.push(`${name}: no ${wanted} in its ${found.size} kernels`);
}

for (const problem of problems) console.log(`PROBLEM: ${problem}`);
const sums = counted.map((key) => `${totals[key]} ${key}`).join(', ');
const most = Math.max(...kernels.map(({ registers }) => registers));
const report = kernels.length
  ? `${kernels.length} kernels compiled anew, at most ${most} registers`
  : 'none compiled anew';
console.log(`${problems.length} problems; ${report}; ${seen} objects disassembled${seen ? `: ${sums}` : ''}`);
process.exit(problems.length ? 1 : 0);
