// What the times of fovea and a peer say, and how it is shown.
import { assess, shareText, timeText } from '../report.mjs';
import { median } from '../timing.mjs';

/**
 * One line of the table.
 *
 * @param test the case @param peer its id @param ours milliseconds of one call, by round @param theirs the same of the
 * peer
 * @param limit name and rate of what bounds the case, if anything does
 * @returns medians, `ratio` = theirs / ours, so that above 1 fovea is the faster, and the share of the limit
 */
export function rowOf(test, peer, ours, theirs, limit) {
  const [own, other] = [median(ours), median(theirs)];
  const spread = (times) => (Math.max(...times) - Math.min(...times)) / median(times);
  return {
    id: test.id,
    group: test.group,
    peer,
    dtype: test.dtype,
    ours: own,
    theirs: other,
    ratio: other / own,
    ...assess(test, own, limit),
    spread: { ours: spread(ours), theirs: spread(theirs) },
  };
}

const escaped = (text) => String(text).replaceAll('|', '\\|');
const line = (cells) => `| ${cells.map(escaped).join(' | ')} |`;
const caseName = ({ id, dtype }) => id.slice(0, -dtype.length - 1);

function table(rows, nameOf) {
  return [
    line(['case', 'dtype', 'fovea', 'peer', 'peer’s time', 'R', 'share of limit']),
    '|---|---|---|---|---|---|---|',
    ...rows.map((row) =>
      line([
        caseName(row),
        row.dtype,
        timeText(row.ours),
        nameOf(row.peer),
        timeText(row.theirs),
        row.ratio.toFixed(2),
        shareText(row),
      ]),
    ),
  ];
}

/** Sections of what is not in the table; none where there is nothing to say. */
function leftOut({ peers, failed, unsupported }, nameOf) {
  const missing = peers.filter((peer) => peer.missing);
  const lacking = peers
    .map(({ id }) => [nameOf(id), unsupported.filter(({ peer }) => peer === id).length])
    .filter(([, count]) => count > 0);
  return [
    ...missing.map(({ id, missing: why, install }) => `- ${nameOf(id)}: not installed (${why}). \`${install}\``),
    ...failed.map(({ id, peer, error }) => `- ${id}, ${peer === 'fovea' ? 'fovea' : nameOf(peer)}: failed (${error})`),
    ...lacking.map(([name, count]) => `- ${name}: ${count} of the cases it does not have (why: in the JSON)`),
  ];
}

/** The whole report as Markdown. */
export function markdown(report) {
  const nameOf = (id) => report.peers.find((peer) => peer.id === id)?.name ?? id;
  const versions = report.peers.filter(({ version }) => version).map(({ name, version }) => `${name} ${version}`);
  const peers = versions.join(', ') || 'no peer';
  const out = leftOut(report, nameOf);
  return [
    `# ${report.date} · ${report.cpu}`,
    '',
    `fovea ${report.version} (${report.isa}), ${report.threads} threads, Node ${report.node}; ${peers}.`,
    `Medians of ${report.rounds} rounds, fovea and the peer in turn; R = peer / fovea: above 1 fovea is faster.`,
    '',
    ...(report.rows.length > 0 ? table(report.rows, nameOf) : ['No pair was timed.']),
    ...(out.length > 0 ? ['', 'Not in the table:', '', ...out] : []),
    '',
  ].join('\n');
}
