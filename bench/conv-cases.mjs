// Convolutions of models: the patches of a vision transformer, a layer of a residual network and one of its depthwise
// kind, the second layer of Whisper's encoder; forward, and with the gradients of both operands.
import { bytesOf, define, floats, flopLimit, product } from './define-case.mjs';

const along = (size, kernel, stride, padding) => Math.floor((size + 2 * padding - kernel) / stride) + 1;

function conv(name, x, weight, options, dtype, backward = false) {
  const { stride = 1, padding = 0, groups = 1 } = options;
  const windows = x.slice(2).map((n, i) => along(n, weight[i + 2], stride, padding));
  const y = [x[0], weight[0], ...windows];
  const depthwise = groups > 1;
  const bytes = (product(x) + product(y)) * bytesOf[dtype];
  return define('conv', 'conv', `${name}${backward ? ', forward and backward' : ''}`, dtype, {
    op: x.length === 4 ? 'conv2d' : 'conv1d',
    x,
    weight,
    y,
    options,
    backward,
    work: (backward ? 3 : 1) * (depthwise ? bytes : 2 * product(y) * product(weight.slice(1))),
    limit: depthwise ? 'copy' : flopLimit(dtype),
  });
}

export function convCases(tiny) {
  const [b, c, size] = tiny ? [1, 4, 9] : [8, 64, 56];
  const images = `${b} x ${c} x ${size}²`;
  const [patch, pixels, width] = tiny ? [3, 9, 8] : [16, 224, 768];
  const [length, channels] = tiny ? [20, 4] : [3000, 384];
  const patches = [[b, 3, pixels, pixels], [width, 3, patch, patch], { stride: patch }];
  const residual = [[b, c, size, size], [c, c, 3, 3], { padding: 1 }];
  const depthwise = [[b, c, size, size], [c, 1, 3, 3], { padding: 1, groups: c }];
  const sequence = [[1, channels, length], [channels, channels, 3], { stride: 2, padding: 1 }];
  return floats.flatMap((dtype) => [
    conv(`${b} x 3 x ${pixels}², ${width} patches of ${patch}²`, ...patches, dtype),
    conv(`${images}, ${c} of 3²`, ...residual, dtype),
    conv(`${images}, ${c} of 3²`, ...residual, dtype, true),
    conv(`${images}, 3² depthwise`, ...depthwise, dtype),
    conv(`${images}, 3² depthwise`, ...depthwise, dtype, true),
    conv(`${channels} x ${length}, ${channels} of 3, stride 2`, ...sequence, dtype),
  ]);
}
