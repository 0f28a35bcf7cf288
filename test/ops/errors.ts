// Calls that most ops must refuse in the same way.
import { type Tensor, tensor, zeros } from 'fovea';
import type { ErrorCase } from './row.js';

type Fn = (...args: never[]) => unknown;
const call = (f: Fn, ...args: unknown[]) => (f as (...a: unknown[]) => unknown)(...args);

/** Not a tensor, disposed, nothing at all: for an op whose first argument is a tensor. */
export function tensorErrors(name: string, f: Fn, ...rest: unknown[]): ErrorCase[] {
  const named = new RegExp(name, 'i');
  return [
    { label: 'a string', run: () => call(f, 'x', ...rest), code: 'FOVEA_ARGUMENT', mentions: named },
    { label: 'undefined', run: () => call(f, undefined, ...rest), code: 'FOVEA_ARGUMENT', mentions: named },
    { label: 'a plain object', run: () => call(f, { shape: [1] }, ...rest), code: 'FOVEA_ARGUMENT', mentions: named },
    {
      label: 'a disposed tensor',
      run: () => {
        const t = tensor([1, 2]);
        t.dispose();
        return call(f, t, ...rest);
      },
      code: 'FOVEA_DISPOSED',
      mentions: /disposed/,
    },
  ];
}

/** Shapes that do not broadcast. */
export function broadcastErrors(name: string, f: (a: Tensor, b: Tensor) => unknown): ErrorCase[] {
  return [
    {
      label: 'shapes that do not broadcast',
      run: () => f(zeros([2, 3]), zeros([2, 4])),
      code: 'FOVEA_SHAPE',
      mentions: /broadcast.*\[2, ?3\].*\[2, ?4\]/s,
    },
    {
      label: 'second operand a string',
      run: () => call(f as Fn, zeros([2]), 'x'),
      code: 'FOVEA_ARGUMENT',
      mentions: new RegExp(name, 'i'),
    },
  ];
}

/** A dimension outside of the tensor. */
export function dimErrors(name: string, f: (x: Tensor, dim: never) => unknown): ErrorCase[] {
  const named = new RegExp(`${name}.*dim|dim.*${name}`, 'is');
  return [3, -3, 0.5, 'x'].map((dim) => ({
    label: `dim ${dim}`,
    run: () => call(f as Fn, zeros([2, 3]), dim),
    code: 'FOVEA_ARGUMENT',
    mentions: named,
  }));
}
