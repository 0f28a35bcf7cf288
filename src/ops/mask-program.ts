/**
 * Masks as the programs that kernels read (native/ops/attention/pattern.h): steps in postfix order, then tables, in one
 * tensor of int64. A step has eight words: what it does, whether positions are aligned at the bottom right, and up to
 * six numbers.
 */
import { sizeOf } from '../tensor/layout.js';
import type { BlockTable, MaskAlign, MaskNode, MaskNumbers } from './mask-node.js';
import { isTensor, type Tensor } from '../tensor/tensor.js';

/** Numbered as PatternOp in native/ops/attention/pattern.h. */
const Step = {
  band: 0,
  stride: 1,
  residue: 2,
  cell: 3,
  below: 4,
  lengths: 5,
  ids: 6,
  keySet: 7,
  querySet: 8,
  blocks: 9,
  dense: 10,
  and: 11,
  or: 12,
  not: 13,
} as const;
const wordsOfStep = 8;
const wordsOfHeader = 8;
/** Farther than any two positions. */
const unbounded = 2 ** 40;

/** The sizes of the scores that a mask is for. */
export interface ScoreSizes {
  /** Batches. */
  b: number;
  /** Query heads. */
  h: number;
  /** Queries. */
  n: number;
  /** Keys. */
  m: number;
}
/** A program: words of the host, and tensors whose numbers follow them. */
export interface MaskProgram {
  words: BigInt64Array;
  tables: Tensor[];
}

/** A step; the words at `pointers` are places of tables, counted from the first table's word. */
interface PlacedStep {
  words: number[];
  pointers: readonly number[];
}
/** Steps, and how many results wait at most while they run. */
interface Part {
  steps: PlacedStep[];
  depth: number;
}

/** Members as words of 64 bits. */
const bitsOf = (members: readonly boolean[]): bigint[] => {
  const words = new Array<bigint>(Math.ceil(members.length / 64)).fill(0n);
  members.forEach((member, i) => {
    if (member) words[i >> 6]! |= 1n << BigInt(i & 63);
  });
  return words.map((word) => BigInt.asIntN(64, word));
};

/** Of numbers, [batches, length]. @returns them for a list, a list of lists or a tensor */
export function extentOf(numbers: MaskNumbers): [batches: number, length: number] {
  const nested = !isTensor(numbers) && Array.isArray(numbers[0]);
  const shape = isTensor(numbers)
    ? numbers.shape
    : nested
      ? [numbers.length, (numbers[0] as readonly number[]).length]
      : [numbers.length];
  return shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape[1]!];
}

/** The tables of blocks, one for each head or for all of them. */
export const headTables = (table: BlockTable): readonly (readonly (readonly boolean[])[])[] =>
  (Array.isArray(table[0]?.[0]) ? table : [table]) as readonly (readonly (readonly boolean[])[])[];

/** Turns nodes into steps, and collects their tables. */
class Compiler {
  private readonly sizes: ScoreSizes;
  private readonly host: bigint[] = [];
  private readonly tensors: Tensor[] = [];
  private readonly places = new Map<object, number>();
  /** Words that point to tables of tensors, which lie behind those of the host. */
  private readonly late: { step: PlacedStep; word: number; tensor: Tensor }[] = [];

  constructor(sizes: ScoreSizes) {
    this.sizes = sizes;
  }

  finish(node: MaskNode): MaskProgram {
    const { steps } = this.part(node);
    const first = wordsOfHeader + steps.length * wordsOfStep;
    let next = this.host.length;
    for (const { step, word, tensor } of this.late) {
      if (!this.places.has(tensor)) {
        this.places.set(tensor, next);
        this.tensors.push(tensor);
        next += sizeOf(tensor.shape);
      }
      step.words[word] = this.places.get(tensor)!;
    }
    const words = new BigInt64Array(first + this.host.length);
    words[0] = BigInt(steps.length);
    steps.forEach((step, i) => {
      step.words.forEach((value, w) => {
        words[wordsOfHeader + i * wordsOfStep + w] = BigInt(step.pointers.includes(w) ? value + first : value);
      });
    });
    words.set(this.host, first);
    return { words, tables: this.tensors };
  }

  private part(node: MaskNode): Part {
    switch (node.type) {
      case 'and':
      case 'or':
        return this.joined(
          node.type,
          node.terms.map((term) => this.part(term)),
        );
      case 'not': {
        const { steps, depth } = this.part(node.term);
        return { steps: [...steps, this.step('not')], depth };
      }
      case 'strided':
      case 'fixed':
      case 'dilated':
        return this.sparse(node);
      case 'globalTokens':
        return this.globals(node.indices, node.align);
      default:
        return this.one(this.single(node));
    }
  }

  private one(step: PlacedStep): Part {
    return { steps: [step], depth: 1 };
  }
  private step(name: keyof typeof Step, align: MaskAlign = 'topLeft', numbers: number[] = []): PlacedStep {
    return { words: [Step[name], align === 'bottomRight' ? 1 : 0, ...numbers], pointers: [] };
  }

  /** The deepest part first: least then waits beside another. */
  private joined(op: 'and' | 'or', parts: Part[]): Part {
    const [first, ...rest] = [...parts].sort((a, b) => b.depth - a.depth) as [Part, ...Part[]];
    return {
      steps: [...first.steps, ...rest.flatMap(({ steps }) => [...steps, this.step(op)])],
      depth: Math.max(first.depth, ...rest.map(({ depth }) => depth + 1)),
    };
  }

