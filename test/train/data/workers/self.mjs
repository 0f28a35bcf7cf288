// A program that names itself as the module of its workers: it must not start itself without end.
import { DataLoader } from 'fovea/train';

const dataset = { length: 4, get: (index) => index };
export default () => dataset;

for await (const batch of new DataLoader(dataset, { numWorkers: 2, worker: new URL(import.meta.url) }))
  console.log(batch);
