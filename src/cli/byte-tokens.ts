import { FoveaError } from '../errors.js';
import { ByteTokenizer } from '../text/byte-tokenizer.js';

/**
 * Text is read as bytes, which have to be the tokens of the model.
 *
 * @throws FOVEA_IO, FOVEA_UNSUPPORTED for another tokenizer, with what to do instead
 */
export async function byteTokens(folder: string): Promise<void> {
  try {
    await ByteTokenizer.fromPretrained(folder);
  } catch (error) {
    if (!(error instanceof FoveaError)) throw error;
    const remedy = 'or give token numbers instead of text: .bin files of little-endian uint16';
    throw new FoveaError(error.code, `${error.message}; ${remedy}`, { cause: error });
  }
}
