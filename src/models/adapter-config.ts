/**
 * `adapter_config.json`: the options of PEFT's `LoraConfig`, of which all are read, known not to matter, or refused.
 */
import type { JsonObject, JsonValue } from '../io/strict-json.js';
import type { AdapterSettings } from '../nn/lora-layer.js';
import { ConfigReader } from './config-reader.js';

/** What the file says of an adapter. */
export interface StoredConfig extends Omit<AdapterSettings, 'name' | 'targets'> {
  /**
   * `target_modules`: names, or endings of names; undefined where the file has an expression, or chooses layers
   * besides.
   */
  readonly targetModules: readonly string[] | undefined;
  /** Whether a later PEFT than 0.21 has written it. */
  readonly isLater: boolean;
}

const biases = new Map<string, AdapterSettings['bias']>([
  ['none', 'none'],
  ['all', 'all'],
  ['lora_only', 'loraOnly'],
]);

/** Options of other methods, or of terms for other things than linear layers. */
const refused = [
  'use_dora',
  'lora_bias',
  'use_qalora',
  'modules_to_save',
  'target_parameters',
  'trainable_token_indices',
  'layer_replication',
  'rank_pattern',
  'alpha_pattern',
  'megatron_config',
  'corda_config',
  'loftq_config',
  'arrow_config',
  'alora_invocation_tokens',
  'lora_ga_config',
  'monteclora_config',
  'velora_config',
  'kasa_config',
  'use_bdlora',
] as const;

/** Provenance, and what only Python does with the file. Which layout a weight has, its layer says itself. */
const ignored = [
  'auto_mapping',
  'base_model_name_or_path',
  'revision',
  'task_type',
  'inference_mode',
  'peft_version',
  'runtime_config',
  'fan_in_fan_out',
  'megatron_core',
  'qalora_group_size',
  'ensure_weight_tying',
  'eva_config',
] as const;

/** Some of `target_modules` are then without terms. */
const choosing = ['layers_to_transform', 'layers_pattern', 'exclude_modules'] as const;

/**
 * Reads the options of an adapter.
 *
 * @param values the content of `file`
 * @throws FOVEA_UNSUPPORTED naming the option that is not known, or has a value that is not supported
 */
export function readAdapterConfig(values: JsonObject, file: string): StoredConfig {
  const read = new ConfigReader(values, file);
  read.is('peft_type', ['LORA']);
  for (const key of refused) read.only(key, [false], 'false or nothing, which is all that is supported');
  // PiSSA, OLoRA, CorDA and LoftQ change the weights beside the terms.
  read.is('init_lora_weights', [true, false, null, 'gaussian', 'eva', 'orthogonal']);
  const bias = read.string('bias', 'none');
  if (!biases.has(bias)) throw read.error('bias', [...biases.keys()].join(', '));
  const targets = values['target_modules'];
  const names = Array.isArray(targets) && targets.every((target) => typeof target === 'string');
  if (!names && typeof targets !== 'string') throw read.error('target_modules', 'a list of names, or an expression');
  const chosen = choosing.some((key) => (values[key] ?? null) !== null);
  read.ignore(...ignored, ...choosing, 'target_modules');
  const config = {
    r: read.count('r', 8),
    loraAlpha: read.real('lora_alpha', 8),
    loraDropout: read.probability('lora_dropout', 0),
    useRslora: read.boolean('use_rslora', false),
    bias: biases.get(bias)!,
    targetModules: names && !chosen ? targets : undefined,
    isLater: isLater(values['peft_version']),
  };
  read.finish();
  return config;
}

/** @param version such as `0.21.0`, if the file has one */
function isLater(version: JsonValue | undefined): boolean {
  const text = typeof version === 'string' ? version : '0.0';
  const [, major, minor] = /^(\d+)\.(\d+)\b/.exec(text) ?? [];
  return major === undefined || Number(major) > 0 || Number(minor) > 21;
}

/** What the file says beside the settings. */
export interface AdapterOrigin {
  /** The checkpoint that the adapter is for. */
  readonly baseModelNameOrPath: string | null;
  /** PEFT's name of what the model does. */
  readonly taskType: string | null;
  /** Whether the weights of its layers lie as [in, out]. */
  readonly fanInFanOut: boolean;
}

/** The file of an adapter. */
export function adapterConfigToJson(settings: AdapterSettings, origin: AdapterOrigin): Record<string, unknown> {
  return {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: origin.baseModelNameOrPath,
    bias: [...biases].find(([, bias]) => bias === settings.bias)![0],
    fan_in_fan_out: origin.fanInFanOut,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: settings.loraAlpha,
    lora_dropout: settings.loraDropout,
    modules_to_save: null,
    peft_type: 'LORA',
    r: settings.r,
    rank_pattern: {},
    revision: null,
    target_modules: settings.targets,
    task_type: origin.taskType,
    use_dora: false,
    use_rslora: settings.useRslora,
  };
}
