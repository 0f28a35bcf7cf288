// Packs the package as it is published, installs the tarballs in an empty folder as a stranger would, and uses them.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'fovea-install-'));
const app = join(folder, 'app');
const platform = `${process.platform}-${process.arch}`;
/** In place of the CUDA kernels, which need nvcc: where they are looked for does not depend on what they are. */
const plugin = join(folder, 'plugin.so');
let tarballs: string[] = [];

interface Manifest {
  version: string;
  scripts?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

function readManifest(path: string): Manifest {
  return JSON.parse(readFileSync(path, 'utf8')) as Manifest;
}

function install(place: string): void {
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'package.json'), JSON.stringify({ name: 'app', private: true }));
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts'];
  execFileSync('npm', ['install', ...quiet, ...tarballs], { cwd: place, stdio: 'pipe' });
}

/** Runs a script in the app's folder; what it prints. An environment variable must not lend it a binary or a plugin. */
function run(place: string, name: string, script: string): string {
  writeFileSync(join(place, name), script);
  const { FOVEA_BINARY: _binary, FOVEA_CUDA_PLUGIN: _plugin, NODE_OPTIONS: _options, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [name], { cwd: place, env, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.trim();
}

beforeAll(() => {
  writeFileSync(plugin, 'no library');
  const args = ['--out', folder, '--cuda', `${platform}=${plugin}`];
  const output = execFileSync(process.execPath, [join(root, 'scripts/release.mjs'), ...args], { encoding: 'utf8' });
  tarballs = output.trim().split('\n');
  install(app);
}, 180_000);

afterAll(() => rmSync(folder, { recursive: true }));

describe('the tarball', () => {
  /** Everything that may be packed; a file that matches nothing here was packed by accident. */
  const whitelist = [
    /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|CMakeLists\.txt|binding\.gyp)$/,
    /^dist\/.+\.(js|d\.ts)$/,
    /^native\/(sources\.json|kernels\.gypi)$/,
    /^native\/(core|cpu|cuda|binding)\/[a-z0-9_]+\.(cc|cu|h)$/,
    /^native\/ops\/([a-z0-9_]+\/)?[a-z0-9_]+\.(cc|cu|h|inc)$/,
    /^cmake\/[a-z0-9_-]+\.cmake$/,
    /^scripts\/(build|sources)\.mjs$/,
  ];
  const required = ['package.json', 'README.md', 'LICENSE', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js'];

  function contents(): string[] {
    const installed = join(app, 'node_modules/fovea');
    const entries = readdirSync(installed, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    return files.map((entry) => join(entry.parentPath, entry.name).slice(installed.length + 1));
  }

  test('holds what is needed and nothing else', () => {
    const files = contents().filter((path) => !path.startsWith('node_modules/'));
    expect(files.filter((path) => !whitelist.some((pattern) => pattern.test(path)))).toEqual([]);
    expect(files).toEqual(expect.arrayContaining(required));
  });

  test('lists the platform packages and runs nothing at install', () => {
    const manifest = readManifest(join(app, 'node_modules/fovea/package.json'));
    expect(manifest.optionalDependencies).toEqual({
      [`@fovea/${platform}`]: manifest.version,
      [`@fovea/${platform}-cuda`]: manifest.version,
    });
    expect(manifest.scripts).toBeUndefined();
    expect(manifest.devDependencies).toBeUndefined();
  });

  test('has a platform package with the binary alone', () => {
    const place = join(app, 'node_modules/@fovea', platform);
    expect(readdirSync(place).sort()).toEqual(['LICENSE', 'fovea.node', 'package.json']);
    expect(tarballs.map((path) => basename(path))).toContain(
      `fovea-${platform}-${readManifest(join(place, 'package.json')).version}.tgz`,
    );
  });

  test('has a platform package with the CUDA kernels alone', () => {
    const place = join(app, 'node_modules/@fovea', `${platform}-cuda`);
    expect(readdirSync(place).sort()).toEqual(['LICENSE', 'fovea_cuda.so', 'package.json']);
    expect(readFileSync(join(place, 'fovea_cuda.so'))).toEqual(readFileSync(plugin));
    const manifest = JSON.parse(readFileSync(join(place, 'package.json'), 'utf8')) as Record<string, unknown>;
    expect(manifest).toMatchObject({
      name: `@fovea/${platform}-cuda`,
      version: readManifest(join(app, 'node_modules/fovea/package.json')).version,
      os: [process.platform],
      cpu: [process.arch],
    });
    expect(manifest['scripts']).toBeUndefined();
    expect(tarballs.map((path) => basename(path))).toContain(
      `fovea-${platform}-cuda-${manifest['version'] as string}.tgz`,
    );
  });

  test('has every file that its exports name', () => {
    const { exports } = JSON.parse(readFileSync(join(app, 'node_modules/fovea/package.json'), 'utf8')) as {
      exports: Record<string, string | Record<string, string>>;
    };
    const targets = Object.values(exports).flatMap((entry) =>
      typeof entry === 'string' ? entry : Object.values(entry),
    );
    const files = contents();
    expect(targets.map((path) => path.slice(2)).filter((path) => !files.includes(path))).toEqual([]);
  });
});

describe('the installed package', () => {
  const body = `
    const x = fovea.tensor([[1, 2], [3, 4]]);
    const w = fovea.tensor([[1, 0], [0, 1]], { requiresGrad: true });
    const loss = x.matmul(w).mean();
    loss.backward();
    console.log(JSON.stringify([await loss.item(), [...(await w.grad.data())]]));`;
  const expected = '[2.5,[1,1,1.5,1.5]]';

  test('works as ESM', () => {
    expect(run(app, 'esm.mjs', `import * as fovea from 'fovea';\nimport 'fovea/nn';\n${body}`)).toBe(expected);
  });

  test('works as CJS', () => {
    const script = `const fovea = require('fovea');\nrequire('fovea/optim');\n(async () => {${body}\n})();`;
    // Node 20 warns that require(esm) is experimental; the snippet itself must print no warning of ours.
    writeFileSync(join(app, 'cjs.cjs'), script);
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', 'cjs.cjs'], {
      cwd: app,
      encoding: 'utf8',
    });
    expect({ status, stdout: stdout.trim(), stderr }).toEqual({ status: 0, stdout: expected, stderr: '' });
  });

  test('has types that a strict TypeScript program compiles against', () => {
    const program = [
      "import { tensor, nn, optim, type Tensor } from 'fovea';",
      "import { Linear } from 'fovea/nn';",
      "import { layerNorm } from 'fovea/functional';",
      'const x: Tensor = tensor([[1, 2], [3, 4]]);',
      'const layer: nn.Linear = new Linear(2, 3);',
      'const optimizer = new optim.AdamW(layer.parameters(), { lr: 1e-3 });',
      'optimizer.step();',
      'export const y: Tensor = layerNorm(layer.forward(x), [3]);',
      '// @ts-expect-error: no such dtype',
      "export const z: Tensor = tensor([1], { dtype: 'float31' });",
    ];
    writeFileSync(join(app, 'program.ts'), program.join('\n'));
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--ignoreConfig'];
    // AbortSignal comes from Node's types, as in any TypeScript program for Node.
    const nodeTypes = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
    const { status, stdout } = spawnSync(
      process.execPath,
      [
        join(root, 'node_modules/typescript/bin/tsc'),
        ...options,
        '--lib',
        'es2022,esnext.disposable',
        ...nodeTypes,
        'program.ts',
      ],
      { cwd: app, encoding: 'utf8' },
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
  });

  test('has a command line', () => {
    const { version } = readManifest(join(root, 'package.json'));
    const output = execFileSync(join(app, 'node_modules/.bin/fovea'), ['--version'], { encoding: 'utf8' });
    expect(output.trim()).toBe(version);
  });

  test('two copies of it work in one process', () => {
    const second = join(folder, 'second');
    install(second);
    const script = `
      import * as first from 'fovea';
      import * as second from ${JSON.stringify(join(second, 'node_modules/fovea/dist/index.js'))};
      const [a, b] = [first.tensor([1, 2, 3]), second.tensor([4, 5, 6])];
      console.log(first.tensor !== second.tensor, await a.sum().item(), await b.sum().item());`;
    expect(run(app, 'twice.mjs', script)).toBe('true 6 15');
  });

  test('looks for CUDA kernels in their package, and does without', () => {
    const script = `
      import { devices } from 'fovea';
      const [cpu, gpu] = devices();
      console.log(cpu.available, gpu.available, gpu.reason);`;
    expect(run(app, 'gpu.mjs', script)).toMatch(
      new RegExp(`^true false .*node_modules/@fovea/${platform}-cuda/fovea_cuda\\.so`),
    );
    const without = join(folder, 'without');
    install(without);
    rmSync(join(without, 'node_modules/@fovea', `${platform}-cuda`), { recursive: true });
    expect(run(without, 'gpu.mjs', script)).toMatch(new RegExp(`^true false .*install @fovea/${platform}-cuda`));
  });

  test('without a binary it names the command that builds one', () => {
    const bare = join(folder, 'bare');
    install(bare);
    rmSync(join(bare, 'node_modules/@fovea'), { recursive: true });
    const script = `
      import('fovea').catch((error) => console.log(error.name, error.code, error.message));`;
    const output = run(bare, 'bare.mjs', script);
    expect(output).toMatch(/^FoveaError FOVEA_BINARY /);
    expect(output).toContain('npx fovea build');
  });

  test('a wrong FOVEA_ISA is refused with the choices', () => {
    const script = `import('fovea').catch((error) => console.log(error.name, error.code, error.message));`;
    writeFileSync(join(app, 'isa.mjs'), script);
    const env = { ...process.env, FOVEA_ISA: 'none' };
    const output = execFileSync(process.execPath, ['isa.mjs'], { cwd: app, encoding: 'utf8', env });
    expect(output).toMatch(/^FoveaError FOVEA_ARGUMENT FOVEA_ISA is "none"; expected one of /);
  });

  test('FOVEA_BINARY names the binary to load, and a wrong one is an error', () => {
    const copy = join(folder, 'copy.node');
    copyFileSync(join(app, 'node_modules/@fovea', platform, 'fovea.node'), copy);
    const script = `import('fovea').then((fovea) => fovea.tensor([2]).item().then(console.log), (error) => console.log(error.code, error.message));`;
    writeFileSync(join(app, 'named.mjs'), script);
    const withBinary = (path: string): string =>
      execFileSync(process.execPath, ['named.mjs'], {
        cwd: app,
        encoding: 'utf8',
        env: { ...process.env, FOVEA_BINARY: path },
      });
    expect(withBinary(copy).trim()).toBe('2');
    expect(withBinary('/nowhere/fovea.node')).toMatch(/^FOVEA_BINARY .*\/nowhere\/fovea\.node/);
  });
});
