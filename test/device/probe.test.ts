// What is said where there is no GPU: importing never fails, and the reason names what to do.
import { execFileSync } from 'node:child_process';
import { devices, FoveaError, tensor } from 'fovea';
import { describe, expect, it } from 'vitest';

/** `devices()` in a process of its own. */
function devicesWith(env: Record<string, string>): { name: string; available: boolean; reason?: string }[] {
  const script = "import('fovea').then(({ devices }) => console.log(JSON.stringify(devices())))";
  const output = execFileSync(process.execPath, ['-e', script], { env: { ...process.env, ...env }, encoding: 'utf8' });
  return JSON.parse(output) as { name: string; available: boolean; reason?: string }[];
}

describe('devices()', () => {
  it('lists the CPU first, and every GPU or why there is none', () => {
    const [cpu, ...gpus] = devices();
    expect(cpu).toEqual({ name: 'cpu', available: true });
    expect(gpus.length).toBeGreaterThan(0);
    for (const gpu of gpus) {
      if (gpu.available) expect(gpu).toMatchObject({ name: /^cuda:\d+$/, memory: expect.any(Number) });
      else expect(gpu).toMatchObject({ name: 'cuda', reason: expect.stringMatching(/install|driver|GPU|nvcc/) });
    }
  });

  it('says that a plugin is missing, or is none', () => {
    expect(devicesWith({ FOVEA_CUDA_PLUGIN: '/nowhere/fovea_cuda.so' })[1]).toMatchObject({
      available: false,
      reason: expect.stringMatching(/no CUDA kernels; install @fovea\/.*-cuda/),
    });
    expect(devicesWith({ FOVEA_CUDA_PLUGIN: import.meta.filename })[1]).toMatchObject({
      available: false,
      reason: expect.stringContaining('cannot be opened'),
    });
  });

  it('goes with the error of who asks for one that is not there', () => {
    const there = devices().some(({ name, available }) => name === 'cuda:0' && available);
    const missing = there ? 'cuda:99' : 'cuda';
    expect(() => tensor([1]).to(missing)).toThrow(FoveaError);
    expect(() => tensor([1]).to(missing)).toThrow(/^to: device "cuda.*" is not available: .*/);
    expect(() => tensor([1], { device: missing })).toThrow(/^tensor: device "cuda.*" is not available/);
  });
});
