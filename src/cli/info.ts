/** `fovea info`. */
import { devices } from '../tensor/device.js';
import { info } from '../tensor/memory.js';

/** Prints what the binary is and where it runs. */
export function printInfo(options: { json?: boolean }): void {
  const { version, isa, isas, threads, cpuFeatures } = info();
  const list = devices();
  if (options.json) {
    console.log(
      JSON.stringify({ version, isa, isas, threads, cpuFeatures, devices: list, node: process.version }, null, 2),
    );
    return;
  }
  console.log(`fovea            ${version} (Node.js ${process.version}, ${process.platform}-${process.arch})`);
  console.log(`instruction set  ${isa} (of ${isas.join(', ')}; FOVEA_ISA forces one)`);
  console.log(`threads          ${threads} (FOVEA_NUM_THREADS sets them)`);
  for (const device of list) {
    console.log(
      `device ${device.name.padEnd(9)} ${device.available ? 'available' : `not available: ${device.reason}`}`,
    );
  }
}
