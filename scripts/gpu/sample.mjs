// What the samples of ops.mjs are made with.
import { arange, functional as F, grad, randn } from 'fovea';

/** How far results may lie from the CPU's, ‖a − b‖ / ‖b‖: both round, in their own order. */
export const tolerances = { float64: 1e-12, float32: 2e-5, float16: 2e-3, bfloat16: 1.5e-2, int32: 0, int64: 0 };
export const floats = ['float32', 'float64', 'float16', 'bfloat16'];
export const halves = ['float16', 'bfloat16'];

/** Normal numbers of a dtype. */
export const normal = (shape, dtype) => randn(shape, { dtype: dtype === 'float64' ? dtype : 'float32' }).to(dtype);

/** Inputs and what is done with them; `run` gives a tensor or a list of them. */
export function sample(label, dtype, make, run, tolerance = tolerances[dtype]) {
  return { label: `${label}, ${dtype}`, make, run: (x, device) => [run(x, device)].flat(), tolerance };
}

/** The outputs of `run` and their gradients by all inputs; what comes in is computed on the CPU, the same for both. */
export function withGradients(run) {
  return (inputs, device) => {
    const leaves = inputs.map((x) => x.detach().requiresGrad_());
    const y = run(leaves, device);
    const waves = F.sin(arange(y.size, { dtype: 'float32' })).reshape([...y.shape]);
    return [y, ...grad(y, leaves, { gradOutputs: waves.to(y.dtype).to(device) })];
  };
}
