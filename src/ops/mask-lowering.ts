/**
 * What of a mask the attention kernel gets: causality as an attribute, one tensor as its mask, the rest as a program
 * that says of whole blocks of scores whether anything is seen in them. No mask of all scores is made, unless a mask
 * joins several tensors otherwise than by `and`.
 */
import { FoveaError } from '../errors.js';
import { once, refuseWindow } from '../tensor/capture.js';
import { shapeError } from '../tensor/check.js';
import { deviceName, type Device } from '../tensor/device.js';
import { Code } from '../tensor/dtype.js';
import { sizeOf } from '../tensor/layout.js';
import { isTensor, slotOf, type Tensor } from '../tensor/tensor.js';
import { keep } from '../tensor/tidy.js';
import { causalCodes, patternVisible } from './attention-reference.js';
import { castTo } from './cast.js';
import { logicalAnd, logicalNot, logicalOr } from './compare.js';
import { tensor } from './creation.js';
import { concat } from './join.js';
import type { MaskNode, MaskNumbers } from './mask-node.js';
import { extentOf, headTables, programOf, randomExtent, type ScoreSizes } from './mask-program.js';
import { reshape } from './shape.js';

/** Inputs and attributes of the attention kernel. */
export interface LoweredMask {
  /** One of {@link causalCodes}. */
  causal: number;
  /** bool, broadcasts to [b, h, n, m]. */
  mask?: Tensor | undefined;
  /** The program of what is left. */
  pattern?: Tensor | undefined;
  /** Whether the program reads the mask, which then means nothing by itself. */
  maskInPattern: boolean;
}
/** Where scores are, and how a tensor of the user's becomes one that broadcasts to them. */
export interface ScorePlace extends ScoreSizes {
  /** Number of the device. */
  device: number;
  /** The keys or values, whose length a replay may choose. */
  keys?: Tensor | undefined;
  toScores: (mask: Tensor) => Tensor;
}

const inner = (node: MaskNode): readonly MaskNode[] =>
  node.type === 'and' || node.type === 'or' ? node.terms : node.type === 'not' ? [node.term] : [];
/** @returns the masks that a mask is joined of */
export function leavesOf(node: MaskNode): MaskNode[] {
  const parts = inner(node);
  return parts.length ? parts.flatMap(leavesOf) : [node];
}
const tensorsIn = (node: MaskNode): Tensor[] =>
  leavesOf(node).flatMap((leaf) => (leaf.type === 'tensorMask' ? [leaf.mask] : []));
const joined = (type: 'and' | 'or', terms: readonly MaskNode[]): MaskNode =>
  terms.length === 1 ? terms[0]! : { type, terms };

// ---- sizes

/** Numbers in a tensor must be there, and where the scores are. */
function checkHeld(op: string, what: string, numbers: MaskNumbers | undefined, device: number): void {
  if (!isTensor(numbers)) return;
  const held = slotOf(numbers, op, what).device;
  if (held !== device)
    throw new FoveaError(
      'FOVEA_DEVICE',
      `${op}: ${what} is on ${deviceName(held)} but the queries are on ${deviceName(device)}; move it with to()`,
    );
}

function checkLeaf(op: string, leaf: MaskNode, { b, h, n, m, device }: ScoreSizes & { device: number }): void {
  const batches = (what: string, count: number): void => {
    if (count !== 1 && count !== b) throw shapeError(op, `${what} for ${count} batches, but the queries have ${b}`);
  };
  switch (leaf.type) {
    case 'globalTokens':
      for (const index of leaf.indices)
        if (index >= m) throw shapeError(op, `globalTokens names position ${index}, but there are ${m} keys`);
      break;
    case 'padding':
      checkHeld(op, 'lengths of padding', leaf.lengths, device);
      batches('padding has lengths', sizeOf(extentOf(leaf.lengths)));
      break;
    case 'documents': {
      checkHeld(op, 'ids of documents', leaf.ids, device);
      checkHeld(op, 'keyIds of documents', leaf.keyIds, device);
      const [query, key] = [extentOf(leaf.ids), extentOf(leaf.keyIds ?? leaf.ids)];
      batches('documents has ids', query[0]);
      const queriesFit = leaf.keyIds ? query[1] === n : n <= m;
      if (query[0] !== key[0] || key[1] !== m || !queriesFit)
        throw shapeError(
          op,
          `documents has ids [${query}] of queries and [${key}] of keys, but there are ${n} queries and ${m} keys in ${b} batches`,
        );
      break;
    }
    case 'blocks': {
      const heads = headTables(leaf.table);
      const [rows, columns] = [heads[0]!.length * leaf.size, heads[0]![0]!.length * leaf.size];
      const positions = leaf.align === 'bottomRight' ? m : n;
      if (heads.length !== 1 && heads.length !== h)
        throw shapeError(op, `blocks has tables for ${heads.length} heads, but the queries have ${h}`);
      if (rows < positions || columns < m)
        throw shapeError(op, `blocks covers ${rows} queries and ${columns} keys, but there are ${positions} and ${m}`);
      break;
    }
    default:
  }
}
const dependsOnSizes: ReadonlySet<MaskNode['type']> = new Set(['documents', 'blocks', 'randomBlocks']);

// ---- programs

/** Programs of masks that are joined by `and`, by those masks in order, so that each is made once. */
interface Known {
  readonly next: WeakMap<MaskNode, Known>;
  /** By what else decides it. */
  readonly programs: Map<string, Tensor>;
}
const known: Known = { next: new WeakMap(), programs: new Map() };
/** Of random blocks there is a program for each number of them; no more are kept. */
const mostPrograms = 16;

