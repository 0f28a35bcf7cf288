// npm run bench -- [--json] [--filter text]: every case's time, its GFLOP/s or GB/s, and its share of the limit that the
// same run has just measured.
import { parseArgs } from 'node:util';
import benny from 'benny';
import { info, synchronize, tidy } from 'fovea';
import { cases } from './cases.mjs';
import { measureLimits } from './limits.mjs';

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, filter: { type: 'string', default: '' } },
});
const say = (line) => {
  if (!options.json) console.log(line);
};
const giga = (x) => (x / 1e9).toFixed(1);

const limits = await measureLimits();
const { version, isa, threads } = info();
say(`fovea ${version}, ${isa}, ${threads} threads`);
say(
  `limits of this run: f32 multiply-add ${giga(limits.fma)} GFLOP/s, copy of 64 MB ${giga(limits.copy)} GB/s, read ${giga(limits.read)} GB/s\n`,
);

/** benny announces every suite on standard output, which is for the table or the JSON alone. */
async function quietly(run) {
  const { log } = console;
  console.log = () => {};
  try {
    return await run();
  } finally {
    console.log = log;
  }
}

/** Seconds per call: enough calls between two waits that the wait itself does not count. */
async function time({ op, label, make, run }) {
  const inputs = make();
  const call = async (times) => {
    for (let i = 0; i < times; i++) {
      tidy(() => {
        run(inputs);
      });
    }
    await synchronize();
  };
  await call(1);
  const start = performance.now();
  await call(1);
  const times = Math.max(1, Math.round(4 / Math.max(0.01, performance.now() - start)));
  const summary = await quietly(() =>
    benny.suite(
      op,
      benny.add(label, () => call(times), { minSamples: 9, maxTime: 0.4, minTime: 0.004 }),
    ),
  );
  for (const x of inputs) x.dispose?.();
  return summary.results[0].details.median / times;
}

function figures(test, seconds) {
  const work = test.flops ?? test.bytes ?? test.read;
  const limit = test.flops ? limits.fma : test.bytes ? limits.copy : limits.read;
  return {
    op: test.op,
    case: test.label,
    milliseconds: seconds * 1e3,
    [test.flops ? 'gflops' : 'gbytes']: work / seconds / 1e9,
    share: work / seconds / limit,
  };
}

const chosen = cases.filter((test) => `${test.op} ${test.label}`.toLowerCase().includes(options.filter.toLowerCase()));
const results = [];
for (const test of chosen) {
  const row = figures(test, await time(test));
  results.push(row);
  const rate = row.gflops === undefined ? `${row.gbytes.toFixed(1)} GB/s` : `${row.gflops.toFixed(1)} GFLOP/s`;
  say(
    `${row.op.padEnd(14)} ${row.case.padEnd(42)} ${row.milliseconds.toFixed(3).padStart(10)} ms ${rate.padStart(16)} ${(100 * row.share).toFixed(0).padStart(5)} %`,
  );
}
if (options.json)
  console.log(JSON.stringify({ version, isa, threads, node: process.version, limits, results }, null, 2));
