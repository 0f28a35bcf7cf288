// The peers: how each is started, and how it is installed where it is not.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const node = (file) => [process.execPath, join(here, file)];
// Without these, install scripts fetch CUDA and other binaries; those for the CPU are in the packages.
const installNpm = 'cd bench/peers && ONNXRUNTIME_NODE_INSTALL=skip NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm install';
const installPython = [
  'python3 -m venv bench/peers/.venv',
  'bench/peers/.venv/bin/pip install --prefer-binary -r bench/peers/requirements.txt',
].join(' && ');

/** FOVEA_PEERS_PYTHON, or that of the environment that the install command makes, or the system's. */
function python() {
  const own = join(here, '.venv', process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  return process.env.FOVEA_PEERS_PYTHON ?? (existsSync(own) ? own : 'python3');
}

export const fovea = node('../as-peer.mjs');

/** @returns by id: name, command, environment for so many threads, and how to install it */
export function peers() {
  return {
    torch: {
      name: 'PyTorch',
      command: [python(), join(here, 'torch_cpu.py')],
      // Huge pages, as fovea takes them; an OpenBLAS that is told of another processor would be slower than it is.
      environment: (threads) => ({
        OMP_NUM_THREADS: String(threads),
        MKL_NUM_THREADS: String(threads),
        THP_MEM_ALLOC_ENABLE: '1',
        OPENBLAS_CORETYPE: undefined,
      }),
      install: installPython,
    },
    onnxruntime: {
      name: 'onnxruntime-node',
      command: node('onnxruntime.mjs'),
      environment: () => ({}),
      install: installNpm,
    },
    llamacpp: {
      name: 'llama.cpp (node-llama-cpp)',
      command: node('llamacpp.mjs'),
      environment: () => ({}),
      install: installNpm,
    },
    tfjs: { name: 'TensorFlow.js (wasm)', command: node('tfjs.mjs'), environment: () => ({}), install: installNpm },
    jax: { name: 'jax-js (wasm)', command: node('jax.mjs'), environment: () => ({}), install: installNpm },
  };
}
