/**
 * Linear layers behind a gate (Shazeer 2020, https://arxiv.org/abs/2002.05202), the first half of the feed-forward
 * networks of Llama and its kin:
 *
 *   y = act(x W_gate^T + b_gate) (x W_up^T + b_up)
 *
 * Composed of `linear` and a gated linear unit.
 */
import { FoveaError } from '../errors.js';
import { argumentError, optionsArg, shapeError } from '../tensor/check.js';
import { dtypeNames, isFloat } from '../tensor/dtype.js';
import { slotOf, type Tensor } from '../tensor/tensor.js';
import { relu, sigmoid } from './activation.js';
import { lowered, toLowered } from './autocast.js';
import { gated, geglu, swiglu } from './gated.js';
import { linear } from './linear.js';
import { resultType } from './promote.js';
import { QuantizedTensor } from './quantized.js';

/**
 * What `gatedLinear` can apply to the gate: swiglu, geglu (through erf, or the approximation through tanh), reglu, glu.
 */
export type GateActivation = 'silu' | 'gelu' | 'geluTanh' | 'relu' | 'sigmoid';
/** Options of `gatedLinear`. */
export interface GatedLinearOptions {
  /** Of the gate; default 'silu'. */
  activation?: GateActivation;
  /** [n]; [2n], gate over up, without `upWeight`. Default none. */
  gateBias?: Tensor | null;
  /** [n]; default none. */
  upBias?: Tensor | null;
}

type Weight = Tensor | QuantizedTensor;
type Gate = (gate: Tensor, up: Tensor | undefined) => Tensor;
const gateBy =
  (act: (x: Tensor) => Tensor): Gate =>
  (gate, up) =>
    gated(gate, up, gate.shape.at(-1)! / (up ? 1 : 2), act).y;
const gates: ReadonlyMap<unknown, Gate> = new Map<GateActivation, Gate>([
  ['silu', swiglu],
  ['gelu', (gate, up) => geglu(gate, up)],
  ['geluTanh', (gate, up) => geglu(gate, up, { approximate: 'tanh' })],
  ['relu', gateBy(relu)],
  ['sigmoid', gateBy(sigmoid)],
]);

const OP = 'gatedLinear';
/**
 * The shape of a weight, and of the bias that belongs to it.
 *
 * @throws FOVEA_SHAPE unless they fit x, whose width is `k`
 */
function checkLayer(name: string, weight: Weight, bias: Tensor | null | undefined, k: number): readonly number[] {
  const { shape } = weight instanceof QuantizedTensor ? weight : slotOf(weight, OP, `${name}Weight`);
  if (shape.length !== 2 || shape[1] !== k)
    throw shapeError(OP, `x [...,${k}] needs a ${name}Weight [n,${k}], received [${shape.join(',')}]`);
  if (!bias) return shape;
  const { shape: of } = slotOf(bias, OP, `${name}Bias`);
  if (of.length !== 1 || of[0] !== shape[0])
    throw shapeError(
      OP,
      `the ${name}Weight [${shape.join(',')}] needs a ${name}Bias [${shape[0]}], received [${of.join(',')}]`,
    );
  return shape;
}

interface Layers {
  readonly gateWeight: Weight;
  readonly upWeight: Weight | null | undefined;
  readonly gateBias: Tensor | null | undefined;
  readonly upBias: Tensor | null | undefined;
}
function checkLayers(x: Tensor, { gateWeight, upWeight, gateBias, upBias }: Layers): void {
  const k = slotOf(x, OP, 'x').shape.at(-1);
  if (k === undefined) throw shapeError(OP, 'expected x [...,k], received a 0-d tensor');
  const gate = checkLayer('gate', gateWeight, gateBias, k);
  if (upWeight) {
    const up = checkLayer('up', upWeight, upBias, k);
    if (up[0] !== gate[0])
      throw shapeError(
        OP,
        `the gateWeight [${gate.join(',')}] needs an upWeight of its shape, received [${up.join(',')}]`,
      );
    return;
  }
  if (upBias) throw argumentError(OP, 'upBias', 'nothing without an upWeight', upBias, 'put both into gateBias [2n]');
  if (gate[0]! % 2)
    throw shapeError(OP, `without an upWeight, expected a gateWeight [2n,k], received [${gate.join(',')}]`);
}

/**
 * act(x gateWeight^T + gateBias) (x upWeight^T + upBias), over the last axis of `x`. The gate comes first where both
 * are in one weight, as in `swiglu` and `geglu`; in PyTorch's `glu` it comes second.
 *
 * @param x [..., k]; floats
 * @param gateWeight [n, k]; [2n, k], the rows of the gate over those of up, without `upWeight`
 * @param upWeight [n, k]; none: it is in `gateWeight`
 * @returns [..., n], in the dtype that all promote to, under `autocast` in its; of quantised weights, in that of `x`
 * @throws FOVEA_SHAPE if the sizes do not fit or [2n, k] has an odd number of rows, FOVEA_DTYPE unless they promote to
 *   floats, FOVEA_ARGUMENT for an activation that is not known, or an `upBias` without `upWeight`
 */
export function gatedLinear(
  x: Tensor,
  gateWeight: Tensor | QuantizedTensor,
  upWeight?: Tensor | QuantizedTensor | null,
  options?: GatedLinearOptions,
): Tensor {
  const { activation = 'silu', gateBias, upBias } = optionsArg(OP, options, ['activation', 'gateBias', 'upBias']);
  checkLayers(x, { gateWeight, upWeight, gateBias, upBias });
  const act = gates.get(activation);
  if (!act) throw argumentError(OP, 'activation', "'silu', 'gelu', 'geluTanh', 'relu' or 'sigmoid'", activation);
  const given = [x, gateWeight, upWeight, gateBias, upBias];
  const code = lowered(resultType(given.filter((t) => t && !(t instanceof QuantizedTensor)) as Tensor[]));
  if (!isFloat(code))
    throw new FoveaError(
      'FOVEA_DTYPE',
      `${OP}: expected floats, received ${dtypeNames[code]}; convert x with .to('float32')`,
    );
  const rows = toLowered(x, code);
  const half = (weight: Weight, bias: Tensor | null | undefined): Tensor =>
    linear(rows, weight instanceof QuantizedTensor ? weight : toLowered(weight, code), bias && toLowered(bias, code));
  const gate = half(gateWeight, gateBias);
  const up = upWeight ? half(upWeight, upBias) : undefined;
  const y = act(gate, up);
  if (!y.tracked) for (const t of [gate, up]) t?.dispose();
  return y;
}
