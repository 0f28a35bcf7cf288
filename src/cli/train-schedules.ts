/** Schedules of the rate by the names of a config, each behind a linear warm-up. Their options are their own. */
import type { JsonObject } from '../io/strict-json.js';
import { parameter } from '../nn/parameter.js';
import { zeros } from '../ops/index.js';
import { lrScheduler, SGD } from '../optim/index.js';
import type { ConfigFields } from './config-fields.js';

const { ExponentialLR, PolynomialLR, CosineAnnealingWarmRestarts, LambdaLR, SequentialLR } = lrScheduler;
type AnyOptimizer = lrScheduler.AnyOptimizer;
type Schedule = lrScheduler.LRScheduler;

/** A name of the table. */
export type ScheduleType =
  | 'cosine'
  | 'linear'
  | 'constant'
  | 'exponential'
  | 'polynomial'
  | 'restarts'
  | 'wsd'
  | 'noam'
  | 'inverse-sqrt';

/** What a schedule is made of. */
interface Parts {
  optimizer: AnyOptimizer;
  /** Of the run. */
  steps: number;
  warmupSteps: number;
  /** Steps behind the warm-up. */
  left: number;
  /** Of the model. */
  width: number;
  options: JsonObject;
}

/** A schedule that begins behind the warm-up. */
function behindWarmup(make: (parts: Parts) => Schedule): (parts: Parts) => Schedule {
  return (parts) => {
    const { optimizer, warmupSteps: steps } = parts;
    const schedule = make(parts);
    if (steps === 0) return schedule;
    const rising = new LambdaLR(optimizer, lrScheduler.warmup({ steps }).factor);
    return new SequentialLR(optimizer, [rising, schedule], { milestones: [steps] });
  };
}

/** Rates that fall end at a tenth. */
const minLrRatio = 0.1;

const schedules: Record<ScheduleType, (parts: Parts) => Schedule> = {
  cosine: ({ optimizer, steps: totalSteps, warmupSteps, options }) =>
    lrScheduler.warmupCosine(optimizer, { warmupSteps, totalSteps, minLrRatio, ...options }),
  linear: ({ optimizer, steps: totalSteps, warmupSteps, options }) =>
    lrScheduler.warmupLinear(optimizer, { warmupSteps, totalSteps, minLrRatio, ...options }),
  constant: behindWarmup(({ optimizer }) => new LambdaLR(optimizer, () => 1)),
  exponential: behindWarmup(({ optimizer, options }) => new ExponentialLR(optimizer, Object(options))),
  polynomial: behindWarmup(
    ({ optimizer, left, options }) => new PolynomialLR(optimizer, { totalIters: Math.max(1, left), ...options }),
  ),
  restarts: behindWarmup(({ optimizer, options }) => new CosineAnnealingWarmRestarts(optimizer, Object(options))),
  wsd: ({ optimizer, warmupSteps, left, options }) => {
    const { decaySteps = Math.ceil(left / 5), ...more } = options;
    const stableSteps = Math.max(0, left - Number(decaySteps));
    const lengths = { warmupSteps, stableSteps, decaySteps: Number(decaySteps) };
    return lrScheduler.warmupStableDecay(optimizer, { ...lengths, minLrRatio, ...more });
  },
  noam: ({ optimizer, warmupSteps, width: dModel, options }) =>
    lrScheduler.noam(optimizer, { dModel, warmupSteps, ...options }),
  'inverse-sqrt': ({ optimizer, warmupSteps, options }) =>
    lrScheduler.warmupInverseSqrt(optimizer, { warmupSteps, ...options }),
};

/** What a config says of the rate. */
export interface ScheduleConfig {
  type: ScheduleType;
  warmupSteps: number;
  options: JsonObject;
}

/** Makes the schedule of an optimizer's rates. */
export function makeSchedule(
  optimizer: AnyOptimizer,
  { type, warmupSteps, options }: ScheduleConfig,
  { steps, width }: { steps: number; width: number },
): Schedule {
  return schedules[type]({ optimizer, steps, warmupSteps, left: steps - warmupSteps, width, options });
}

/** Reads and checks a schedule. @throws FOVEA_ARGUMENT naming the place in the config */
export function scheduleConfig(fields: ConfigFields, steps: number): ScheduleConfig {
  const type = fields.oneOf('type', Object.keys(schedules) as ScheduleType[], 'cosine');
  const constant = type === 'constant';
  const warmupSteps = fields.count('warmupSteps', 0, constant ? 0 : Math.ceil(steps / 20));
  if (warmupSteps > steps) throw fields.error('warmupSteps', `at most the steps, which are ${steps},`);
  if (constant) fields.finish();
  const config = { type, warmupSteps, options: fields.rest() };
  using tried = parameter(zeros([1]));
  fields.checked(() => makeSchedule(new SGD([tried]), config, { steps, width: 1 }));
  return config;
}
