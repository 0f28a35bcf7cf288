// The pointwise part of recurrent cells, behind the products of a step: x comes from its input, `hidden` from the state
// before it. Gates lie side by side along the last axis, in PyTorch's order.
//
//   lstmCell (Hochreiter & Schmidhuber 1997; Gers et al. 2000), gates i f g o of x + hidden:
//     cNew = sigma(f) c + sigma(i) tanh(g)     h = sigma(o) tanh(cNew)
//   gruCell (Cho et al. 2014, https://arxiv.org/abs/1406.1078), gates r z n:
//     r, z = sigma(x + hidden)     m = tanh(x_n + r hidden_n)     hNew = m + z (h - m)
//
// Backward takes what forward was given and computes the gates again. It writes the gradients where the caller wants
// them, so that those of all steps lie together; dx of lstmCell is that of `hidden`, too.
#include "core/registry.h"
#include "ops/families.h"

namespace fovea {

void declare_rnn(Registry& r) {
  r.add("lstmCell", "x:... g, hidden?:... g, c:... n -> h:... n, cNew:... n", "T T T -> T T | T: float")
      .with(Layout::dense);
  r.add("lstmCellBackward_", "x:... g, hidden?:... g, c:... n, dh?:... n, dcNew?:... n, dx!:... g, dc!:... n ->",
        "T T T T T T T -> | T: float")
      .with(Layout::dense)
      .overwriting();
  r.add("gruCell", "x:... g, hidden:... g, h:... n -> hNew:... n", "T T T -> T | T: float").with(Layout::dense);
  r.add("gruCellBackward_", "x:... g, hidden:... g, h:... n, dhNew:... n, dx!:... g, dhidden!:... g, dh!:... n ->",
        "T T T T T T T -> | T: float")
      .with(Layout::dense)
      .overwriting();
}

}  // namespace fovea
