// Items of many kinds: what crosses threads, and how.
const stored = Float64Array.from({ length: 1000 }, (_, i) => i);
const shared = new Int32Array(new SharedArrayBuffer(8));

export default () => ({
  length: 8,
  get(index) {
    const inner = { view: stored.subarray(10, 12) };
    return [
      stored,
      inner.view,
      shared,
      Buffer.from('héllo'),
      { list: [1, 'two', [3n, null]], map: new Map([[1, inner]]), at: new Date(0) },
      { twice: [inner, inner], big: BigInt64Array.of(-1n) },
      JSON.parse('{"__proto__": {"x": [1]}, "y": [{}]}'),
      new DataView(new ArrayBuffer(2)),
    ][index];
  },
});
