// Makes a folder hold what another one holds, without what git ignores: `node scripts/gpu/mirror.mjs <from> <to>`. Only
// files whose contents differ are written, so that a build there knows what has changed whatever the dates say.
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// At the root; run.sh puts packages and dist/ into the copy itself.
const ignored = /^(\.git|\.gpu|node_modules|dist|build|build-.*|coverage|shared)$/;

function read(path) {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** Mirrors one folder; how many files were written or removed. */
function mirror(from, to, skips = () => false) {
  mkdirSync(to, { recursive: true });
  const names = readdirSync(from).filter((name) => !skips(name));
  let changed = 0;
  for (const name of readdirSync(to)) {
    if (names.includes(name) || skips(name)) continue;
    rmSync(join(to, name), { recursive: true });
    changed++;
  }
  for (const name of names) {
    const [source, target] = [join(from, name), join(to, name)];
    const kind = lstatSync(source);
    if (kind.isDirectory()) changed += mirror(source, target);
    if (!kind.isFile()) continue;
    const contents = readFileSync(source);
    if (read(target)?.equals(contents)) continue;
    writeFileSync(target, contents);
    changed++;
  }
  return changed;
}

const [from, to] = process.argv.slice(2);
console.log(`${mirror(from, to, (name) => ignored.test(name))} files changed`);
