// The samples of windows of images: columns, and pooling, with gradients.
import { functional as F } from 'fovea';
import { floats, normal, sample, withGradients } from './sample.mjs';

const of = (label, shape, dtype, run) => sample(label, dtype, () => [normal(shape, dtype)], withGradients(run));
const pooling = { stride: 2, padding: 1, ceilMode: true };

export const images = floats.flatMap((dtype) => [
  of('unfold', [2, 3, 17, 19], dtype, ([x]) => F.unfold(x, [3, 2], { stride: [2, 1], padding: 1, dilation: [1, 2] })),
  of('fold', [2, 27, 99], dtype, ([x]) => F.fold(x, [7, 9], 3, { padding: 2 })),
  of('maxPool2d', [2, 5, 31, 30], dtype, ([x]) => F.maxPool2d(x, 3, pooling)),
  of('avgPool2d', [2, 5, 31, 30], dtype, ([x]) => F.avgPool2d(x, 3, { ...pooling, countIncludePad: false })),
  of('adaptiveAvgPool2d', [2, 5, 14, 13], dtype, ([x]) => F.adaptiveAvgPool2d(x, [3, 4])),
]);
