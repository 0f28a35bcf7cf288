// Versions of the packages that are installed beside this file.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const packages = join(dirname(fileURLToPath(import.meta.url)), 'node_modules');

/** @throws Error if the package is not installed */
export function versionOf(name) {
  return JSON.parse(readFileSync(join(packages, name, 'package.json'), 'utf8')).version;
}
