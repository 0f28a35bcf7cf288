/** Files: safetensors, read through a map and written atomically. */
export { loadFile, type ReadOptions, SafetensorsFile, saveFile, type SaveOptions } from './safetensors.js';
