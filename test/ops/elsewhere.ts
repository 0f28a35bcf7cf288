// Exported functions whose results are not a function of tensors alone, and the suite that covers each.
const creation = 'creation.test.ts';
const random = 'random.test.ts';
export const elsewhere: Record<string, string> = {
  ...Object.fromEntries(
    [
      'tensor',
      'empty',
      'emptyLike',
      'zeros',
      'zerosLike',
      'ones',
      'onesLike',
      'full',
      'fullLike',
      'arange',
      'linspace',
      'eye',
      'to',
      'float',
      'double',
      'half',
      'bfloat16',
      'int',
      'long',
      'bool',
    ].map((name) => [name, creation]),
  ),
  ...Object.fromEntries(
    [
      'manualSeed',
      'Generator',
      'defaultGenerator',
      'rand',
      'randn',
      'randint',
      'randperm',
      'bernoulli',
      'multinomial',
      'dropout',
      'uniform_',
      'normal_',
    ].map((name) => [name, random]),
  ),
  nonzero: 'data-dependent.test.ts',
  maskedSelect: 'data-dependent.test.ts',
  indexPut_: 'in-place.test.ts',
  QuantizedTensor: 'quantized.test.ts',
};
