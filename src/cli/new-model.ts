import { GPT2LMHeadModel } from '../models/gpt2/model.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';
import type { NewModel } from './train-config.js';

/** A fresh GPT-2 on bytes, from the default generator. */
export function newModel({ layers, width, heads, context, dropout }: NewModel): GPT2LMHeadModel {
  const { vocabSize, eosTokenId } = new ByteTokenizer();
  return new GPT2LMHeadModel({
    vocabSize,
    nPositions: context,
    nEmbd: width,
    nLayer: layers,
    nHead: heads,
    embdPdrop: dropout,
    residPdrop: dropout,
    attnPdrop: dropout,
    bosTokenId: eosTokenId,
    eosTokenIds: [eosTokenId],
  });
}
