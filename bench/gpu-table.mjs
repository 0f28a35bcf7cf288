// What bench/gpu.mjs measured beside what bench/peers/torch_gpu.py did, and whether targets are met, as Markdown:
//
//   node bench/gpu-table.mjs <ours.jsonl> [<peer.jsonl>] [--write]
//
// --write also puts it into bench/results/<date>-<device>.md.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gpuCases, H200_COPY } from './gpu-cases.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { write: { type: 'boolean', default: false } },
});
const [oursPath, peerPath] = positionals;

/** The lines of a file that are whole: a run that was cut short leaves half a line. */
function readLines(path) {
  if (!path || !existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return line ? [JSON.parse(line)] : [];
      } catch {
        return [];
      }
    });
}

const [head, ...ours] = readLines(oursPath);
if (!head) {
  console.error(`${oursPath} holds no results`);
  process.exit(1);
}
const [peerHead, ...peers] = readLines(peerPath);
/** Of sizes that are for an emulated device, which has no targets. */
const tiny = !ours.some(({ id }) => gpuCases().some((test) => test.id === id));
const rateOf = (id) => ours.find((row) => row.id === id)?.rate;
const peersOf = (id) => peers.filter((row) => row.id === id);

const copies = [rateOf(gpuCases()[0].id), ...peersOf(gpuCases()[0].id).map(({ rate }) => rate)].filter(Boolean);
const copy = Math.max(...copies, 0);
/** Targets for memory are an H200's; another card's are in proportion to how fast it copies. */
const scale = head.device.includes('H200') || copy === 0 ? 1 : copy / H200_COPY;

const names = { torch: 'PyTorch', flash: 'FlashAttention-2', cudnn: 'cuDNN', eager: 'eager', graph: 'CUDA graph' };
const nameOf = (variant) => names[variant] ?? variant;
const show = (rate) => {
  if (rate === undefined) return '–';
  return rate >= 1000 ? rate.toFixed(0) : rate.toPrecision(3);
};
const lower = (unit) => unit === 'ms';
/** How much faster than the peer: above 1 is better, whatever the unit. */
const ratio = (rate, peer, unit) => (lower(unit) ? peer / rate : rate / peer);

/** [what is asked, whether it is met; undefined where it cannot be told] for each part of a case's target. */
function verdicts({ id, unit, target }) {
  if (tiny) return [];
  const rate = rateOf(id);
  return Object.entries(target).flatMap(([key, value]) => {
    if (key === 'memory') return [];
    if (key === 'atLeast' || key === 'atMost') {
      const wanted = target.memory ? (key === 'atLeast' ? value * scale : value / scale) : value;
      const met = rate === undefined ? undefined : key === 'atLeast' ? rate >= wanted : rate <= wanted;
      return [[`${key === 'atLeast' ? '≥' : '≤'} ${show(wanted)} ${unit}`, met]];
    }
    const peer = peersOf(id).find(({ variant }) => variant === key)?.rate;
    const met = rate === undefined || peer === undefined ? undefined : ratio(rate, peer, unit) >= value;
    return [[`≥ ${value} × ${nameOf(key)}`, met]];
  });
}

function rowOf(test) {
  const own = ours.find((row) => row.id === test.id);
  if (!own) return undefined;
  const others = peersOf(test.id);
  const timed = others.filter(({ rate }) => rate !== undefined);
  const peerText = others.map(
    ({ variant, rate, error }) => `${nameOf(variant)} ${error ? `(${error.slice(0, 60)})` : show(rate)}`,
  );
  const ratios = timed.map(({ rate }) => (own.rate === undefined ? '–' : ratio(own.rate, rate, test.unit).toFixed(2)));
  const judged = verdicts(test);
  const marks = judged.map(([text, met]) => `${text}${met === undefined ? '' : met ? ' ✓' : ' ✗'}`);
  const result = own.error ? `failed: ${own.error.slice(0, 80)}` : `${show(own.rate)} ${test.unit}`;
  const time = own.milliseconds === undefined ? '–' : show(own.milliseconds);
  const cells = [test.id, time, result, peerText.join('; ') || '–', ratios.join('; ') || '–', marks.join('; ') || '–'];
  return { text: `| ${cells.map((cell) => cell.replaceAll('|', '/').replaceAll('\n', ' ')).join(' | ')} |`, judged };
}

const rows = gpuCases(tiny).map(rowOf).filter(Boolean);
const all = rows.flatMap(({ judged }) => judged.map(([, met]) => met));
const count = (met) => all.filter((one) => one === met).length;
const note =
  scale === 1
    ? ''
    : ` Targets for memory are an H200's times ${scale.toFixed(2)}, as this card copies ${show(copy)} TB/s.`;
const text = [
  `# ${head.date} · ${head.device}`,
  '',
  `${head.library}, Node ${head.node}${peerHead ? `; ${peerHead.library}${peerHead.device === head.device ? '' : ` on ${peerHead.device}`}` : ''}. ` +
    `Medians; random inputs; the ratio is how many times as fast as the peer.${note}`,
  '',
  '| case | ms | fovea | peer | ratio | target |',
  '|---|---|---|---|---|---|',
  ...rows.map((row) => row.text),
  '',
  `${count(true)} targets met, ${count(false)} missed, ${count(undefined)} not to be told.`,
].join('\n');
console.log(text);
if (options.write) {
  const name = `${head.date}-${head.device
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')}.md`;
  writeFileSync(join(dirname(fileURLToPath(import.meta.url)), 'results', name), `${text}\n`);
}
