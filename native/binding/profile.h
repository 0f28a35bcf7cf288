// What is queued while a profile is taken, and when it runs: the streams time their commands (core/stream.h), and here
// are the ops that those belong to. Calls of one op on tensors of the same shapes and dtypes share a description.
#pragma once
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "binding/op_command.h"
#include "core/allocator.h"

namespace fovea {

class Place;

class Profile {
 public:
  struct Tensor {
    const char* name;
    std::vector<int64_t> shape;
    Dtype dtype;
    bool present, read, written;
    size_t bytes;  // in memory, where a view may repeat
  };
  struct Attribute {
    const char* name;
    int64_t value;
  };
  // What calls are described by.
  struct Kind {
    std::string name;
    std::vector<Tensor> inputs, outputs;
    std::vector<Attribute> attributes;  // whole numbers, but for counters of random numbers
    // What says which of its scores attention sees, if it could be held; `held_at` is behind the first call.
    View mask, pattern;
    uint64_t held_at = 0;
  };
  struct Call {
    uint32_t kind;
    uint8_t device;
    uint64_t position;
    int64_t begin, end;  // of queueing, as clock_ns()
    size_t live;         // bytes of the device's tensors
  };
  // What a stream has done of it.
  struct Watched {
    Place* place;
    uint64_t until = 0;
    size_t peak = 0, peak_before = 0;
  };

  explicit Profile(size_t most) : most_(most), started_(clock_ns()) {}

  // Times the stream from here on.
  void watch(Place& place);
  // The same for all streams; what is queued from now on does not count.
  void stop();
  bool stopped() const { return stopped_; }

  void note_op(const Stream& stream, const OpCall& call, int64_t begin, uint64_t position) noexcept;
  // A command that is no op, which brings bytes to or from where JavaScript or another device sees them.
  void note_copy(const Stream& stream, const char* name, size_t bytes, int64_t begin, uint64_t position) noexcept;

  int64_t started() const { return started_; }
  const std::deque<Call>& calls() const { return calls_; }
  std::deque<Kind>& kinds() { return kinds_; }
  std::span<const Watched> watched() const { return watched_; }
  // Calls that were not noted, since there were too many.
  size_t missed() const { return missed_; }

 private:
  template <class Make>
  void note(const Stream& stream, std::string key, int64_t begin, uint64_t position, Make&& make) noexcept;
  Watched& watched(const Stream& stream);
  void hold(View& view);

  const size_t most_;
  const int64_t started_;
  bool stopped_ = false;
  size_t missed_ = 0, held_ = 0;
  std::vector<Watched> watched_;
  std::deque<Call> calls_;
  std::deque<Kind> kinds_;
  std::unordered_map<std::string, uint32_t> kind_of_;
};

}  // namespace fovea
