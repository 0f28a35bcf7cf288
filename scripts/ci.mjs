// The fast tier, which .ci/run starts on a fresh checkout after `npm ci`: everything that must hold before a change
// lands, in less than 20 minutes on two cores. The full tier is scripts/test-full.mjs.
import {
  buildEmulator,
  ctest,
  finish,
  need,
  root,
  runnableIsas,
  sh,
  step,
  vitest,
  vitestOnEmulator,
} from './steps.mjs';

/** The generic suites over the op table: what must agree between instruction sets. */
const opSuites = ['test/ops'];

step('lint', () => sh('npm', ['run', 'lint']));
step('types', () => sh('npm', ['run', 'typecheck']));
step('generated files', () => sh('npm', ['run', 'gen:check']));
step('tests, packed install included', () => vitest());

const isas = runnableIsas();
// The best set ran above. The middle ones differ from it and from the baseline in kernels that must not rot.
for (const isa of isas.filter((name) => ['baseline', 'avx2', 'avx512', 'neon'].includes(name))) {
  step(`op table, ${isa}`, () => vitest(opSuites, { env: { FOVEA_ISA: isa } }));
}
step('CUDA kernels on the emulator', () => {
  ctest(buildEmulator('build-emulator'));
});
step('op table and models on the emulated GPU', () =>
  vitestOnEmulator(`${root}/build-emulator`, [
    'test/ops/forward',
    'test/ops/gradcheck',
    'test/device',
    'test/models/gpt2',
  ]),
);
step('address sanitizer, smoke', () => sh(process.execPath, [need('scripts/sanitize.mjs'), 'address']));

finish();
