/**
 * Rows by the room that is left in them: which has the least that is enough, in O(log length). A complete binary tree
 * over rooms 0 … length counts the rows of each; the search goes to the first room from `need` on that has a row.
 */

/** Rows with room. */
export class FreeSpace {
  readonly #leaves: number;
  /** Node i has the children 2i and 2i + 1; the leaf of room r is `#leaves` + r. */
  readonly #counts: Uint32Array;
  readonly #rows: number[][];

  constructor(length: number) {
    this.#leaves = 2 ** Math.ceil(Math.log2(length + 1));
    this.#counts = new Uint32Array(2 * this.#leaves);
    this.#rows = Array.from({ length: length + 1 }, () => []);
  }

  /** Adds a row. */
  put(row: number, room: number): void {
    this.#rows[room]!.push(row);
    for (let node = this.#leaves + room; node > 0; node >>= 1) this.#counts[node]!++;
  }

  /** Takes out the row with the least room of at least `need`. */
  take(need: number): { row: number; room: number } | undefined {
    const room = this.#firstFrom(need);
    if (room === undefined) return undefined;
    for (let node = this.#leaves + room; node > 0; node >>= 1) this.#counts[node]!--;
    return { row: this.#rows[room]!.pop()!, room };
  }

  #firstFrom(need: number): number | undefined {
    let node = this.#leaves + need;
    // Up until a subtree to the right has a row, then down to its first.
    while (this.#counts[node] === 0) {
      while (node % 2 === 1) node >>= 1;
      if (node === 0) return undefined;
      node++;
    }
    while (node < this.#leaves) node = this.#counts[2 * node]! > 0 ? 2 * node : 2 * node + 1;
    return node - this.#leaves;
  }
}
