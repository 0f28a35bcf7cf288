// Work of an engine that runs beside the threads.
#pragma once
#include <cstddef>
#include <functional>
#include <vector>

namespace fovea::emulator {

using Job = std::function<void()>;

// Jobs in groups that are waited for together. A job is done at once or not before somebody waits for it, as the coin
// falls: the first meets data that is not there yet, the second overwrites or is overwritten.
class JobQueue {
 public:
  // `ordered`: never before an earlier one.
  void add(Job job, bool ordered);
  void commit();
  // Until at most `groups` committed groups are left; what has not been committed stays.
  void wait(size_t groups);
  void finish();  // all of them
  bool pending() const { return !open_.empty() || !committed_.empty(); }

 private:
  std::vector<std::vector<Job>> committed_;
  std::vector<Job> open_;
  size_t deferred_ = 0;
};

}  // namespace fovea::emulator
