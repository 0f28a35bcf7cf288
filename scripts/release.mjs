// Packs what is published, without publishing it:
//
//   node scripts/release.mjs [--out <folder>] [--binary <platform>-<arch>=<file>]...
//                            [--cuda <platform>-<arch>=<file>]...
//
// writes one tarball per binary (`@fovea/<platform>-<arch>`, which holds fovea.node), one per CUDA plugin
// (`@fovea/<platform>-<arch>-cuda`, which holds fovea_cuda.so) and the tarball of `fovea` itself, whose manifest lists
// them as optionalDependencies. Without --binary: the binary built here; without --cuda: the plugin built here, if
// there is one. The packed manifest has no scripts and no devDependencies, so an install of it runs nothing. Prints the
// tarballs, one per line.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';

const here = `${process.platform}-${process.arch}`;
const built = (file) => join(root, 'build/Release', file);
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: '.' },
    binary: {
      type: 'string',
      multiple: true,
      default: [`${here}=${built('fovea.node')}`],
    },
    cuda: {
      type: 'string',
      multiple: true,
      default: existsSync(built('fovea_cuda.so')) ? [`${here}=${built('fovea_cuda.so')}`] : [],
    },
  },
});

function npmPack(folder, ...args) {
  // Windows starts .cmd files through a shell only.
  const options = { cwd: folder, encoding: 'utf8', shell: process.platform === 'win32' };
  const output = execFileSync(npm, ['pack', '--json', '--ignore-scripts', ...args], options);
  const packed = JSON.parse(output);
  return Array.isArray(packed) ? packed[0] : Object.values(packed)[0];
}

function writeManifest(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`);
}

/** What a package of one platform holds: its name, the file and what it is. */
const kinds = {
  binary: (target) => ({
    name: `@fovea/${target}`,
    file: 'fovea.node',
    description: `The native half of fovea for ${target}.`,
  }),
  cuda: (target) => ({
    name: `@fovea/${target}-cuda`,
    file: 'fovea_cuda.so',
    description: `The CUDA kernels of fovea for ${target}, opened where there is a GPU.`,
  }),
};

/** The packages that an option asks for, `<platform>-<arch>=<file>` each. */
function packagesOf(kind) {
  return values[kind].map((text) => {
    const at = text.indexOf('=');
    if (at < 1) throw new Error(`release: --${kind} is "${text}"; expected <platform>-<arch>=<file>`);
    const target = text.slice(0, at);
    return { ...kinds[kind](target), target, binary: resolve(text.slice(at + 1)) };
  });
}

/** Stages and packs one platform package; the path of its tarball. */
function packPlatform(stage, out, { name, file, description, target, binary }) {
  if (!existsSync(binary)) throw new Error(`release: ${binary} is not there; run \`npm run build:native\` first`);
  const [os, cpu] = target.split('-');
  mkdirSync(stage, { recursive: true });
  copyFileSync(binary, join(stage, file));
  copyFileSync(join(root, 'LICENSE'), join(stage, 'LICENSE'));
  writeManifest(stage, {
    name,
    version: manifest.version,
    description,
    license: manifest.license,
    author: manifest.author,
    main: file,
    files: [file],
    engines: manifest.engines,
    os: [os],
    cpu: [cpu],
    ...(os === 'linux' ? { libc: ['glibc'] } : {}),
  });
  return join(out, npmPack(stage, '--pack-destination', out).filename);
}

/** Stages the files that npm would pack, with the published manifest, and packs them; the path of the tarball. */
function packRoot(stage, out, packages) {
  const files = npmPack(root, '--dry-run').files.map(({ path }) => path);
  const sourceOf = (path) => path.replace(/^dist/, 'src').replace(/(\.d\.ts|\.js)$/, '.ts');
  const stale = files.filter((path) => path.startsWith('dist/') && !existsSync(join(root, sourceOf(path))));
  if (stale.length)
    throw new Error(`release: ${stale.join(', ')} have no source; remove dist and run \`npm run build:ts\``);
  for (const path of files) {
    mkdirSync(dirname(join(stage, path)), { recursive: true });
    copyFileSync(join(root, path), join(stage, path));
  }
  const { scripts: _scripts, devDependencies: _devDependencies, ...published } = manifest;
  const optionalDependencies = Object.fromEntries(packages.map(({ name }) => [name, manifest.version]));
  writeManifest(stage, { ...published, optionalDependencies });
  return join(out, npmPack(stage, '--pack-destination', out).filename);
}

const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const stage = mkdtempSync(join(tmpdir(), 'fovea-release-'));
try {
  const packages = [...packagesOf('binary'), ...packagesOf('cuda')];
  const tarballs = packages.map((content) => packPlatform(join(stage, content.name), out, content));
  tarballs.push(packRoot(join(stage, 'root'), out, packages));
  console.log(tarballs.join('\n'));
} finally {
  rmSync(stage, { recursive: true });
}
