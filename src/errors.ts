/** The one error class of fovea and the list of its codes, which are stable under semantic versioning. */

/**
 * Every code, with what it means. A message is one sentence that names the op, the argument, what was expected, what
 * was received and what to do; programs decide by the code.
 */
export const errorCodes = {
  FOVEA_SHAPE: 'shapes do not fit each other or the op',
  FOVEA_DTYPE: 'the op does not take this dtype',
  FOVEA_DEVICE: 'a tensor is on the wrong device, or the device is not there',
  FOVEA_DISPOSED: 'a tensor, scope or model was used after it was disposed',
  FOVEA_ARGUMENT: 'an argument has a wrong type or value',
  FOVEA_INDEX: 'an index lies outside its dimension',
  FOVEA_LAYOUT: 'the op needs another memory layout, or operands overlap in a way that it cannot honour',
  FOVEA_OUT_OF_MEMORY: 'the memory cap or the machine is exhausted',
  FOVEA_TOO_MANY_TENSORS: 'the table of live tensors is full',
  FOVEA_FILE_FORMAT: 'a file is malformed or does not hold what is expected',
  FOVEA_IO: 'a file cannot be read or written; the message names it and what the system says',
  FOVEA_DATA: 'a dataset, a collate function or a worker of a DataLoader failed; the message names the item or batch',
  FOVEA_NAN: 'a value that must be finite is NaN or infinite',
  FOVEA_UNSUPPORTED: 'the request is understood, but fovea does not support it',
  FOVEA_ABORTED: 'the work was cancelled through an AbortSignal',
  FOVEA_KERNEL_FAILED: 'an op failed while it ran; reading a tensor made from its outputs reports it',
  FOVEA_AUTOGRAD: 'gradients cannot be computed as asked',
  FOVEA_BINARY: 'the native addon was not found, cannot be loaded or does not match this package',
  FOVEA_CLOSING: 'the environment is shutting down',
  FOVEA_INTERNAL: 'fovea broke one of its own rules; please report it',
} as const;

/** One of {@link errorCodes}. */
export type FoveaErrorCode = keyof typeof errorCodes;

/** What every failing call of fovea throws or rejects with, from TypeScript and from the native side alike. */
export class FoveaError extends Error {
  /** Says what kind of failure this is; stable under semantic versioning, unlike the message. */
  readonly code: FoveaErrorCode;

  /**
   * @param code one of {@link errorCodes}
   * @param message one sentence: op, argument, expected, received, remedy
   * @param options `cause`: the error that led to this one
   */
  constructor(code: FoveaErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FoveaError';
    this.code = code;
  }
}
