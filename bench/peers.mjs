// fovea beside its peers: each case is timed in turn, a batch of ours and a batch of the peer's, in one run and on as
// many threads, and the medians' ratio is R = peer / ours.
//
//   npm run bench:peers -- [--peers torch,onnxruntime] [--group matmul] [--dtype bfloat16] [--filter text] [--rounds 7]
//                          [--threads 2] [--json] [--write] [--tiny]
//
// --json: one object on standard output instead of Markdown; --write: both into bench/results/<date>-<cpu>; --tiny:
// small sizes, to see that all runs. bench/peers/README.md says how to install the peers; one that is not installed is
// listed.
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { caseOptions, chosenCases } from './cases.mjs';
import { PeerProcess } from './peers/peer-process.mjs';
import { fovea, peers } from './peers/registry.mjs';
import { markdown, rowOf } from './peers/table.mjs';
import { processor, timeText } from './report.mjs';

const options = {
  ...caseOptions,
  peers: { type: 'string', default: '' },
  rounds: { type: 'string', default: '7' },
  threads: { type: 'string', default: String(availableParallelism()) },
  json: { type: 'boolean', default: false },
  write: { type: 'boolean', default: false },
};
/** Threads of the process that has just worked may still spin for work; they are left time to sleep. */
const pause = 20;

/**
 * Times a case in fovea and in a peer.
 *
 * @returns `row`, or `unsupported` or `failed` with the reason
 */
export async function timePair(test, { id, own, peer, rounds, question }) {
  const ask = async (process, who, asked = { case: test }) => {
    const answer = await process.ask({ ...asked, ...question });
    if (answer.error) throw Object.assign(new Error(answer.error), { who });
    await sleep(pause);
    return answer;
  };
  try {
    // The first answers make the inputs and warm up; they do not count.
    const { unsupported } = await ask(peer, id);
    if (unsupported) return { unsupported: { id: test.id, peer: id, why: unsupported } };
    await ask(own, 'fovea');
    const [ours, theirs] = [[], []];
    for (let round = 0; round < rounds; round++) {
      ours.push((await ask(own, 'fovea')).milliseconds);
      theirs.push((await ask(peer, id)).milliseconds);
    }
    const { limit } = await ask(own, 'fovea', { limit: test });
    return { row: rowOf(test, id, ours, theirs, limit) };
  } catch (error) {
    if (!error.who) throw error;
    return { failed: { id: test.id, peer: error.who, error: error.message } };
  }
}

/** Times all cases in one peer, which runs, and beside it in fovea. */
async function runCases(id, peer, name, cases, report, settings) {
  const reasons = new Set();
  for (const test of cases) {
    const { row, unsupported, failed } = await timePair(test, { id, peer, ...settings });
    if (row) {
      report.rows.push(row);
      const times = `${timeText(row.ours)} : ${timeText(row.theirs)}`;
      settings.say(`${name.padEnd(26)} ${test.id.padEnd(64)} ${times}  R ${row.ratio.toFixed(2)}`);
    }
    if (unsupported) {
      report.unsupported.push(unsupported);
      // Once each: most are those of many cases.
      if (!reasons.has(unsupported.why)) settings.say(`${name.padEnd(26)} ${test.id}: not timed: ${unsupported.why}`);
      reasons.add(unsupported.why);
    }
    if (failed) {
      report.failed.push(failed);
      settings.say(`${name.padEnd(26)} ${test.id}: ${failed.peer} failed: ${failed.error}`);
    }
  }
}

/** Starts one peer, or reports that it is missing, and times the cases. */
async function runPeer(id, { name, command, environment, install }, cases, report, settings) {
  const peer = new PeerProcess(command, environment(settings.question.threads));
  try {
    const { missing, version } = await peer.start();
    report.peers.push(missing ? { id, name, missing, install } : { id, name, version });
    if (missing) settings.say(`${name}: not installed (${missing}); install it with: ${install}`);
    else await runCases(id, peer, name, cases, report, settings);
  } finally {
    await peer.stop();
  }
}

/**
 * Runs all.
 *
 * @param known the peers by id; those of bench/peers/registry.mjs unless a test has its own
 * @returns the machine, versions, and a row for each case and peer
 */
export async function comparePeers(options) {
  const {
    cases,
    known = peers(),
    ids = Object.keys(known),
    rounds,
    threads,
    tiny = false,
    say = console.error,
  } = options;
  const own = new PeerProcess(fovea, { FOVEA_NUM_THREADS: String(threads) });
  const { missing, ...described } = await own.start();
  if (missing) throw new Error(`fovea does not start: ${missing}`);
  const report = {
    date: new Date().toISOString().slice(0, 10),
    cpu: processor().name,
    version: described.version,
    isa: described.isa,
    threads,
    rounds,
    node: process.version,
    peers: [],
    rows: [],
    unsupported: [],
    failed: [],
  };
  const settings = { own, rounds, say, question: { threads, milliseconds: tiny ? 0 : 40, tiny } };
  try {
    for (const id of ids) await runPeer(id, known[id], cases, report, settings);
  } finally {
    await own.stop();
  }
  const place = (row) => cases.findIndex(({ id }) => id === row.id);
  report.rows.sort((a, b) => place(a) - place(b));
  return report;
}

function countOption(name, text) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name}: expected a count, received ${text}`);
  return value;
}

function chosenPeers(text) {
  const all = Object.keys(peers());
  const ids = text.split(',').filter(Boolean);
  const odd = ids.find((id) => !all.includes(id));
  if (odd) throw new Error(`--peers: expected some of ${all.join(', ')}, received ${odd}`);
  return ids.length > 0 ? ids : all;
}

async function main() {
  const { values } = parseArgs({ options });
  const report = await comparePeers({
    cases: chosenCases(values),
    ids: chosenPeers(values.peers),
    rounds: countOption('rounds', values.rounds),
    threads: countOption('threads', values.threads),
    tiny: values.tiny,
  });
  const texts = { json: `${JSON.stringify(report, null, 2)}\n`, md: markdown(report) };
  process.stdout.write(values.json ? texts.json : texts.md);
  if (!values.write) return;
  const results = join(dirname(fileURLToPath(import.meta.url)), 'results', `${report.date}-${processor().slug}`);
  for (const [extension, text] of Object.entries(texts)) writeFileSync(`${results}.${extension}`, text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    console.error(`bench: ${error.message}`);
    process.exitCode = 1;
  }
}
