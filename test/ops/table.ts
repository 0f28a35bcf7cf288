// Every exported op, once.
import type { Row } from './row.js';
import { attentionRows } from './rows/attention.js';
import { channelNormRows } from './rows/channel-norm.js';
import { composedRows } from './rows/composed.js';
import { convRows } from './rows/conv.js';
import { elementwiseRows } from './rows/elementwise.js';
import { fusedRows } from './rows/fused.js';
import { gatedLinear } from './rows/gated-linear.js';
import { groupedMatmul } from './rows/grouped.js';
import { inPlaceRows } from './rows/in-place.js';
import { indexingRows } from './rows/indexing.js';
import { linearRows } from './rows/linear.js';
import { linearCrossEntropy } from './rows/linear-cross-entropy.js';
import { crossEntropy, nllLoss } from './rows/losses.js';
import { pairLossRows } from './rows/losses-of-pairs.js';
import { vectorLossRows } from './rows/losses-of-vectors.js';
import { networkRows } from './rows/network.js';
import { pagedAttention } from './rows/paged-attention.js';
import { pieceRows } from './rows/pieces.js';
import { poolRows } from './rows/pool.js';
import { quantizedRows } from './rows/quantized.js';
import { reduceRows } from './rows/reduce.js';
import { reorderedRows } from './rows/reordered.js';
import { rnnRows } from './rows/rnn.js';
import { shapeRows } from './rows/shape.js';
import { unfoldRows } from './rows/unfold.js';

export const table: readonly Row[] = [
  ...elementwiseRows,
  ...reduceRows,
  ...linearRows,
  groupedMatmul,
  gatedLinear,
  ...networkRows,
  crossEntropy,
  nllLoss,
  ...pairLossRows,
  ...vectorLossRows,
  linearCrossEntropy,
  ...fusedRows,
  ...rnnRows,
  ...attentionRows,
  pagedAttention,
  ...convRows,
  ...unfoldRows,
  ...poolRows,
  ...channelNormRows,
  ...indexingRows,
  ...shapeRows,
  ...pieceRows,
  ...composedRows,
  ...reorderedRows,
  ...inPlaceRows,
  ...quantizedRows,
];
