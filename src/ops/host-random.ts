/**
 * Random numbers for what JavaScript decides, such as which layers run: those of a generator's counters, with the bits
 * of `rand`, and without waiting for the stream.
 */
import { refuseInRecording } from '../tensor/capture.js';
import { halves, philox } from '../tensor/philox.js';
import { defaultGenerator, type Generator } from './random.js';

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
  const words = Array.from({ length: Math.ceil(count / 4) }, (_, i) =>
    philox(halves(seed), [...halves(offset + i), 0, 0]),
  ).flat();
  return words.slice(0, count).map((word) => (word >>> 8) * 2 ** -24);
}
