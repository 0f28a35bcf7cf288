// The example of the README, with a small model of its own and without files.
import { inspect, noGrad, tensor } from 'fovea';
import { expect, it } from 'vitest';
import { tiny } from './attend.js';

it('runs as written', async () => {
  const model = tiny();
  const inputIds = tensor([[4, 32, 31]], { dtype: 'int64' });

  using observer = inspect.observe(model, { attention: true });
  noGrad(() => model.forward({ inputIds }));
  const layer = observer.get('transformer.h.1.attn');
  const weights = layer.weights({ rows: [0, 2], heads: [1, 3] });
  const nats = inspect.entropy(weights, { reduction: 'mean' });
  const flow = inspect.rollout(observer.captures, { rows: [2, 3] });
  const classes = await inspect.classifyHeads(layer, { tokenIds: [4, 32, 31] });
  const html = await inspect.htmlReport(observer);
  const without = inspect.ablate(model, [{ module: 'transformer.h.1.attn', heads: [1] }], () =>
    model.forward({ inputIds }),
  );

  expect([weights, nats, flow, without.logits].map(({ shape }) => [...shape])).toEqual([
    [1, 2, 2, 3],
    [1, 2],
    [1, 1, 3],
    [1, 3, 40],
  ]);
  expect(classes.map(({ head }) => head)).toEqual([0, 1, 2, 3]);
  expect(html.match(/<svg/g)).toHaveLength(8);
});
