// Numbers as digits, and in words: a language pair small enough to be learned in minutes.
import { tensor, type Tensor } from 'fovea';

const small = [
  'zero',
  'one',
  'two',
  'three',
  'four',
  'five',
  'six',
  'seven',
  'eight',
  'nine',
  'ten',
  'eleven',
  'twelve',
];
const teens = ['thirteen', 'fourteen', 'fifteen', 'sixteen', 'seventeen', 'eighteen', 'nineteen'];
const tens = ['twenty', 'thirty', 'forty', 'fifty', 'sixty', 'seventy', 'eighty', 'ninety'];
const below20 = [...small, ...teens];

/** 1234: one thousand two hundred thirty four. */
export function wordsOf(n: number): string[] {
  if (n < 20) return [below20[n]!];
  const [unit, word] = n < 100 ? [10, undefined] : n < 1000 ? [100, 'hundred'] : [1000, 'thousand'];
  const [many, rest] = [Math.floor(n / unit), n % unit];
  const head = word === undefined ? [tens[many - 2]!] : [...wordsOf(many), word];
  return rest === 0 ? head : [...head, ...wordsOf(rest)];
}

export const [pad, bos, eos] = [0, 1, 2];
const vocabulary = ['<pad>', '<bos>', '<eos>', ...'0123456789', ...below20, ...tens, 'hundred', 'thousand'];
const ids = new Map(vocabulary.map((word, i) => [word, i]));
export const vocabSize = vocabulary.length;

export const digitsToIds = (n: number): number[] => Array.from(String(n), (digit) => ids.get(digit)!);
export const wordsToIds = (n: number): number[] => wordsOf(n).map((word) => ids.get(word)!);

/** Rows of unequal lengths, filled with `pad` at the end. */
export function padded(rows: readonly (readonly number[])[]): Tensor {
  const n = Math.max(...rows.map((row) => row.length));
  return tensor(
    rows.map((row) => Array.from({ length: n }, (_, i) => row[i] ?? pad)),
    { dtype: 'int64' },
  );
}

/** What a model reads and should say. */
export function batchOf(numbers: readonly number[]): { inputIds: Tensor; decoderInputIds: Tensor; labels: Tensor } {
  const words = numbers.map(wordsToIds);
  return {
    inputIds: padded(numbers.map(digitsToIds)),
    decoderInputIds: padded(words.map((row) => [bos, ...row])),
    labels: padded(words.map((row) => [...row, eos])),
  };
}

/** The rows of integers [B, n]. */
export function rowsOf(ids: Tensor): number[][] {
  const [batch, n] = ids.shape as [number, number];
  const flat = Array.from(ids.dataSync() as BigInt64Array, Number);
  return Array.from({ length: batch }, (_, i) => flat.slice(i * n, (i + 1) * n));
}
