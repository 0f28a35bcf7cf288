/** Rows of a table by number. */
import { embedding, empty } from '../ops/index.js';
import { noGrad } from '../autograd/backward.js';
import { countArg, optionsArg } from '../tensor/check.js';
import type { Dtype } from '../tensor/dtype.js';
import { tidy } from '../tensor/tidy.js';
import type { Tensor } from '../tensor/tensor.js';
import { normal_ } from './init.js';
import { Module } from './module.js';
import { parameter } from './parameter.js';

/** Options of {@link Embedding}. */
export interface EmbeddingOptions {
  /** A row that starts as zeros and gets no gradient. */
  paddingIdx?: number;
  /** Of the parameters; default float32. */
  dtype?: Dtype;
}

/** Lookup table. Key: `weight` [numEmbeddings, embeddingDim]. */
export class Embedding extends Module {
  /** Rows. */
  readonly numEmbeddings: number;
  /** Width of a row. */
  readonly embeddingDim: number;
  /** The row without gradient. */
  readonly paddingIdx: number | undefined;
  /** [numEmbeddings, embeddingDim] */
  weight: Tensor;

  /** Initialised as in PyTorch: standard normal. */
  constructor(numEmbeddings: number, embeddingDim: number, options: EmbeddingOptions = {}) {
    super();
    const { paddingIdx, dtype = 'float32' } = optionsArg('Embedding', options, ['paddingIdx', 'dtype']);
    this.numEmbeddings = countArg('Embedding', 'numEmbeddings', numEmbeddings);
    this.embeddingDim = countArg('Embedding', 'embeddingDim', embeddingDim);
    this.paddingIdx = paddingIdx;
    this.weight = parameter(normal_(empty([numEmbeddings, embeddingDim], { dtype })));
    if (paddingIdx !== undefined) noGrad(() => tidy(() => void this.weight.select(0, paddingIdx).zero_()));
  }

  /** @param ids integers [...] @returns [..., embeddingDim] */
  override forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight, { paddingIdx: this.paddingIdx });
  }
}
