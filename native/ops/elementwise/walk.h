// The tensors of an elementwise op, as axes that all operands share: their strides, and merging of axes that are one in
// memory. driver.h runs over it.
#pragma once
#include "core/view.h"
#include "cpu/simd.h"

namespace fovea::FOVEA_ISA {
namespace {

constexpr int kMaxOperands = 4;

struct Operand {
  std::byte* data = nullptr;  // nullptr: the scalar
  Dtype dtype = Dtype::f32;
  int64_t strides[kMaxRank] = {};
  double scalar = 0;
};

// operands[0] is written, the others are read.
struct Walk {
  int rank = 0, count = 0;
  int64_t shape[kMaxRank];
  Operand operands[kMaxOperands];
  bool in_place = false;

  void add(const View& v) {
    Operand& o = operands[count++];
    o.data = v.data, o.dtype = v.dtype;
    for (int i = 0; i < v.rank; i++) o.strides[i] = v.strides[i];
  }
  void add(double scalar) { operands[count++].scalar = scalar; }
  void add(const View& v, double otherwise) { v.present() ? add(v) : add(otherwise); }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
};

FOVEA_INLINE int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

// Leaves out axes of size 1, sorts axes by the strides of what is written, and merges neighbours that are one axis in
// memory.
void simplify(Walk& w) {
  int rank = 0;
  for (int i = 0; i < w.rank; i++) {
    if (w.shape[i] == 1) continue;
    int at = rank++;
    int64_t strides[kMaxOperands];
    for (int k = 0; k < w.count; k++) strides[k] = w.operands[k].strides[i];
    int64_t size = w.shape[i];
    for (; at > 0 && magnitude(w.operands[0].strides[at - 1]) < magnitude(strides[0]); at--) {
      w.shape[at] = w.shape[at - 1];
      for (int k = 0; k < w.count; k++) w.operands[k].strides[at] = w.operands[k].strides[at - 1];
    }
    w.shape[at] = size;
    for (int k = 0; k < w.count; k++) w.operands[k].strides[at] = strides[k];
  }
  int last = 0;
  for (int i = 1; i < rank; i++) {
    bool merges = true;
    for (int k = 0; k < w.count; k++) merges &= w.operands[k].strides[last] == w.operands[k].strides[i] * w.shape[i];
    if (!merges) last++;
    w.shape[last] = merges ? w.shape[last] * w.shape[i] : w.shape[i];
    for (int k = 0; k < w.count; k++) w.operands[k].strides[last] = w.operands[k].strides[i];
  }
  w.rank = rank ? last + 1 : 1;
  if (!rank) {
    w.shape[0] = 1;
    for (int k = 0; k < w.count; k++) w.operands[k].strides[0] = 1;
  }
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
