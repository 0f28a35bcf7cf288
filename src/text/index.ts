/** Text to tokens and back. */
export { ByteTokenizer, type StreamingDecoder } from './byte-tokenizer.js';