  private sparse(node: MaskNode & { type: 'strided' | 'fixed' | 'dilated' }): Part {
    const { align } = node;
    const past = this.one(this.step('band', align, [-unbounded, 0]));
    if (node.type === 'dilated') {
      const reach = Math.min(node.step * node.width, unbounded);
      const near = this.one(this.step('band', align, [-reach, reach]));
      return this.joined('and', [near, this.one(this.step('stride', align, [node.step, 0]))]);
    }
    const { stride } = node;
    if (node.type === 'strided') {
      const columns = this.joined('and', [past, this.one(this.step('stride', align, [stride, 0]))]);
      return this.joined('or', [columns, this.one(this.step('band', align, [-stride, 0]))]);
    }
    const summary = this.one(this.step('residue', align, [stride, stride - node.summary, stride]));
    return this.joined('and', [this.joined('or', [summary, this.one(this.step('cell', align, [stride]))]), past]);
  }

  private globals(indices: readonly number[], align: MaskAlign): Part {
    const members = new Array<boolean>(indices.reduce((most, index) => Math.max(most, index + 1), 0)).fill(false);
    for (const index of indices) members[index] = true;
    const place = this.add(bitsOf(members));
    const [keys, queries] = (['keySet', 'querySet'] as const).map((name) => {
      const step = this.step(name, align, [place, members.length]);
      step.pointers = [2];
      return this.one(step);
    }) as [Part, Part];
    return this.joined('or', [keys, queries]);
  }

  private single(
    node: Exclude<MaskNode, { type: 'and' | 'or' | 'not' | 'strided' | 'fixed' | 'dilated' | 'globalTokens' }>,
  ): PlacedStep {
    switch (node.type) {
      case 'causal':
        return this.step('band', node.align, [-unbounded, 0]);
      case 'slidingWindow':
        return this.step('band', node.align, [-node.left, node.right]);
      case 'prefix':
        return this.step('below', 'topLeft', [node.length]);
      case 'blocks':
        return this.blocks(node.table, node.size, node.align);
      case 'randomBlocks': {
        const { rows, columns } = randomExtent(node, this.sizes);
        return this.blocks(randomTable(rows, columns, node.count, node.seed), node.size, node.align);
      }
      case 'documents':
        return this.documents(node.ids, node.keyIds);
      case 'padding': {
        const step = this.step('lengths', 'topLeft', [0, extentOf(node.lengths)[1]]);
        this.place(step, [2], node.lengths);
        return step;
      }
      case 'tensorMask':
        return this.step('dense');
    }
  }

  private blocks(table: BlockTable, size: number, align: MaskAlign): PlacedStep {
    const heads = headTables(table);
    const place = this.add(heads.flatMap((head) => head.flatMap(bitsOf)));
    const step = this.step('blocks', align, [size, heads[0]!.length, heads[0]![0]!.length, place, heads.length]);
    step.pointers = [5];
    return step;
  }

  /** Queries without ids of their own are the last of the keys. */
  private documents(ids: MaskNumbers, keyIds: MaskNumbers = ids): PlacedStep {
    const [batches, queries] = extentOf(ids);
    const align = ids === keyIds ? 'bottomRight' : 'topLeft';
    const step = this.step('ids', align, [0, queries, 0, extentOf(keyIds)[1], batches]);
    this.place(step, [2], ids);
    this.place(step, [...step.pointers, 4], keyIds);
    return step;
  }

  private add(numbers: readonly bigint[]): number {
    for (const number of numbers) this.host.push(number);
    return this.host.length - numbers.length;
  }
  /** Puts numbers into a table, and its place into the last of the step's pointers. */
  private place(step: PlacedStep, pointers: number[], numbers: MaskNumbers): void {
    const word = pointers.at(-1)!;
    step.pointers = pointers;
    if (isTensor(numbers)) {
      this.late.push({ step, word, tensor: numbers });
      return;
    }
    if (!this.places.has(numbers)) this.places.set(numbers, this.add(numbers.flat().map(BigInt)));
    step.words[word] = this.places.get(numbers)!;
  }
}

/** Blocks of queries and keys that random ones are chosen for. @returns how many */
export function randomExtent(
  { size, align }: MaskNode & { type: 'randomBlocks' },
  { n, m }: ScoreSizes,
): { rows: number; columns: number } {
  const blocks = (positions: number): number => Math.max(1, Math.ceil(positions / size));
  return { rows: blocks(align === 'bottomRight' ? m : n), columns: blocks(m) };
}

/** `count` distinct columns for each row, from a hash of the seed and the row: the same everywhere. */
function randomTable(rows: number, columns: number, count: number, seed: number): boolean[][] {
  return Array.from({ length: rows }, (_, row) => {
    let state = (seed ^ Math.imul(row + 1, 0x9e3779b1)) >>> 0;
    // splitmix with 32 bits (Steele et al. 2014, "Fast splittable pseudorandom number generators")
    const next = (below: number): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return ((z ^ (z >>> 16)) >>> 0) % below;
    };
    const order = Array.from({ length: columns }, (__, column) => column);
    const chosen = new Array<boolean>(columns).fill(false);
    for (let i = 0; i < Math.min(count, columns); i++) {
      const at = i + next(columns - i);
      [order[i], order[at]] = [order[at]!, order[i]!];
      chosen[order[i]!] = true;
    }
    return chosen;
  });
}

/**
 * The program of a mask. Only random blocks depend on the sizes.
 *
 * @returns its words, and the integer tensors behind them, in order
 */
export function programOf(node: MaskNode, sizes: ScoreSizes): MaskProgram {
  return new Compiler(sizes).finish(node);
}
