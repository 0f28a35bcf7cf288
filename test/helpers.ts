// What several suites ask of tensors and calls.
import { type Device, FoveaError, type Tensor } from 'fovea';

/**
 * Where the generic suites make their tensors: FOVEA_TEST_DEVICE=cuda runs them on a GPU, or on the emulator of one.
 */
export const device = (process.env['FOVEA_TEST_DEVICE'] ?? 'cpu') as Device;

/** The elements, row by row. */
export const list = (t: Tensor): number[] => Array.from(t.dataSync({ as: 'float64' }));

/** The code of the FoveaError that a call throws, or 'none'; any other error passes. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof FoveaError) return error.code;
    throw error;
  }
  return 'none';
}
