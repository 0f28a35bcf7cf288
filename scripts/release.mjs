// Packs what is published, without publishing it:
//
//   node scripts/release.mjs [--out <folder>] [--binary <platform>-<arch>=<file>]...
//
// writes one tarball per binary (`@fovea/<platform>-<arch>`, which holds fovea.node) and the tarball of `fovea` itself,
// whose manifest lists them as optionalDependencies. Without --binary: the binary built here. The packed manifest has no
// scripts and no devDependencies, so an install of it runs nothing. Prints the tarballs, one per line.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: '.' },
    binary: {
      type: 'string',
      multiple: true,
      default: [`${process.platform}-${process.arch}=${join(root, 'build/Release/fovea.node')}`],
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

/** Stages and packs one platform package; the path of its tarball. */
function packPlatform(stage, out, target, binary) {
  if (!existsSync(binary)) throw new Error(`release: ${binary} is not there; run \`npm run build:native\` first`);
  const [os, cpu] = target.split('-');
  mkdirSync(stage, { recursive: true });
  copyFileSync(binary, join(stage, 'fovea.node'));
  copyFileSync(join(root, 'LICENSE'), join(stage, 'LICENSE'));
  writeManifest(stage, {
    name: `@fovea/${target}`,
    version: manifest.version,
    description: `The native half of fovea for ${target}.`,
    license: manifest.license,
    author: manifest.author,
    main: 'fovea.node',
    files: ['fovea.node'],
    engines: manifest.engines,
    os: [os],
    cpu: [cpu],
    ...(os === 'linux' ? { libc: ['glibc'] } : {}),
  });
  return join(out, npmPack(stage, '--pack-destination', out).filename);
}

/** Stages the files that npm would pack, with the published manifest, and packs them; the path of the tarball. */
function packRoot(stage, out, targets) {
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
  const optionalDependencies = Object.fromEntries(targets.map((target) => [`@fovea/${target}`, manifest.version]));
  writeManifest(stage, { ...published, optionalDependencies });
  return join(out, npmPack(stage, '--pack-destination', out).filename);
}

const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const stage = mkdtempSync(join(tmpdir(), 'fovea-release-'));
try {
  const binaries = values.binary.map((text) => {
    const at = text.indexOf('=');
    if (at < 1) throw new Error(`release: --binary is "${text}"; expected <platform>-<arch>=<file>`);
    return [text.slice(0, at), resolve(text.slice(at + 1))];
  });
  const tarballs = binaries.map(([target, binary]) => packPlatform(join(stage, target), out, target, binary));
  tarballs.push(
    packRoot(
      join(stage, 'root'),
      out,
      binaries.map(([target]) => target),
    ),
  );
  console.log(tarballs.join('\n'));
} finally {
  rmSync(stage, { recursive: true });
}
