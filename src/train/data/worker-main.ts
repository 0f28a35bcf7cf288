/** What runs in a worker of a DataLoader: makes the dataset of the user's module, and answers requests in order. */
import { parentPort, workerData } from 'node:worker_threads';
import { argumentError } from '../../tensor/check.js';
import { type BatchReader, type Collate, dataError, indexedReader, streamReader } from './batch-reader.js';
import { type Dataset, isDataset } from './dataset.js';
import { isIterableDataset, type IterableDataset, openStream } from './stream.js';
import { packError, packValue, thisThread } from './worker-messages.js';
import type { WorkerReply, WorkerRequest, WorkerStart } from './worker-messages.js';

type AnyDataset = Dataset<unknown> | IterableDataset<unknown>;
type AnyCollate = Collate<unknown, unknown>;

/** Takes apart what the default export gave: a dataset, or one beside a collate function. */
function partsOf(made: unknown): { dataset: AnyDataset; collate: AnyCollate | undefined } {
  if (isDataset(made) || isIterableDataset(made)) return { dataset: made, collate: undefined };
  const { dataset, collate } = Object(made) as { dataset?: unknown; collate?: unknown };
  if (!isDataset(dataset) && !isIterableDataset(dataset))
    throw argumentError(
      'DataLoader',
      'what the default export of the worker made',
      'a dataset or { dataset, collate }',
      made,
    );
  if (collate !== undefined && typeof collate !== 'function')
    throw argumentError('DataLoader', "the worker's collate", 'a function', collate);
  return { dataset, collate: collate as AnyCollate | undefined };
}

async function makeReader({ module, worker, workers, data, stream }: WorkerStart): Promise<{
  reader: BatchReader<unknown>;
  ready: WorkerReply;
}> {
  const { default: make } = (await import(module)) as { default?: unknown };
  if (typeof make !== 'function')
    throw argumentError('DataLoader', `the default export of ${module}`, 'a function that makes a dataset', make);
  const { dataset, collate } = partsOf(await make({ worker, workers, data }));
  const put = collate ?? ((items: unknown[]) => items);
  const ready = { type: 'ready', collates: collate !== undefined } as const;
  if (isDataset(dataset)) return { reader: indexedReader(dataset, put), ready: { ...ready, length: dataset.length } };
  const reader = stream
    ? streamReader(openStream(dataset, stream), stream, put)
    : indexedReader({ length: 0, get: () => undefined }, put);
  return { reader, ready: { ...ready, length: undefined } };
}

function send(reply: WorkerReply, transfer: ArrayBuffer[] = []): void {
  parentPort!.postMessage(reply, transfer);
}

async function answer(reader: BatchReader<unknown>, { id, ...request }: WorkerRequest): Promise<void> {
  try {
    const loaded = await reader.read(request);
    const { packed, transfer } = await packValue(loaded?.batch);
    try {
      send({ type: 'batch', id, end: !loaded, batch: packed, position: loaded?.position }, transfer);
    } catch (error) {
      const items = request.indices ? ` (items ${request.indices.join(', ')})` : '';
      throw dataError(`sending batch ${request.batch}${items} from its worker`, error);
    }
  } catch (error) {
    send({ type: 'error', id, error: packError(error) });
  }
}

/** Serves until the thread is ended. */
function serve(start: WorkerStart): void {
  thisThread.isWorker = true;
  const made = makeReader(start);
  let turn: Promise<void> = made.then(
    ({ ready }) => send(ready),
    (error) => send({ type: 'failed', error: packError(dataError(`the worker module ${start.module}`, error)) }),
  );
  parentPort!.on('message', (request: WorkerRequest) => {
    // Why no reader was made has been said.
    turn = turn.then(async () => answer((await made).reader, request)).catch(() => undefined);
  });
}

serve(workerData as WorkerStart);
