/**
 * Random numbers for what JavaScript decides, such as which layers run: Philox-4x32-10 (Salmon et al. 2011) over the
 * counters of a generator, with the bits of `rand`, and without waiting for the stream. native/core/random.h is the same
 * in C++.
 */
import { refuseInRecording } from '../tensor/capture.js';
import { defaultGenerator, type Generator } from './random.js';

const rounds = 10;
const [multiplier0, multiplier1] = [0xd2511f53n, 0xcd9e8d57n];
const [weyl0, weyl1] = [0x9e3779b9, 0xbb67ae85];
const two32 = 2 ** 32;

/** The four words of a block. */
function philox(seed: number, block: number): readonly number[] {
  let [c0, c1, c2, c3] = [block % two32, Math.floor(block / two32), 0, 0];
  let [k0, k1] = [seed % two32, Math.floor(seed / two32)];
  for (let round = 0; round < rounds; round++) {
    const [p0, p1] = [multiplier0 * BigInt(c0), multiplier1 * BigInt(c2)];
    const [high0, high1] = [Number(p0 >> 32n), Number(p1 >> 32n)];
    [c0, c2] = [(high1 ^ c1 ^ k0) >>> 0, (high0 ^ c3 ^ k1) >>> 0];
    [c1, c3] = [Number(p1 & 0xffffffffn), Number(p0 & 0xffffffffn)];
    [k0, k1] = [(k0 + weyl0) % two32, (k1 + weyl1) % two32];
  }
  return [c0, c1, c2, c3];
}

/**
 * Internal: numbers from the uniform distribution on [0, 1), those that `rand([count])` would hold.
 *
 * @param op who asks
 * @param generator default: the one that `manualSeed` seeds
 * @throws FOVEA_UNSUPPORTED in a step that is recorded, since replays would not draw again
 */
export function hostUniform(op: string, count: number, generator: Generator = defaultGenerator()): number[] {
  refuseInRecording(op, 'it decides by random numbers what runs, and replays would decide the same; call eval()');
  const { seed, offset } = generator.reserve(count);
  const words = Array.from({ length: Math.ceil(count / 4) }, (_, i) => philox(seed, offset + i)).flat();
  return words.slice(0, count).map((word) => (word >>> 8) * 2 ** -24);
}
