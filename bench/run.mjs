// Every case's time, its GFLOP/s or GB/s, and its share of the limit that bounds it, which is measured right beside the
// case: on a shared machine it drifts.
//
//   npm run bench -- [--group matmul,model] [--dtype bfloat16] [--filter text] [--json] [--tiny]
//
// --json: one object on standard output; --tiny: small sizes, to see that every case runs.
import { parseArgs } from 'node:util';
import benny from 'benny';
import { emptyCache, info } from 'fovea';
import { caseOptions, chosenCases } from './cases.mjs';
import { prepare } from './kinds.mjs';
import { limitOf, limitProbes } from './limits.mjs';
import { assess, processor, rateText, shareText, timeText } from './report.mjs';
import { callsFor, median } from './timing.mjs';

const { values: options } = parseArgs({ options: { ...caseOptions, json: { type: 'boolean', default: false } } });
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

/**
 * Milliseconds per call: the median over batches, each of enough calls that the wait at its end does not count. The
 * batch's own clock counts, since some have to prepare what is not to be timed.
 */
async function time(prepared, label) {
  const calls = await callsFor(prepared, options.tiny ? 0 : 10);
  const times = [];
  const sample = async () => {
    times.push((await prepared.batch(calls)) / calls);
  };
  await sample();
  if (options.tiny) return times[0];
  // Long calls vary less, and a group of them is to be done in minutes.
  const minSamples = calls * times[0] > 200 ? 3 : 7;
  await quietly(() => benny.suite(label, benny.add(label, sample, { minSamples, maxTime: 0.4, minTime: 0.001 })));
  return median(times);
}

async function measure(test, probes) {
  const prepared = prepare(test);
  try {
    const milliseconds = await time(prepared, test.id);
    const name = limitOf(test, probes);
    const limit = name && { name, rate: await probes[name]() };
    const { id, group, op, label, dtype } = test;
    const fused = results.find((row) => row.id === test.beside);
    const ratio = fused && { ratio: milliseconds / fused.milliseconds };
    return { id, group, op, case: label, dtype, milliseconds, ...assess(test, milliseconds, limit), ...ratio };
  } finally {
    prepared.release();
    emptyCache();
  }
}

let cases;
try {
  cases = chosenCases(options);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exit(1);
}
const { version, isa, threads } = info();
const { name: cpu } = processor();
say(
  `fovea ${version}, ${isa}, ${threads} threads, Node ${process.version}, ${cpu}: measured, limit, share of the limit`,
);
const probes = await limitProbes(options);
const results = [];
let group;
for (const test of cases) {
  if (test.group !== group) say(`\n${(group = test.group)}`);
  const row = await measure(test, probes);
  results.push(row);
  const rates = [rateText(row.limit, row.rate), rateText(row.limit, row.limitRate)].map((text) => text.padStart(16));
  const head = `${row.op.padEnd(18)} ${row.case.padEnd(46)} ${row.dtype.padEnd(8)}`;
  const ratio = row.ratio ? `, ${row.ratio.toFixed(2)} x the time of the fused one` : '';
  say(`${head} ${timeText(row.milliseconds).padStart(10)} ${rates.join('')}  ${shareText(row)}${ratio}`);
}
if (options.json) console.log(JSON.stringify({ version, isa, threads, node: process.version, cpu, results }, null, 2));
