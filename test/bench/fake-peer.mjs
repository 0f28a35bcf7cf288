// A peer whose calls take the time that FAKE_TIME says, without taking it. It writes who is asked for a batch to
// FAKE_LOG.
import { appendFileSync } from 'node:fs';
import { serve, Unsupported } from '../../bench/peers/serve.mjs';

const { FAKE_NAME: name, FAKE_TIME: time, FAKE_LOG: log } = process.env;

function prepare({ id, kind }, threads) {
  if (kind === 'refused') throw new Unsupported('it refuses');
  if (kind === 'broken') throw new Error('it broke\n    at a place');
  if (kind === 'deadly') process.exit(3);
  const batch = async (count) => {
    appendFileSync(log, `${name} ${id} ${threads}\n`);
    return count * Number(time);
  };
  return { batch, count: 5, release: () => appendFileSync(log, `${name} releases ${id}\n`) };
}

await serve(async () => {
  if (time === 'missing') throw new Error('Cannot find package');
  console.log('libraries say things, too\n{and some begin like this');
  return { name, version: '1.2.3', prepare };
});
