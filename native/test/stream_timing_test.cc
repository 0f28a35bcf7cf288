// When a stream says that its commands ran.
#include <chrono>
#include <thread>
#include <vector>

#include "core/cpu_stream.h"
#include "test/harness.h"

namespace fovea {
namespace {

struct Nap : Command {
  int microseconds;
};
uint64_t nap(Stream& stream, int microseconds) {
  auto& c = stream.reserve<Nap>();
  c.microseconds = microseconds;
  c.run = [](Command& command, Stream&) {
    std::this_thread::sleep_for(std::chrono::microseconds(static_cast<Nap&>(command).microseconds));
  };
  return stream.publish();
}

FOVEA_TEST(stream_times_what_is_queued_from_start_to_stop) {
  CpuStream stream([] {}, [] { return false; });
  for (int round = 0; round < 3; round++) {
    nap(stream, 300);  // still running when timing starts
    uint64_t from = stream.queued();
    stream.start_timing();
    int64_t start = clock_ns();
    std::vector<uint64_t> positions;
    for (int i = 0; i < 50; i++) positions.push_back(nap(stream, 10 * (i % 5)));
    uint64_t until = stream.stop_timing();
    for (int i = 0; i < 5; i++) nap(stream, 0);  // after the end
    stream.wait(until);
    int64_t end = clock_ns();
    std::vector<Timing> timings;
    for (const Timing& timing : stream.timings())
      if (timing.position > from) timings.push_back(timing);
    FOVEA_CHECK(timings.size() == positions.size(), "%zu of %zu", timings.size(), positions.size());
    int wrong = 0;
    for (size_t i = 0; i < timings.size(); i++) {
      const Timing& t = timings[i];
      wrong += t.position != positions[i] || t.begin < start || t.end > end;
      wrong += t.end - t.begin < 10'000 * int64_t(i % 5);
      wrong += i > 0 && t.begin < timings[i - 1].end;
    }
    FOVEA_CHECK(wrong == 0, "%d", wrong);
    stream.wait(stream.queued());
  }
}

FOVEA_TEST(stream_times_nothing_otherwise) {
  CpuStream stream([] {}, [] { return false; });
  for (int i = 0; i < 100; i++) nap(stream, 0);
  stream.wait(stream.queued());
  FOVEA_CHECK(stream.timings().empty(), "%zu", stream.timings().size());
}

}  // namespace
}  // namespace fovea
