// A stream in a worker: the lines of a file, as numbers, in the order of a buffer.
import { map, shuffleBuffer, textLines } from 'fovea/train';

export const lines = (path) =>
  map(shuffleBuffer(textLines(path), 8, { seed: 2 }), (line) => {
    if (line === 'bad') throw new Error('no number');
    return Number(line);
  });

export default ({ data }) => lines(data);
