/**
 * Bytes as tokens: token b is the byte b of the UTF-8 text, and one more token, `<|endoftext|>` (256), separates
 * documents. Every text has exactly one encoding and every file can be read, at the price of longer sequences.
 */
import { join } from 'node:path';
import { FoveaError } from '../errors.js';
import { readJsonFile, writeJsonFile } from '../io/files.js';
import { isJsonObject } from '../io/strict-json.js';

const endOfText = '<|endoftext|>';
const byteCount = 256;

/**
 * The character by which Hugging Face's `ByteLevel` writes each byte: printable Latin-1 characters stand for
 * themselves, the other 68 bytes for U+0100 onwards (GPT-2, Radford et al. 2019, `bytes_to_unicode`).
 */
function byteCharacters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = byteCount;
  return Array.from({ length: byteCount }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

/** Turns tokens into text piece by piece: a character is given out once its last byte is there. */
export interface StreamingDecoder {
  /** The text that this token completes; empty for `<|endoftext|>` and within a character. */
  push(token: number): string;
  /** What is left at the end: U+FFFD if a character stayed incomplete. */
  flush(): string;
}

/** Byte-level tokenizer with 257 tokens. */
export class ByteTokenizer {
  /** 256 bytes and the end of a text. */
  readonly vocabSize: number = byteCount + 1;
  /** Ends a document, and begins one. */
  readonly eosTokenId: number = byteCount;

  /** The bytes of the text's UTF-8 encoding; `<|endoftext|>` in the text is text. */
  encode(text: string): number[] {
    return [...new TextEncoder().encode(text)];
  }

  /**
   * The text of `tokens`; bytes that are not UTF-8 give U+FFFD, `<|endoftext|>` gives nothing.
   *
   * @throws FOVEA_INDEX on a token that is not in the vocabulary
   */
  decode(tokens: Iterable<number | bigint>): string {
    const decoder = this.decoder();
    let text = '';
    for (const token of tokens) text += decoder.push(Number(token));
    return text + decoder.flush();
  }

  /** A decoder for tokens that arrive one at a time. */
  decoder(): StreamingDecoder {
    const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
    return {
      push: (token) => {
        if (!Number.isInteger(token) || token < 0 || token >= this.vocabSize) {
          throw new FoveaError('FOVEA_INDEX', `decode: token ${token} is not in the vocabulary of ${this.vocabSize}`);
        }
        return token === this.eosTokenId ? '' : utf8.decode(Uint8Array.of(token), { stream: true });
      },
      flush: () => utf8.decode(),
    };
  }

  /** Writes `tokenizer.json`: a `ByteLevel` BPE without merges, which Hugging Face's tokenizers load. */
  async savePretrained(folder: string): Promise<void> {
    const vocab = Object.fromEntries(byteCharacters().map((character, byte) => [character, byte]));
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    await writeJsonFile(join(folder, 'tokenizer.json'), {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [{ id: this.eosTokenId, content: endOfText, ...flags }],
      normalizer: null,
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      post_processor: null,
      decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: { ...vocab, [endOfText]: this.eosTokenId },
        merges: [],
      },
    });
  }

  /**
   * Reads `tokenizer.json` and accepts it only if it is byte-level, since every other one would give other tokens.
   *
   * @throws FOVEA_IO if it cannot be read, FOVEA_UNSUPPORTED if it is not byte-level
   */
  static async fromPretrained(folder: string): Promise<ByteTokenizer> {
    const path = join(folder, 'tokenizer.json');
    const { model } = await readJsonFile(path);
    const vocab = isJsonObject(model) && isJsonObject(model['vocab']) ? model['vocab'] : undefined;
    const merges = isJsonObject(model) ? model['merges'] : undefined;
    const plain = Array.isArray(merges) && merges.length === 0;
    if (!vocab || !plain || !byteCharacters().every((character, byte) => vocab[character] === byte)) {
      throw new FoveaError(
        'FOVEA_UNSUPPORTED',
        `tokenizer: ${path} is not byte-level (256 byte tokens and no merges), which is the only kind supported; encode the text with its own tokenizer and pass token ids`,
      );
    }
    return new ByteTokenizer();
  }
}
