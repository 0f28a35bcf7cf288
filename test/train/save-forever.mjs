// Saves after every step, and resumes first: whoever kills it finds whole checkpoints. After step n all weights are -n.
//
//   node save-forever.mjs <folder> [steps] [user that it becomes once it is loaded]
import { nn, optim, train, zeros } from 'fovea';

const [folder, steps = '1000000', user] = process.argv.slice(2);

class Weights extends nn.Module {
  a = nn.parameter(zeros([400, 250]));
  b = nn.parameter(zeros([3]));
  forward(x) {
    return this.a.sum().add(this.b.sum()).add(x);
  }
}

const model = new Weights();
const trainer = new train.Trainer({
  model,
  optimizer: new optim.SGD(model.parameters(), { lr: 1, momentum: 0.5, dampening: 0.5 }),
  loss: (weights) => weights.forward(0),
  trainData: [0],
  maxSteps: Number(steps),
  folder,
  saveEvery: 1,
  keepLast: 2,
  log: false,
  callbacks: [{ onSave: ({ step }) => void process.stdout.write(`${step}\n`) }],
});
if (user !== undefined && process.getuid() === 0) process.setuid(Number(user));
try {
  const from = await trainer.resume();
  const values = new Set([...(await model.a.data()), ...(await model.b.data())]);
  if (values.size !== 1 || !values.has(from === 0 ? 0 : -from)) throw new Error(`step ${from} has ${[...values]}`);
  process.stdout.write(`from ${from}\n`);
  await trainer.run();
} catch (error) {
  process.stdout.write(`${JSON.stringify({ code: error.code, message: error.message })}\n`);
  process.exitCode = 1;
}
