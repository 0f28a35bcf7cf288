/**
 * Tensors that follow from the options of a module alone, such as tables of sines: no state of it, but made once, when
 * they are first needed, and kept. Recorded steps find them made.
 */
import { noGrad } from '../autograd/backward.js';
import { narrow } from '../ops/index.js';
import { once } from '../tensor/capture.js';
import type { Tensor } from '../tensor/tensor.js';
import { keep, tidy } from '../tensor/tidy.js';

const fewestRows = 64;

/** One set of tensors, in the place of which comes another when it is needed. */
export class KeptTensors {
  #tensors: readonly Tensor[] = [];
  #key = '';

  /**
   * @param key what the tensors follow from, with dtype and device
   * @param make makes them of host data
   * @param suits whether those that are there will do, their key being the same
   * @returns the tensors themselves: nobody may write to them
   */
  get(key: string, make: () => readonly Tensor[], suits: (there: Tensor) => boolean = () => true): readonly Tensor[] {
    if (key === this.#key && this.#tensors.every((there) => !there.isDisposed && suits(there))) return this.#tensors;
    const made = once(() => noGrad(() => tidy(make))).map(keep);
    this.dispose();
    [this.#tensors, this.#key] = [made, key];
    return made;
  }

  /**
   * The first rows of tables that may have more.
   *
   * @param make tables [rows, ...], whose rows do not depend on how many there are
   */
  rows(count: number, key: string, make: (rows: number) => readonly Tensor[]): Tensor[] {
    const size = 2 ** Math.ceil(Math.log2(Math.max(count, fewestRows)));
    const tables = this.get(
      key,
      () => make(size),
      ({ shape }) => shape[0]! >= count,
    );
    return tables.map((table) => narrow(table, 0, 0, count));
  }

  /** Frees them; the next call makes them anew. */
  dispose(): void {
    for (const there of this.#tensors) there.dispose();
    [this.#tensors, this.#key] = [[], ''];
  }
}
