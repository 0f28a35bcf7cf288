// What optimizers say of a step: one native call for each group, whatever the number of parameters, and in place, so
// that no copy of a parameter or of a state is made on the way.
import { inspect, memory, nn, optim, randn, resetPeakMemory, synchronizeSync, type Tensor, tidy } from 'fovea';
import { describe, expect, it } from 'vitest';
import { device } from '../helpers.js';

type AnyOptimizer = optim.Optimizer<{ lr: number }>;
type Groups = { params: Tensor[] }[];
const fused: [string, string, (groups: Groups) => AnyOptimizer][] = [
  ['SGD', 'sgd_', (groups) => new optim.SGD(groups, { momentum: 0.9, nesterov: true })],
  ['Adam', 'adamw_', (groups) => new optim.Adam(groups, { weightDecay: 0.1 })],
  ['AMSGrad', 'adamw_', (groups) => new optim.Adam(groups, { amsgrad: true })],
  ['AdamW', 'adamw_', (groups) => new optim.AdamW(groups)],
  ['AdamW in bfloat16', 'adamwCompact_', (groups) => new optim.AdamW(groups, { stateDtype: 'bfloat16' })],
  ['AdamW in bytes', 'adamwCompact_', (groups) => new optim.AdamW(groups, { stateDtype: 'int8' })],
  ['RAdam', 'radam_', (groups) => new optim.RAdam(groups)],
  ['NAdam', 'nadam_', (groups) => new optim.NAdam(groups)],
  ['Adagrad', 'adagrad_', (groups) => new optim.Adagrad(groups)],
  ['RMSprop', 'rmsprop_', (groups) => new optim.RMSprop(groups, { momentum: 0.9, centered: true })],
  ['Lion', 'lion_', (groups) => new optim.Lion(groups)],
  ['Lion in bytes', 'lionCompact_', (groups) => new optim.Lion(groups, { stateDtype: 'int8' })],
  ['Adafactor', 'adafactor_', (groups) => new optim.Adafactor(groups, { weightDecay: 0.1 })],
  ['Sophia', 'sophia_', (groups) => new optim.Sophia(groups)],
];
const shapes = [[256, 512], [512], [3, 64, 128], []];
const parameters = (): Tensor[] =>
  shapes.map((shape) => {
    const p = nn.parameter(randn(shape, { device }));
    p.grad = randn(shape, { device });
    return p;
  });

describe.each(fused)('%s', (_, op, make) => {
  it.each([1, 2])('steps in one native call for each of %i groups', (count) => {
    const groups = Array.from({ length: count }, () => ({ params: parameters() }));
    using optimizer = make(groups);
    for (const step of ['first', 'second']) {
      const { calls } = inspect.profile(() => optimizer.step());
      // The first step makes the states besides.
      const ran = calls.map((call) => call.op).filter((name) => step === 'second' || name !== 'fill_');
      expect(ran, step).toEqual(Array.from({ length: count }, () => op));
    }
  });

  it('holds no more memory in a step, nor after it', () => {
    const params = parameters();
    using optimizer = make([{ params }]);
    tidy(() => optimizer.step());
    const { live, peak } = across(() => optimizer.step());
    expect(live).toBe(0);
    // The smallest matrix has 96 KB in float32.
    expect(peak).toBeLessThan(48 * 1024);
  });
});

/** By how much a call changes what is live at its end, and what is live at most. */
function across(call: () => void): { live: number; peak: number } {
  const at = (): { live: number; peak: number } => {
    synchronizeSync();
    return memory().devices[device === 'cpu' ? 'cpu' : 'cuda:0']!;
  };
  resetPeakMemory();
  const before = at().live;
  call();
  const { live, peak } = at();
  return { live: live - before, peak: peak - before };
}
