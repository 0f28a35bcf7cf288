// A program that stops using a loader in some way: it has to end by itself, at once.
import { DataLoader } from 'fovea/train';

const [how, thirteen] = process.argv.slice(2);
const dataset = { length: 40, get: (index) => index };
const loader = new DataLoader(dataset, {
  batchSize: 5,
  numWorkers: 2,
  worker: new URL('numbers.mjs', import.meta.url),
  workerData: thirteen ? { thirteen } : {},
});

async function run() {
  let batches = 0;
  for await (const batch of loader) {
    batches += batch.length > 0 ? 1 : 0;
    if (batches === 2 && how === 'break') break;
    if (batches === 2 && how === 'throw') throw new Error('the loop itself');
    if (batches === 2 && how === 'exit') process.exit(7);
  }
  return batches;
}

if (how === 'abandon') {
  const iterator = loader[Symbol.asyncIterator]();
  await iterator.next();
  console.log('abandoned');
} else if (how === 'leave') {
  const iterator = loader[Symbol.asyncIterator]();
  await iterator.next();
  await iterator.next();
  const pending = iterator.next();
  setTimeout(() => void iterator.return(), 100);
  console.log(JSON.stringify(await pending));
} else {
  console.log(await run().catch((error) => error.message));
}
