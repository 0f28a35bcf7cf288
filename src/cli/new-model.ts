import type { GPT2Options } from '../models/gpt2/config.js';
import { GPT2LMHeadModel } from '../models/gpt2/model.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import type { NewModel } from './train-subject.js';

/** Of a model on bytes. */
function byteVocabulary(): Pick<GPT2Options, 'vocabSize' | 'bosTokenId' | 'eosTokenIds'> {
  const { vocabSize, eosTokenId } = new ByteTokenizer();
  return { vocabSize, bosTokenId: eosTokenId, eosTokenIds: [eosTokenId] };
}

/** A fresh GPT-2 on bytes, or on token numbers, from the default generator. */
export function newModel({ layers, width, heads, context, dropout, vocabSize }: NewModel): GPT2LMHeadModel {
  return new GPT2LMHeadModel({
    ...(vocabSize === undefined ? byteVocabulary() : { vocabSize }),
    nPositions: context,
    nEmbd: width,
    nLayer: layers,
    nHead: heads,
    embdPdrop: dropout,
    residPdrop: dropout,
    attnPdrop: dropout,
  });
}
