/**
 * Text as tokens of an encoder and a decoder: bytes of UTF-8 behind three tokens, as ByT5 has them (Xue et al. 2022).
 */

const first = 3;

/** Tokens that are no bytes, and how many there are in all. */
export const pairTokens = { padTokenId: 0, bosTokenId: 1, eosTokenId: 2, vocabSize: 259 } as const;

/** The tokens of a text, its end included. */
export function encodePart(text: string): number[] {
  return [...Array.from(Buffer.from(text, 'utf8'), (byte) => first + byte), pairTokens.eosTokenId];
}
