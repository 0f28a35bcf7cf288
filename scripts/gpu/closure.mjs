// Prints the folders of the packages named and of all that they need, as package-lock.json has them and as far as they
// are installed, one per line: `node scripts/gpu/closure.mjs <package>...`
import { existsSync, readFileSync } from 'node:fs';

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));

/** Where Node finds `name` from the package in `folder`: there, or in a folder around it. */
function find(name, folder) {
  for (let at = folder; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const place = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (packages[place]) return place;
    if (at === '') return undefined;
  }
}

/** What a package cannot do without, and what it may have: the latter is missing for other platforms. */
function needsOf({ dependencies = {}, peerDependencies = {}, peerDependenciesMeta = {}, optionalDependencies = {} }) {
  const peers = Object.keys(peerDependencies).filter((name) => !peerDependenciesMeta[name]?.optional);
  return { needed: [...Object.keys(dependencies), ...peers], optional: Object.keys(optionalDependencies) };
}

const found = new Set();
function visit(name, from, required) {
  const folder = find(name, from);
  if (!folder || !existsSync(folder)) {
    if (!required) return;
    console.error(`${name}, which ${from || 'the host'} needs, is not installed; run \`npm ci\` first`);
    process.exit(1);
  }
  if (found.has(folder)) return;
  found.add(folder);
  const { needed, optional } = needsOf(packages[folder]);
  for (const other of needed) visit(other, folder, true);
  for (const other of optional) visit(other, folder, false);
}
for (const name of process.argv.slice(2)) visit(name, '', true);

// A package inside of another one's folder is packed with it.
const folders = [...found].toSorted((a, b) => (a < b ? -1 : 1));
console.log(folders.filter((folder) => !folders.some((other) => folder.startsWith(`${other}/`))).join('\n'));
