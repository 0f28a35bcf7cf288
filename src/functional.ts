/**
 * `fovea/functional`: the ops of neural networks and all others as functions, for `import * as F from
 * 'fovea/functional'` or `import { functional as F } from 'fovea'`.
 */
export * from './ops/index.js';
