// Sequences that are packed in the worker: their mask crosses, as one of host numbers and as one that holds a tensor.
import { mask } from 'fovea';
import { packedCausalLMCollator } from 'fovea/train';

export const dataset = { length: 6, get: (index) => Array.from({ length: 1 + index }, (_, i) => index + i) };

const pack = packedCausalLMCollator({ padId: 0, length: 8 });
export const collate = (items) => {
  const batch = pack(items);
  return { ...batch, joined: batch.mask.and(mask.tensorMask(batch.labels.ge(0).unsqueeze(1).unsqueeze(1))) };
};

export default () => ({ dataset, collate });
