#pragma once
#include "core/attrs.h"

namespace fovea {

struct ProbeAttrs {
  int64_t rounds = 1, chunks = 1;
  FOVEA_ATTRS(ProbeAttrs, FOVEA_ATTR(ProbeAttrs, rounds), FOVEA_ATTR(ProbeAttrs, chunks))
};
struct ReadProbeAttrs {
  int64_t chunks = 1, streams = 1;  // streams: 1, 2, 4 or 8 places of a chunk that are read in turn
  bool ahead = false;               // whether to prefetch
  FOVEA_ATTRS(ReadProbeAttrs, FOVEA_ATTR(ReadProbeAttrs, chunks), FOVEA_ATTR(ReadProbeAttrs, streams),
              FOVEA_ATTR(ReadProbeAttrs, ahead))
};

}  // namespace fovea
