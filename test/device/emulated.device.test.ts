// What only an emulated device can be made to do: have an old driver, little memory, or fail in the middle.
import { execFileSync } from 'node:child_process';
import { devices } from 'fovea';
import { describe, expect, it } from 'vitest';

const emulated = devices()[1]?.description?.includes('emulator') === true;

/** Runs a module's text in a process of its own, with `f` as the library; gives what it logs. */
function run(env: Record<string, string>, body: string): string {
  const script = `import * as f from 'fovea';\n${body}`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  });
}
const reason = 'console.log(f.devices()[1].available, f.devices()[1].reason);';

// Both tiers run it on the emulator; a real driver cannot be made to fail on demand.
describe.runIf(emulated)('an emulated device', () => {
  it.each([
    ['no-driver', /no NVIDIA driver is installed/],
    ['old-driver', /driver supports CUDA .*update the driver/],
    ['no-device', /no NVIDIA GPU/],
  ])('%s', (fail, text) => {
    expect(run({ FOVEA_EMULATOR_FAIL: fail }, reason)).toMatch(/^false/);
    expect(run({ FOVEA_EMULATOR_FAIL: fail }, reason)).toMatch(text);
  });

  it('too old a device', () => {
    const body = "try { f.zeros([1], { device: 'cuda' }) } catch (e) { console.log(e.code, e.message) }";
    expect(run({ FOVEA_EMULATOR_CAPABILITY: '75' }, body)).toMatch(/FOVEA_DEVICE zeros: .*7\.5.*8\.0/);
  });

  it('out of memory at the call, and works again once something is freed', () => {
    const body = `
      const most = [];
      try { for (;;) most.push(f.zeros([1 << 22], { device: 'cuda' })) } catch (e) { console.log(e.code, e.message) }
      most.pop().dispose();
      console.log(await f.ones([1 << 22], { device: 'cuda' }).sum().item());`;
    const output = run({ FOVEA_EMULATOR_MEMORY_MB: '256' }, body);
    expect(output).toMatch(/FOVEA_OUT_OF_MEMORY empty|FOVEA_OUT_OF_MEMORY zeros/);
    expect(output).toMatch(/cuda:0.*dispose/);
    expect(output.trim().endsWith(String(1 << 22))).toBe(true);
  });

  it('lost in the middle: reads reject with that, and the CPU goes on', () => {
    const body = `
      const x = f.ones([8], { device: 'cuda' });
      let y = x;
      for (let i = 0; i < 50; i++) y = y.add(1);
      await y.data().catch((e) => console.log(e.code, e.message));
      console.log(await f.ones([3]).sum().item());`;
    const output = run({ FOVEA_EMULATOR_FAIL: 'lost-at:20' }, body);
    expect(output).toMatch(/FOVEA_DEVICE .*lost.*restart/);
    expect(output.trim().endsWith('3')).toBe(true);
  });

  it('several devices: copies between them, and refuses to mix', () => {
    const body = `
      const a = f.arange(5, { device: 'cuda:0', dtype: 'float32' });
      const b = a.to('cuda:1');
      console.log(b.device, (await b.add(b).data()).join());
      try { f.add(a, b) } catch (e) { console.log(e.code, e.message) }`;
    const output = run({ FOVEA_EMULATOR_DEVICES: '2' }, body);
    expect(output).toMatch(/^cuda:1 0,2,4,6,8/);
    expect(output).toMatch(/FOVEA_DEVICE add: b is on cuda:1 but a is on cuda:0/);
  });

  it('a process that exits with work queued ends well', () => {
    const body = `
      let y = f.ones([100, 100], { device: 'cuda' });
      for (let i = 0; i < 200; i++) y = y.add(1);
      y.data();
      console.log('queued');
      process.exit(3);`;
    const status = ((): number => {
      try {
        run({}, body);
        return 0;
      } catch (error) {
        return (error as { status: number }).status;
      }
    })();
    expect(status).toBe(3);
  });

  it('a missing kernel runs its reference, says so, and strict refuses', () => {
    const body = `
      const x = f.randn([4, 8], { device: 'cuda', requiresGrad: true });
      f.functional.rmsNorm(x, [8]).sum().backward();
      console.log(x.grad.device, [...f.fallbacks()].join());
      f.strict(() => { try { f.functional.rmsNorm(x, [8]) } catch (e) { console.log(e.code, e.message) } });`;
    const output = run({ FOVEA_REFERENCE: 'rmsNorm' }, body);
    expect(output).toMatch(/^cuda:0 rmsNorm,there is no rmsNorm kernel for cuda:0/);
    expect(output).toMatch(/FOVEA_UNSUPPORTED rmsNorm/);
  });
});
