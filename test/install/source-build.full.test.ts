// A consumer for whose machine there is no platform package compiles the packed sources with `npx fovea build`.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'fovea-source-'));
const app = join(folder, 'app');
afterAll(() => rmSync(folder, { recursive: true }));

function npmInstall(...packages: string[]): void {
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts', '--omit=optional'];
  execFileSync('npm', ['install', ...quiet, ...packages], { cwd: app, stdio: 'pipe' });
}

function foveaBuild(): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(join(app, 'node_modules/.bin/fovea'), ['build'], { cwd: app, encoding: 'utf8' });
  return { status, stderr };
}

test('npx fovea build compiles the packed sources, after saying which tool to install', { timeout: 1_800_000 }, () => {
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true }));
  const output = execFileSync(process.execPath, [join(root, 'scripts/release.mjs'), '--out', folder], {
    encoding: 'utf8',
  });
  const tarball = output
    .trim()
    .split('\n')
    .find((path) => /[\\/]fovea-\d[^\\/]*\.tgz$/.test(path))!;
  npmInstall(tarball);
  expect(existsSync(join(app, 'node_modules/@fovea'))).toBe(false);

  const without = foveaBuild();
  expect(without.status).not.toBe(0);
  expect(without.stderr).toContain('npm install --save-dev cmake-js');

  npmInstall('cmake-js@8');
  expect(foveaBuild()).toMatchObject({ status: 0 });
  const script = "import { tensor } from 'fovea'; console.log(await tensor([1, 2]).sum().item());";
  writeFileSync(join(app, 'sum.mjs'), script);
  expect(execFileSync(process.execPath, ['sum.mjs'], { cwd: app, encoding: 'utf8' }).trim()).toBe('3');
});
