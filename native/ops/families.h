// Every op family, one folder each. No static initialisers, so no order of initialisation to think about.
#pragma once

#define FOVEA_FAMILIES(F) \
  F(elementwise)          \
  F(gated)                \
  F(creation)             \
  F(reduce)               \
  F(matmul)               \
  F(softmax)              \
  F(norm)                 \
  F(loss)                 \
  F(attention)            \
  F(rope)                 \
  F(rnn)                  \
  F(conv)                 \
  F(pool)                 \
  F(indexing)             \
  F(sorting)              \
  F(random)               \
  F(sampling)             \
  F(optim)                \
  F(quantized)            \
  F(probe)                \
  F(faults)

// Those that have kernels of their own for the tile registers of AMX.
#define FOVEA_AMX_FAMILIES(F) \
  F(attention)                \
  F(matmul)                   \
  F(quantized)                \
  F(probe)

namespace fovea {
class Registry;
#define FOVEA_DECLARE(family) void declare_##family(Registry&);
FOVEA_FAMILIES(FOVEA_DECLARE)
#undef FOVEA_DECLARE
}  // namespace fovea
