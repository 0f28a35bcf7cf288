// Windows: views of which a part is a number of every replay, such as the place where a step writes into a cache and
// how much of the cache it reads.
//   moving    always as long, from `start` on, which is the number
//   growing   always from the same element on, as long as the number says
// Views carry the window that they show (View::window), and views of them, too.
#pragma once
#include <vector>

#include "binding/op_command.h"

namespace fovea {

struct Window {
  bool grows;
  int64_t start;         // of the axis, when it was recorded; a growing one has 0
  int64_t length, size;  // of the view and of the whole axis
  int64_t stride = 0;    // of the axis
  int64_t now = 0;       // the number
};

class Windows {
 public:
  // Makes the view show a new window; gives its number from 1.
  uint16_t add(View& view, int axis, Window window);
  // Makes `made`, a view of `base`, show what `base` shows. Whether it can: what grows needs its axis.
  bool follow(const View& base, View& made) const;
  // Whether some input grows. `fits` tells whether the op gives the same shapes then.
  bool grows(const OpCall& call, bool& fits) const;

  // Throws FOVEA_ARGUMENT for a number that leaves the axis.
  void set(uint16_t window, double number);
  // The recorded view as it is now.
  View placed(View recorded) const;

 private:
  const Window& of(const View& view) const { return windows_[view.window - 1]; }
  std::vector<Window> windows_;
};

}  // namespace fovea
