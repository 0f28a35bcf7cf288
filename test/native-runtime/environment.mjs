// Prints what the environment variables made of the runtime.
import { native, run, tensor } from './native.mjs';

const { threads, isa } = native.info();
const { limitBytes } = native.memory();
const sum = run('sum', [tensor([1, 2, 3], [3])]).dataSync()[0];
console.log(JSON.stringify({ threads, isa, limitBytes, sum }));
