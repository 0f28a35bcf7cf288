/**
 * Optimizers by the names of a config. Their options are their own, and they check them. `Muon` takes the matrices of
 * hidden layers, and `AdamW` beside it, with the options `others`, what is left. `Sophia` has `estimator` and
 * `estimateEvery` besides.
 */
import type { JsonObject } from '../io/strict-json.js';
import type { Module } from '../nn/module.js';
import { parameter } from '../nn/parameter.js';
import { zeros } from '../ops/index.js';
import {
  Adafactor,
  Adagrad,
  Adam,
  AdamW,
  ChainedOptimizer,
  Lion,
  type lrScheduler,
  Muon,
  NAdam,
  RAdam,
  RMSprop,
  SGD,
  Sophia,
} from '../optim/index.js';
import type { Tensor } from '../tensor/tensor.js';
import { type DecayGroup, decayGroups, hiddenMatrices } from '../train/param-groups.js';
import type { ConfigFields } from './config-fields.js';

type AnyOptimizer = lrScheduler.AnyOptimizer;

/** A name of the table. */
export type OptimizerType =
  | 'AdamW'
  | 'Adam'
  | 'SGD'
  | 'RAdam'
  | 'NAdam'
  | 'RMSprop'
  | 'Adagrad'
  | 'Adafactor'
  | 'Lion'
  | 'Muon'
  | 'Sophia';

const types = { AdamW, Adam, SGD, RAdam, NAdam, RMSprop, Adagrad, Adafactor, Lion, Muon, Sophia } satisfies Record<
  OptimizerType,
  unknown
>;

/** Defaults that are not the optimizers' own: AdamW's, as language models are trained. */
const defaults: Partial<Record<OptimizerType, JsonObject>> = {
  AdamW: { lr: 3e-3, betas: [0.9, 0.95], weightDecay: 0.1 },
};

/** An optimizer of all parameters of a model, or of those that another one does not have. */
interface Plan {
  type: OptimizerType;
  options: JsonObject;
  /** Of matrices. */
  weightDecay: number;
}

/** Where Sophia's estimates of the curvature come from, and every how many updates. */
export interface HessianConfig {
  estimator: 'gaussNewtonBartlett' | 'hutchinson';
  every: number;
}

/** What a config says of the optimizer. */
export interface OptimizerConfig extends Plan {
  /** Beside Muon. */
  others: Plan | undefined;
  /** Of Sophia. */
  hessian: HessianConfig | undefined;
}

function hessianOf(fields: ConfigFields): HessianConfig {
  const estimator = fields.oneOf('estimator', ['gaussNewtonBartlett', 'hutchinson'], 'gaussNewtonBartlett');
  return { estimator, every: fields.count('estimateEvery', 1, 10) };
}

/** @param groups parameters, or groups of them */
function make(
  type: OptimizerType,
  groups: readonly DecayGroup[] | readonly Tensor[],
  options: JsonObject,
): AnyOptimizer {
  // The options are a file's, and the optimizer refuses what it does not take.
  return new types[type](Object(groups), Object(options));
}

/** What an optimizer's groups hold that leave out an option. */
const ownOptions = (optimizer: AnyOptimizer): Record<string, unknown> => ({ ...optimizer.paramGroups[0]! });

/** Tries the options on a parameter of one number. @throws FOVEA_ARGUMENT for what the optimizer does not take */
function planOf(fields: ConfigFields, type: OptimizerType, otherwise: JsonObject): Plan {
  const given = fields.rest();
  const options = { ...defaults[type], ...otherwise, ...given };
  using tried = parameter(zeros([1, 1]));
  const own = ownOptions(make(type, [tried], {}));
  const { weightDecay } = ownOptions(fields.checked(() => make(type, [tried], options)));
  for (const [name, value] of Object.entries(given))
    if (typeof own[name] === 'boolean' && typeof value !== 'boolean') throw fields.error(name, 'true or false');
  return { type, options, weightDecay: Number(weightDecay) };
}

/**
 * Reads and checks an optimizer.
 *
 * @param otherwise what stands for options that are left out
 * @throws FOVEA_ARGUMENT naming the place in the config
 */
export function optimizerConfig(fields: ConfigFields, otherwise: JsonObject): OptimizerConfig {
  const type = fields.oneOf('type', Object.keys(types) as OptimizerType[], 'AdamW');
  const others = type === 'Muon' ? planOf(fields.object('others'), 'AdamW', otherwise) : undefined;
  const hessian = type === 'Sophia' ? hessianOf(fields) : undefined;
  return { ...planOf(fields, type, otherwise), others, hessian };
}

/** Makes the optimizer of a model's parameters: matrices decay, biases and the gains of norms do not. */
export function makeOptimizer(model: Module, { type, options, weightDecay, others }: OptimizerConfig): AnyOptimizer {
  if (others === undefined) return make(type, decayGroups(model, weightDecay), options);
  const matrices = hiddenMatrices(model);
  const rest = decayGroups(model, others.weightDecay, new Set(matrices));
  const members = matrices.length > 0 ? [make(type, matrices, options)] : [];
  if (rest.length > 0) members.push(make(others.type, rest, others.options));
  return new ChainedOptimizer(members);
}
