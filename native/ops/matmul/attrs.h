#pragma once
#include "core/attrs.h"

namespace fovea {

// What is done to a finished element, by the codes of the attribute.
enum class MatmulActivation : int64_t { none, gelu, gelu_tanh, relu, silu };

struct MatmulAttrs {
  double alpha = 1, beta = 1;  // c = activation(alpha a b + beta bias) + residual
  int64_t activation = 0;  // 0: none; 1: gelu, through erf; 2: gelu, its approximation through tanh; 3: relu; 4: silu
  FOVEA_ATTRS(MatmulAttrs, FOVEA_ATTR(MatmulAttrs, alpha), FOVEA_ATTR(MatmulAttrs, beta),
              FOVEA_ATTR(MatmulAttrs, activation))
};

struct PackAttrs {
  int64_t size = 0;  // elements of the result: k and n each rounded up to 32, multiplied
  FOVEA_ATTRS(PackAttrs, FOVEA_ATTR(PackAttrs, size))
};

}  // namespace fovea
