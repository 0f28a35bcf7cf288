#include "binding/windows.h"

#include <algorithm>

#include "core/check.h"

namespace fovea {

uint16_t Windows::add(View& view, int axis, Window window) {
  constexpr size_t kMost = UINT16_MAX;
  if (windows_.size() == kMost) fail("FOVEA_UNSUPPORTED", "record: a step has at most ", kMost, " windows");
  window.stride = view.strides[axis], window.now = window.grows ? window.length : window.start;
  windows_.push_back(window);
  view.window = uint16_t(windows_.size()), view.grows = window.grows ? uint8_t(axis + 1) : 0;
  return view.window;
}

// Of two axes with one stride, one would reach over the elements of the other, unless its length is 1.
bool Windows::follow(const View& base, View& made) const {
  made.window = base.window;
  if (!base.grows) return true;
  int64_t length = base.shape[base.grows - 1], stride = base.strides[base.grows - 1];
  for (int axis = 0; axis < made.rank; axis++)
    if (made.shape[axis] == length && made.strides[axis] == stride) return made.grows = uint8_t(axis + 1), true;
  return false;
}

bool Windows::grows(const OpCall& call, bool& fits) const {
  View longer[Registry::kMaxInputs], out[Registry::kMaxOutputs];
  int64_t length = 0;
  fits = true;
  for (size_t i = 0; i < call.inputs.size(); i++) {
    const View& view = call.inputs[i];
    bool window = view.present() && view.window;
    if (window && call.op.many) fits = false;
    if (call.op.many) continue;
    longer[i] = view;
    if (!window || !view.grows) continue;
    int axis = view.grows - 1;
    fits &= axis < view.rank && view.shape[axis] == of(view).now && view.strides[axis] == of(view).stride;
    fits &= length == 0 || length == of(view).now;
    length = of(view).now, longer[i].shape[axis]++;
  }
  if (length == 0 || !fits) return length > 0;
  try {
    call.op.rule.apply({longer, call.inputs.size()}, {out, call.outputs.size()}, call.attrs);
  } catch (const Error&) { fits = false; }
  for (size_t i = 0; i < call.outputs.size() && fits; i++)
    fits = out[i].rank == call.outputs[i].rank &&
           std::equal(out[i].shape, out[i].shape + out[i].rank, call.outputs[i].shape);
  return true;
}

void Windows::set(uint16_t number, double value) {
  Window& window = windows_[number - 1];
  int64_t least = window.grows ? 1 : 0, most = window.grows ? window.size : window.size - window.length;
  if (!(value >= double(least) && value <= double(most)) || value != double(int64_t(value)))
    fail("FOVEA_ARGUMENT", "replay: a window of a tensor with ", window.size, " positions cannot ",
         window.grows ? "have a length of " : "start at ", value);
  window.now = int64_t(value);
}

View Windows::placed(View view) const {
  const Window& window = of(view);
  if (view.grows) view.shape[view.grows - 1] = window.now;
  else if (!window.grows) view.data += (window.now - window.start) * window.stride * int64_t(bytes_of(view.dtype));
  return view;
}

}  // namespace fovea
