// npm run bench:proof: what the tests cannot assert without a clock or a large machine, measured.
//   event-loop delay while a 4096^3 matmul chain and training steps run; peak memory of 100,000 dropped tensors of 1 MB;
//   page faults per training step once warm; growth over 200 models made and dropped.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { info, manualSeed, memory, optim, randint, randn, synchronize, tensor, tidy } from 'fovea';
import { GPT2LMHeadModel } from 'fovea/models';

const mb = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`;
const peakRss = () => process.resourceUsage().maxRSS * 1024;
const print = (name, value) => console.log(`${name.padEnd(58)} ${value}`);
const small = { vocab_size: 256, n_positions: 256, n_embd: 256, n_layer: 4, n_head: 4 };

async function droppedTensors() {
  const source = new Float32Array(2 ** 18);
  const start = performance.now();
  for (let i = 0; i < 100_000; i++) tensor(source);
  print('100,000 x 1 MB in a plain loop: peak RSS', `${mb(peakRss())}, ${(performance.now() - start).toFixed(0)} ms`);
}

async function delayDuring(name, work) {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const start = performance.now();
  await work();
  delay.disable();
  const ms = (ns) => (ns / 1e6 - 1).toFixed(2);
  print(`event-loop delay, ${name}: p50 · p99 · max`, `${ms(delay.percentile(50))} · ${ms(delay.percentile(99))} · ${ms(delay.max)} ms over ${(performance.now() - start).toFixed(0)} ms`);
}

async function matmulChain() {
  const a = randn([4096, 4096]).mul(1 / 64);
  let x = a;
  for (let i = 0; i < 6; i++) x = x.matmul(a);
  await x.data();
}

function trainer() {
  const model = new GPT2LMHeadModel(small);
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-4 });
  return async () => {
    const loss = tidy(() => {
      const inputIds = randint(0, 256, [8, 128]);
      const out = model.forward({ inputIds, labels: inputIds });
      out.loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return out.loss;
    });
    await loss.item();
    loss.dispose();
  };
}

async function trainingSteps() {
  const step = trainer();
  await delayDuring('training steps', async () => {
    for (let i = 0; i < 20; i++) await step();
  });
  const before = process.resourceUsage().minorPageFault;
  for (let i = 0; i < 20; i++) await step();
  print('page faults per training step, warm', ((process.resourceUsage().minorPageFault - before) / 20).toFixed(1));
}

async function models() {
  const made = () => {
    const model = new GPT2LMHeadModel(small);
    model.forward({ inputIds: randint(0, 256, [1, 16]) });
  };
  for (let i = 0; i < 20; i++) made();
  await synchronize();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 200; i++) {
    made();
    if (i % 20 === 0) await synchronize();
  }
  await synchronize();
  print('growth over 200 models made and dropped', mb(process.memoryUsage().rss - before));
}

const { version, isa, threads } = info();
console.log(`fovea ${version}, ${isa}, ${threads} threads, Node ${process.version}\n`);
manualSeed(0);
await droppedTensors();
await delayDuring('4096^3 matmul chain', matmulChain);
await trainingSteps();
await models();
print('allocator at the end: live · cached', `${mb(memory().live)} · ${mb(memory().cached)}`);
