// `*.full.test.ts` take minutes: they run only in the full tier (FOVEA_TIER=full, see scripts/test-full.mjs).
// Tests import 'fovea' by the package's own name, so they see dist/ and the exports that users see.
import { defineConfig } from 'vitest/config';

// `*.device.test.ts` need a GPU, or the emulated one (build-emulator, see CONTRIBUTING.md), which FOVEA_TEST_DEVICE
// names.
const full = process.env.FOVEA_TIER === 'full';
const device = process.env.FOVEA_TEST_DEVICE !== undefined;

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...(full ? [] : ['test/**/*.full.test.ts']), ...(device ? [] : ['test/**/*.device.test.ts'])],
    pool: 'forks',
    execArgv: ['--expose-gc'],
    maxWorkers: 2,
    testTimeout: full ? 600_000 : 180_000,
    hookTimeout: 120_000,
    // The addon's own code is what runs in production: not transformed, one copy per process.
    server: { deps: { external: [/\/dist\//] } },
  },
});
