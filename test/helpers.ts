// What several suites ask of tensors and calls.
import { FoveaError, type Tensor } from 'fovea';

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
