/**
 * Text as tokens of an encoder and a decoder: bytes of UTF-8 behind three tokens, as ByT5 has them (Xue et al. 2022);
 * behind the bytes, for models that restore spans, the sentinels, which text writes as T5 does, <extra_id_0> and so on.
 */
import { FoveaError } from '../errors.js';
import type { TransformerConfig } from '../models/transformer/config.js';

const first = 3;

/** Tokens that are no bytes, and how many there are in all. */
export type PairTokens = Pick<TransformerConfig, 'padTokenId' | 'bosTokenId' | 'eosTokenId' | 'vocabSize'>;

/** The tokens of models that learn pairs: the bytes. */
export const pairTokens: PairTokens = { padTokenId: 0, bosTokenId: 1, eosTokenId: 2, vocabSize: 259 };

/** Stand for spans that were cut out, the first span's first. */
export const sentinelIds: readonly number[] = Array.from({ length: 100 }, (_, i) => pairTokens.vocabSize + i);

/** The tokens of models that restore spans: the bytes and the sentinels. */
export const denoisingTokens: PairTokens = { ...pairTokens, vocabSize: pairTokens.vocabSize + sentinelIds.length };

/**
 * Bytes of a window out of which 15 % are cut, 3 a span: at most so many that there is a sentinel for each span, and at
 * least so many that there are two spans, since one alone would always be the end of the window.
 */
export const denoisingContext = { least: 30, most: 2000 } as const;

/** The token of a byte. */
export const byteToken = (byte: number): number => first + byte;

const bytesOf = (text: string): number[] => Array.from(Buffer.from(text, 'utf8'), byteToken);

/** The tokens of a text, its end included. */
export function encodePart(text: string): number[] {
  return [...bytesOf(text), pairTokens.eosTokenId];
}

/**
 * The tokens of a text with sentinels, its end included.
 *
 * @throws FOVEA_ARGUMENT for a sentinel that there is not
 */
export function encodeSpans(text: string): number[] {
  const parts = text.split(/<extra_id_(\d+)>/).flatMap((part, i) => {
    if (i % 2 === 0) return bytesOf(part);
    const id = sentinelIds[Number(part)];
    if (id !== undefined) return [id];
    throw new FoveaError(
      'FOVEA_ARGUMENT',
      `encode: there is no <extra_id_${part}>; the last is <extra_id_${sentinelIds.length - 1}>`,
    );
  });
  return [...parts, pairTokens.eosTokenId];
}

/** The text of tokens: sentinels as T5 writes them, nothing for the three special ones, U+FFFD for broken UTF-8. */
export function decodePart(tokens: readonly number[]): string {
  const parts = tokens.map((token) => {
    if (token >= pairTokens.vocabSize) return Buffer.from(`<extra_id_${token - pairTokens.vocabSize}>`);
    return token < first ? Buffer.alloc(0) : Buffer.of(token - first);
  });
  return Buffer.concat(parts).toString('utf8');
}

/**
 * How a model's tokens are made of text.
 *
 * @throws FOVEA_UNSUPPORTED for a model whose tokens are others, with what to do instead
 */
export function encoderOf(config: TransformerConfig): (text: string) => number[] {
  const special = ['padTokenId', 'bosTokenId', 'eosTokenId'] as const;
  if (special.every((name) => config[name] === pairTokens[name])) {
    if (config.vocabSize === pairTokens.vocabSize) return encodePart;
    if (config.vocabSize === denoisingTokens.vocabSize) return encodeSpans;
  }
  throw new FoveaError(
    'FOVEA_UNSUPPORTED',
    `generate: the model's ${config.vocabSize} tokens are not the bytes that \`fovea train\` makes of text; pass token numbers by --ids`,
  );
}
