// The rules of CONTRIBUTING.md that no linter knows: no source file over 400 lines, no line of C++ and no comment over
// 120 columns (biome breaks the other lines of TypeScript, and knows which cannot be broken), no tab, no trailing
// blank, no unfinished work left as a comment; and a folder of src/ imports from the folders below it only. Generated
// files are exempt.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cpp = ['.cc', '.cu', '.h'];
const folders = {
  native: cpp,
  src: ['.ts'],
  test: ['.ts', '.mjs'],
  bench: ['.ts', '.mjs'],
  examples: ['.mjs'],
  scripts: ['.mjs'],
};
const longestFile = 400;
const longestLine = 120;

/** The floors of src/, from the ground up. Files directly in src/ other than the first two are the roof. */
const floors = [
  ['addon', 'errors'],
  ['tensor'],
  ['autograd'],
  ['ops', 'functional'],
  ['nn'],
  ['optim', 'io', 'text', 'generate', 'models', 'train'],
  ['inspect'],
  ['cli'],
];

/** What is wrong with the imports of a file in src/, which say data flows one way. */
function importProblems(path, text) {
  const floorOf = (file) => floors.findIndex((names) => names.includes(file.split(/[\\/.]/)[1]));
  const own = floorOf(path);
  if (!path.startsWith('src') || own < 0) return [];
  const targets = [...text.matchAll(/\bfrom '(\.[^']+)'/g)].map((match) => normalize(join(dirname(path), match[1])));
  const upward = targets.filter((target) => floorOf(target) > own || floorOf(target) < 0);
  return upward.map((target) => `${path}: imports ${target}, which lies above it`);
}

/** Whether a line of TypeScript or JavaScript is a comment and nothing else. */
const isComment = (line) => /^\s*(\/\/|\/\*|\*(\s|\/|$))/.test(line);

/** What is wrong with one line, or undefined. */
function lineProblem(line, isCpp) {
  if ((isCpp || isComment(line)) && [...line].length > longestLine)
    return `${[...line].length} columns; at most ${longestLine}`;
  if (line.includes('\t')) return 'a tab; indent with spaces';
  if (/\s$/.test(line)) return 'blanks at the end';
  if (/\b(TO[D]O|FIX[M]E|X[X]X)\b/.test(line)) return 'unfinished work; finish it or open an issue';
  return undefined;
}

function problemsOf(path) {
  const text = readFileSync(join(root, path), 'utf8');
  const lines = text.split('\n');
  const found = lines.map((line, at) => [at + 1, lineProblem(line, cpp.includes(extname(path)))]);
  const problems = found.filter(([, problem]) => problem).map(([at, problem]) => `${path}:${at}: ${problem}`);
  // The text after the last line break is no line.
  if (lines.length - 1 > longestFile) problems.push(`${path}: ${lines.length - 1} lines; at most ${longestFile}`);
  return [...problems, ...importProblems(path, text)];
}

const paths = Object.entries(folders).flatMap(([folder, extensions]) =>
  readdirSync(join(root, folder), { recursive: true })
    .filter((path) => extensions.includes(extname(path)) && !path.endsWith('.gen.ts') && !path.includes('node_modules'))
    .map((path) => join(folder, path)),
);
const problems = paths.flatMap(problemsOf);
for (const problem of problems) console.error(problem);
console.log(`style: ${paths.length} files, ${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
