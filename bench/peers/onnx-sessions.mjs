// How ONNX Runtime runs graphs: sessions, their inputs, and calls that take turns.
import { batches } from '../timing.mjs';
import { OnnxGraph } from './onnx.mjs';
import { randomNumbers } from './random.mjs';

let ort;

/** Loads the library, which the functions below need. @returns its version; rejects where it is not installed */
export async function loadRuntime() {
  ({ default: ort } = await import('onnxruntime-node'));
  return ort.env.versions.common;
}

const product = (dims) => dims.reduce((a, b) => a * b, 1);
export const float32 = (data, dims) => new ort.Tensor('float32', data, dims);
export const int64 = (values, dims) => new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
export const int32 = (values, dims) => new ort.Tensor('int32', Int32Array.from(values), dims);
/** Uniform between `least` and least + 2. */
export function numbers(dims, least = -1) {
  const data = randomNumbers(product(dims));
  return float32(least === -1 ? data : data.map((x) => x + least + 1), dims);
}

export const session = (bytes, threads) =>
  ort.InferenceSession.create(bytes, {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  });

/** Runs one graph, or as many as take turns, on inputs that take turns. */
export async function prepareGraphs(graphs, feeds, fetches, threads) {
  const sessions = await Promise.all(graphs.map((bytes) => session(bytes, threads)));
  let turn = 0;
  const call = () => {
    const at = turn++;
    return sessions[at % sessions.length].run(feeds[at % feeds.length], fetches);
  };
  return { batch: batches(call), release: () => Promise.all(sessions.map((one) => one.release())) };
}

/** Like prepareGraphs, with results that go where the inputs of the same turn are. */
export async function prepareTurns(bytes, feeds, fetchesOf, threads) {
  const made = await session(bytes, threads);
  let turn = 0;
  const call = () => {
    const feed = feeds[turn++ % feeds.length];
    return made.run(feed, fetchesOf(feed));
  };
  return { batch: batches(call), release: () => made.release() };
}

/** A graph of one node whose inputs are fed. */
export function prepareNode(op, dims, threads, options = {}) {
  const { outDims = dims[0], outType = 'float32', least = -1, ...attributes } = options;
  const g = new OnnxGraph();
  const names = dims.map((shape, i) => g.input(`x${i}`, shape));
  g.node(op, names, { outputs: ['y'], ...attributes });
  g.output('y', outDims, outType);
  const feed = Object.fromEntries(names.map((name, i) => [name, numbers(dims[i], least)]));
  const made = outType === 'float32' ? { y: numbers(outDims) } : ['y'];
  return prepareGraphs([g.file()], [feed], made, threads);
}