function programsOf(factors: readonly MaskNode[]): Map<string, Tensor> {
  let at = known;
  for (const factor of factors) {
    const next = at.next.get(factor) ?? { next: new WeakMap(), programs: new Map() };
    at.next.set(factor, next);
    at = next;
  }
  return at.programs;
}

function keyOf(node: MaskNode, place: ScorePlace): string {
  const random = leavesOf(node).flatMap((leaf) => {
    if (leaf.type !== 'randomBlocks') return [];
    const { rows, columns } = randomExtent(leaf, place);
    return [`${rows}x${columns}`];
  });
  return `${place.device}:${random.join()}`;
}
/** Whether numbers lie in tensors, whose contents may change. */
const readsTensors = (leaf: MaskNode): boolean =>
  (leaf.type === 'padding' && isTensor(leaf.lengths)) ||
  (leaf.type === 'documents' && (isTensor(leaf.ids) || isTensor(leaf.keyIds)));

/** The program of what all of the factors show, kept as long as they live unless it reads tensors. */
function programTensor(factors: readonly MaskNode[], place: ScorePlace): Tensor {
  const node = joined('and', factors);
  const reads = leavesOf(node).some(readsTensors);
  const programs = programsOf(factors);
  const key = keyOf(node, place);
  const found = programs.get(key);
  if (found?.slot && !reads) return found;
  const { words, tables } = programOf(node, place);
  // a mask does not change: a recorded step may hold its words
  const program = once(() => keep(tensor(words, { device: deviceName(place.device) as Device })));
  if (reads) {
    program.kept = false;
    return concat([program, ...tables.map((t) => castTo(reshape(t, [sizeOf(t.shape)]), Code.int64))]);
  }
  if (programs.size >= mostPrograms) programs.clear();
  programs.set(key, program);
  return program;
}

// ---- masks of all scores

const needsBatches = (node: MaskNode): boolean =>
  leavesOf(node).some(
    (leaf) =>
      (leaf.type === 'padding' && sizeOf(extentOf(leaf.lengths)) > 1) ||
      (leaf.type === 'documents' && extentOf(leaf.ids)[0] > 1),
  );
const needsHeads = (node: MaskNode): boolean =>
  leavesOf(node).some((leaf) => leaf.type === 'blocks' && headTables(leaf.table).length > 1);

/** bool, broadcasts to [b, h, n, m]. */
function dense(node: MaskNode, place: ScorePlace): Tensor {
  const { b, h, n, m } = place;
  if (tensorsIn(node).length === 0) {
    const pattern = programTensor([node], place);
    return patternVisible(pattern, undefined, [needsBatches(node) ? b : 1, needsHeads(node) ? h : 1, n, m]);
  }
  if (node.type === 'tensorMask') return place.toScores(node.mask);
  if (node.type === 'not') return logicalNot(dense(node.term, place));
  const join = node.type === 'and' ? logicalAnd : logicalOr;
  return inner(node)
    .map((term) => dense(term, place))
    .reduce((x, y) => join(x, y));
}

/**
 * Splits a mask into what the kernel takes.
 *
 * @returns inputs and attributes
 * @throws FOVEA_SHAPE if what the mask holds does not fit the sizes, FOVEA_UNSUPPORTED in a recording whose keys grow,
 *   for masks that depend on how many there are
 */
export function lowerMask(op: string, node: MaskNode, place: ScorePlace): LoweredMask {
  for (const leaf of leavesOf(node)) {
    checkLeaf(op, leaf, place);
    if (place.keys?.slot && dependsOnSizes.has(leaf.type))
      refuseWindow(op, place.keys.slot, `the mask ${leaf.type} is made for one number of keys`);
  }
  let causal: number = causalCodes.none;
  const tensors: (MaskNode & { type: 'tensorMask' })[] = [];
  const rest: MaskNode[] = [];
  for (const factor of node.type === 'and' ? node.terms : [node]) {
    if (factor.type === 'tensorMask') tensors.push(factor);
    else if (factor.type !== 'causal') rest.push(factor);
    else if (causal === causalCodes.none || causal === causalCodes[factor.align]) causal = causalCodes[factor.align];
    else rest.push(factor);
  }
  const inside = rest.flatMap(tensorsIn);
  if (inside.length === 0) {
    const pattern = rest.length ? programTensor(rest, place) : undefined;
    const masks = tensors.map(({ mask }) => place.toScores(mask));
    return {
      causal,
      mask: masks.length ? masks.reduce((x, y) => logicalAnd(x, y)) : undefined,
      pattern,
      maskInPattern: false,
    };
  }
  const whole = [...rest, ...tensors];
  // a program reads one tensor
  if (new Set(whole.flatMap(tensorsIn)).size > 1)
    return { causal, mask: dense(joined('and', whole), place), maskInPattern: false };
  return { causal, mask: place.toScores(inside[0]!), pattern: programTensor(whole, place), maskInPattern: true };
}

/**
 * What a mask shows of all scores.
 *
 * @returns bool, broadcasts to [b, h, n, m]
 * @throws FOVEA_SHAPE if what the mask holds does not fit the sizes
 */
export function visibleOf(op: string, node: MaskNode, sizes: ScoreSizes, device: number): Tensor {
  for (const leaf of leavesOf(node)) checkLeaf(op, leaf, { ...sizes, device });
  const toScores = (mask: Tensor): Tensor => {
    if (mask.rank > 4) throw shapeError(op, `a mask [${mask.shape.join(',')}] has more axes than [b, h, n, m]`);
    return reshape(mask, [...new Array<number>(4 - mask.rank).fill(1), ...mask.shape]);
  };
  return dense(node, { ...sizes, device, toScores });
}
