// Weights under masks of the algebra are those under the same mask as a tensor.
import { inspect, mask, type Mask, randint, type Tensor } from 'fovea';
import { expect, test } from 'vitest';
import { compare } from '../golden.js';
import { list } from '../helpers.js';
import { Attend, heads, weightsOf } from './attend.js';

const [b, h, n, m] = [2, 4, 9, 9];
const seen: Tensor = randint(0, 3, [b, 1, n, m]).gt(0);
const cases: [name: string, mask: () => Mask][] = [
  ['causal', () => mask.causal()],
  ['a window', () => mask.slidingWindow(2, 1)],
  ['a causal window or global tokens', () => mask.causal().and(mask.slidingWindow(2, 0).or(mask.globalTokens([0])))],
  [
    'documents',
    () =>
      mask.documents([
        [0, 0, 0, 1, 1, 1, 2, 2, 2],
        [0, 1, 1, 1, 1, 1, 1, 2, 2],
      ]),
  ],
  ['padding', () => mask.padding([5, 9])],
  ['a window and a tensor', () => mask.slidingWindow(3, 3).and(seen)],
  ['a window or a tensor', () => mask.slidingWindow(1, 1).or(seen)],
  ['a tensor alone, hidden', () => mask.slidingWindow(1, 1).or(seen).not()],
];

test.each(cases)('%s', (_, make) => {
  const [q, k, model, value] = [heads(b, h, n, 3), heads(b, 2, m, 3), new Attend(), make()];
  const dense = make().toTensor(n, m, { batch: b, heads: h });
  using observer = inspect.observe(model);
  model.forward(q, k, k, { mask: value });
  const [capture] = observer.captures;
  expect(compare(list(capture!.weights()), weightsOf(q, k, { mask: dense })).difference).toBeLessThan(1e-6);
  const some = capture!.weights({ rows: [3, 8], heads: [3, 0], batch: 1 });
  const all = capture!.weights().narrow(0, 1, 1).narrow(2, 3, 5);
  const expected = [3, 0].flatMap((head) => list(all.select(1, head)));
  expect(compare(list(some), expected).difference).toBeLessThan(1e-6);
});
