// npm run bench -- [--json] [--filter text]: every case's time, its GFLOP/s or GB/s, and its share of the limit that
// bounds it, which is measured right beside the case: on a shared machine it drifts.
import { parseArgs } from 'node:util';
import benny from 'benny';
import { info, synchronize, tidy } from 'fovea';
import { cases } from './cases.mjs';
import { limitProbes } from './limits.mjs';

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, filter: { type: 'string', default: '' } },
});
const say = (line) => {
  if (!options.json) console.log(line);
};

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
async function time(op, label, run, inputs) {
  const call = async (times) => {
    for (let i = 0; i < times; i++) {
      tidy(() => {
        run(inputs);
      });
    }
    await synchronize();
  };
  await call(2);
  const start = performance.now();
  await call(1);
  const times = Math.max(1, Math.round(4 / Math.max(0.01, performance.now() - start)));
  const summary = await quietly(() =>
    benny.suite(
      op,
      benny.add(label, () => call(times), { minSamples: 9, maxTime: 0.4, minTime: 0.004 }),
    ),
  );
  return summary.results[0].details.median / times;
}

const KINDS = { flops: 'fma', int8: 'int8', bytes: 'copy', read: 'read' };

async function measure({ op, label, make, run, ...test }, probes) {
  const inputs = make();
  const seconds = await time(op, label, run, inputs);
  const kind = Object.keys(KINDS).find((key) => key in test);
  const limit = await probes[KINDS[kind]]();
  for (const x of inputs) x.dispose?.();
  const rate = test[kind] / seconds;
  return {
    op,
    case: label,
    milliseconds: seconds * 1e3,
    rate,
    limit: KINDS[kind],
    limitRate: limit,
    share: rate / limit,
  };
}

const { version, isa, threads } = info();
say(`fovea ${version}, ${isa}, ${threads} threads, Node ${process.version}; GFLOP/s or GB/s: measured, limit, share\n`);
const probes = await limitProbes();
const wanted = options.filter.toLowerCase();
const results = [];
for (const test of cases.filter(({ op, label }) => `${op} ${label}`.toLowerCase().includes(wanted))) {
  const row = await measure(test, probes);
  results.push(row);
  const giga = (x) => (x / 1e9).toFixed(1).padStart(7);
  const share = `${(100 * row.share).toFixed(0).padStart(4)} % of ${row.limit}`;
  say(
    `${row.op.padEnd(13)} ${row.case.padEnd(40)} ${row.milliseconds.toFixed(3).padStart(9)} ms ${giga(row.rate)} ${giga(row.limitRate)} ${share}`,
  );
}
if (options.json) console.log(JSON.stringify({ version, isa, threads, node: process.version, results }, null, 2));
