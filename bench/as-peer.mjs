// fovea as one of the peers that bench/peers.mjs asks in turn, so that all are timed in the same way. It lies outside
// bench/peers/, which is a package of its own and knows no fovea.
import { emptyCache, info, synchronize } from 'fovea';
import { prepare } from './kinds.mjs';
import { limitOf, limitProbes } from './limits.mjs';
import { serve } from './peers/serve.mjs';

let probes;

await serve(async () => {
  const { version, isa, threads } = info();
  return {
    name: 'fovea',
    version,
    isa,
    threads,
    prepare: (test) => {
      const prepared = prepare(test);
      const release = async () => {
        prepared.release();
        await synchronize();
        emptyCache();
      };
      return { ...prepared, release };
    },
    limit: async (test, tiny) => {
      probes ??= await limitProbes({ tiny });
      const name = limitOf(test, probes);
      return name && { name, rate: await probes[name]() };
    },
  };
});
