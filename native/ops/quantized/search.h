// Scales of K-quants, searched: among some twenty ways to scale a sub-block to its integers the one of least squared
// error, its scale (and minimum) fitted by least squares to the integers that it gives. C channels are searched at
// once, a lane each. Where ggml weighs errors by the size of the weights, all count alike here.
#pragma once
#include "ops/quantized/layout.h"

namespace fovea {

template <int C>
using Lanes = float[C];

// To the nearest, ties to even, for |x| < 2^22.
FOVEA_INLINE float nearest(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }
// NaN becomes `low`, so that the result can always be made an integer.
FOVEA_INLINE float clamp_float(float x, float low, float high) { return x > low ? (x < high ? x : high) : low; }

// x ~ scale q + minimum with q in [0, 15], scale >= 0 and minimum <= 0, for x[32].
template <int C>
FOVEA_INLINE void search_affine(const float (*x)[C], float (&scale)[C], float (&minimum)[C]) {
  Lanes<C> low, high, best, sum_x = {};
  for (int64_t c = 0; c < C; c++) low[c] = 0, high[c] = x[0][c];
  for (int64_t i = 0; i < 32; i++)
    for (int64_t c = 0; c < C; c++) {
      low[c] = x[i][c] < low[c] ? x[i][c] : low[c], high[c] = x[i][c] > high[c] ? x[i][c] : high[c];
      sum_x[c] += x[i][c];
    }
  for (int64_t c = 0; c < C; c++) {
    scale[c] = high[c] > low[c] ? (high[c] - low[c]) / 15 : 0;
    minimum[c] = low[c], best[c] = 0x1p127f;
  }
  for (int step = -10; step <= 10; step++) {
    Lanes<C> inverse, sum_q = {}, sum_qq = {}, sum_qx = {}, error = {}, fitted_scale, fitted_minimum;
    for (int64_t c = 0; c < C; c++) inverse[c] = high[c] > low[c] ? (15 + 0.1f * float(step)) / (high[c] - low[c]) : 0;
    for (int64_t i = 0; i < 32; i++)
      for (int64_t c = 0; c < C; c++) {
        float q = nearest(clamp_float(inverse[c] * (x[i][c] - low[c]), 0, 15));
        sum_q[c] += q, sum_qq[c] += q * q, sum_qx[c] += q * x[i][c];
      }
    for (int64_t c = 0; c < C; c++) {
      float determinant = 32 * sum_qq[c] - sum_q[c] * sum_q[c];
      float slope = (32 * sum_qx[c] - sum_q[c] * sum_x[c]) / determinant;
      float offset = (sum_qq[c] * sum_x[c] - sum_q[c] * sum_qx[c]) / determinant;
      float through_zero = sum_qx[c] / sum_qq[c];
      fitted_scale[c] = offset > 0 ? through_zero : slope;
      fitted_minimum[c] = offset > 0 ? 0 : offset;
    }
    for (int64_t i = 0; i < 32; i++)
      for (int64_t c = 0; c < C; c++) {
        float q = nearest(clamp_float(inverse[c] * (x[i][c] - low[c]), 0, 15));
        float off = fitted_scale[c] * q + fitted_minimum[c] - x[i][c];
        error[c] += off * off;
      }
    for (int64_t c = 0; c < C; c++) {
      bool better = error[c] < best[c] && fitted_scale[c] >= 0;  // false for the NaN of equal x
      best[c] = better ? error[c] : best[c];
      scale[c] = better ? fitted_scale[c] : scale[c];
      minimum[c] = better ? fitted_minimum[c] : minimum[c];
    }
  }
}

// x ~ scale q with q in [-32, 31], for x[16]; the scale has the sign that gives the largest |x| the longer side.
template <int C>
FOVEA_INLINE void search_symmetric(const float (*x)[C], float (&scale)[C]) {
  Lanes<C> top = {}, best = {};
  for (int64_t i = 0; i < 16; i++)
    for (int64_t c = 0; c < C; c++) top[c] = __builtin_fabsf(x[i][c]) > __builtin_fabsf(top[c]) ? x[i][c] : top[c];
  for (int64_t c = 0; c < C; c++) scale[c] = 0;
  for (int step = -9; step <= 9; step++) {
    Lanes<C> inverse, sum_qq = {}, sum_qx = {};
    for (int64_t c = 0; c < C; c++) inverse[c] = -(32 + 0.1f * float(step)) / top[c];
    for (int64_t i = 0; i < 16; i++)
      for (int64_t c = 0; c < C; c++) {
        float q = nearest(clamp_float(inverse[c] * x[i][c], -32, 31));
        sum_qq[c] += q * q, sum_qx[c] += q * x[i][c];
      }
    // The error is sum x^2 - (sum q x)^2 / sum q^2.
    for (int64_t c = 0; c < C; c++) {
      float fitted = sum_qx[c] / sum_qq[c], gain = fitted * sum_qx[c];
      bool better = gain > best[c];
      best[c] = better ? gain : best[c];
      scale[c] = better ? fitted : scale[c];
    }
  }
}

}  // namespace fovea
