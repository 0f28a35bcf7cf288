// Items that are typed arrays, and a collate function that makes tensors of them in the worker.
import { tensor } from 'fovea';

const stored = Float32Array.from({ length: 64 }, (_, i) => i / 2);

export const dataset = { length: 16, get: (index) => stored.subarray(4 * index, 4 * index + 4) };

export const collate = (items, { epoch, batch }) => {
  const x = tensor(Float32Array.from(items.flatMap((item) => [...item])), { shape: [items.length, 4] });
  return {
    x,
    same: [x, { again: x }],
    ids: tensor([batch], { dtype: 'int64' }),
    mask: tensor([true, false]),
    half: x.to('bfloat16'),
    empty: tensor([], { shape: [0, 3] }),
    where: { epoch, batch },
  };
};

export default () => ({ dataset, collate });
