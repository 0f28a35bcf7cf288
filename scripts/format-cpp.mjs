// Formats native/**/*.{cc,cu,h} with clang-format (.clang-format), or with --check says which files would change.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const clangFormat = createRequire(import.meta.url)('clang-format').getNativeBinary();
const check = process.argv.includes('--check');

const files = readdirSync(join(root, 'native'), { recursive: true })
  .filter((path) => /\.(cc|cu|h)$/.test(path))
  .map((path) => join('native', path));
const mode = check ? ['--dry-run', '--Werror'] : ['-i'];
const { status } = spawnSync(clangFormat, [...mode, ...files], { cwd: root, stdio: 'inherit' });
if (status === 0) console.log(`clang-format: ${files.length} files ${check ? 'are formatted' : 'formatted'}`);
else if (check) console.error('clang-format: run `npm run format`');
process.exit(status ?? 1);
