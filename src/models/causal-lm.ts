/** What every language model has: one way to call it, to generate with it and to save it. */
import { generate, type GenerateOptions, stream } from '../generate/generate.js';
import type { KvCache } from '../generate/kv-cache.js';
import type {
  CausalLMConfig,
  CausalLMInput,
  CausalLMOutput,
  GenerationConfig,
  LanguageModel,
} from '../generate/language-model.js';
import type { TokenStream } from '../generate/token-stream.js';
import { Module } from '../nn/module.js';
import type { Device } from '../tensor/device.js';
import type { Tensor } from '../tensor/tensor.js';
import { generationConfigToJson } from './generation-config.js';
import { savePretrained } from './pretrained.js';

/** Base class of models that predict the next token. */
export abstract class CausalLM extends Module implements LanguageModel {
  /** Sizes and tokens. */
  abstract readonly config: CausalLMConfig;
  /** Defaults of `generate`; `load` takes them from the checkpoint, and they may be replaced. */
  generationConfig: GenerationConfig = {};
  /**
   * Whether training keeps only what goes into each block, and computes the rest again in backward (`checkpoint`): a
   * third more work, for memory that hardly grows with the number of blocks (default false).
   */
  gradientCheckpointing: boolean = false;

  /** Where the weights are, which `to` moves: inputs have to be there, too. */
  get device(): Device {
    return this.parameters()[0]?.device ?? 'cpu';
  }

  /** See {@link LanguageModel}; false where a model does not say otherwise. */
  get recordable(): boolean {
    return false;
  }

  /** The `config.json` of this model. */
  abstract configJson(): Record<string, unknown>;

  /** An empty cache for `capacity` positions of `batch` sequences. */
  abstract makeCache(batch: number, capacity: number): KvCache;

  /** The model's key for a key of a checkpoint, or undefined for one that holds no parameter. */
  abstract checkpointKey(key: string): string | undefined;

  /** Logits for each position of `inputIds`, and what else the input asks for. */
  abstract override forward(input: CausalLMInput): CausalLMOutput;

  /** Continues the prompts; see the function `generate`. */
  generate(options: GenerateOptions): Promise<Tensor> {
    return generate(this, options);
  }

  /** Continues the prompts and gives each token as it comes; see the function `stream`. */
  stream(options: GenerateOptions): TokenStream {
    return stream(this, options);
  }

  /**
   * Writes a Hugging Face checkpoint directory: `config.json`, `generation_config.json` and `model.safetensors`. Each
   * file is replaced atomically; the weights come last, so a directory without them is an unfinished save.
   *
   * @throws FOVEA_UNSUPPORTED for a model with adapters, which `saveAdapter` saves; FOVEA_IO, FOVEA_ABORTED
   */
  async savePretrained(folder: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const configs = {
      'config.json': this.configJson(),
      'generation_config.json': generationConfigToJson(this),
    };
    await savePretrained(this, folder, configs, options);
  }
}
