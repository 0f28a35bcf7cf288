#include "binding/command_list.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "binding/op_record.h"
#include "core/check.h"

namespace fovea {
namespace {

// ---- random counters

struct Counters {
  std::byte *seed = nullptr, *offset = nullptr;
};
// Those in the attributes of an op that takes random numbers; of others, nothing.
Counters counters_of(OpCommand& c) {
  Counters found;
  for (int i = 0; i < c.op->attrs.count; i++) {
    const AttrField& field = c.op->attrs.first[i];
    if (std::strcmp(field.name, "seed") == 0) found.seed = c.attrs() + field.offset;
    if (std::strcmp(field.name, "offset") == 0) found.offset = c.attrs() + field.offset;
  }
  return found.seed && found.offset ? found : Counters{};
}
int64_t counter_at(const std::byte* from) {
  int64_t value = 0;
  std::memcpy(&value, from, sizeof value);
  return value;
}
void set_counter(std::byte* to, double value) {
  auto counter = int64_t(value);
  std::memcpy(to, &counter, sizeof counter);
}

}  // namespace

CommandList::~CommandList() {
  for (const Entry& entry : entries_)
    if (entry.op) discard_op(reinterpret_cast<OpCommand&>(lines_[entry.line]));
}

OpCommand& CommandList::op_at(size_t entry) { return reinterpret_cast<OpCommand&>(lines_[entries_[entry].line]); }

void* CommandList::room(size_t bytes) {
  size_t line = lines_.size();
  lines_.resize(line + (bytes + sizeof(Line) - 1) / sizeof(Line));
  return &lines_[line];
}

void CommandList::add(Stream& stream, size_t line, size_t bytes, bool op) {
  entries_.push_back({&stream, line, uint32_t(bytes), op});
}

void CommandList::add_op(Stream& stream, const OpCall& call) {
  size_t line = lines_.size(), bytes = record_bytes(call);
  write_record(*new (room(bytes)) OpCommand, call);
  add(stream, line, bytes, true);
  note_windows(call);
}

// Where the op's windows lie in its command.
void CommandList::note_windows(const OpCall& call) {
  size_t entry = entries_.size() - 1, at = sizeof(OpCommand) + attr_room(call.op);
  bool grows = false;
  for (const View& view : call.inputs) {
    if (call.op.many) break;
    if (view.present() && view.window) placed_.push_back({entry, at, view}), grows |= view.grows != 0;
    at += packed_bytes(view);
  }
  if (grows) grown_.push_back({entry, call.workspace ? call.workspace->bytes : 0});
}

void CommandList::place_windows() {
  int64_t length = 0;
  for (size_t i = 0; i < placed_.size(); i++) {
    const Placed& placed = placed_[i];
    View view = windows_.placed(placed.view);
    pack(view, lines_[entries_[placed.entry].line].bytes + placed.at);
    if (i == 0 || placed.entry != placed_[i - 1].entry) length = 0;
    if (!view.grows) continue;
    if (length != 0 && length != view.shape[view.grows - 1])
      fail("FOVEA_ARGUMENT", "replay: ", op_at(placed.entry).op->name, " takes windows of ", length, " and of ",
           view.shape[view.grows - 1], " positions; give them one length");
    length = view.shape[view.grows - 1];
  }
}

void CommandList::fit_workspaces(const Larger& larger) {
  for (Grown& grown : grown_) {
    OpCommand& c = op_at(grown.entry);
    CommandViews views(c);
    Block* block = larger(*c.op, views.in(), views.out(), c.attrs(), grown.bytes);
    if (block) c.workspace = block->data, grown.bytes = block->bytes;
  }
}

void CommandList::add_clear(Stream& stream, Block* block) {
  size_t line = lines_.size();
  write_clear(*new (room(sizeof(ClearCommand))) ClearCommand, block);
  add(stream, line, sizeof(ClearCommand), false);
}

void CommandList::vary(const std::string& op, std::span<const std::string> attributes) {
  size_t entry = entries_.size();
  while (entry > 0 && !(entries_[entry - 1].op && op_at(entry - 1).op->name == op)) entry--;
  if (entry == 0) fail("FOVEA_ARGUMENT", "recordVary: no ", op, " was recorded; run it before");
  const AttrFields& fields = op_at(entry - 1).op->attrs;
  for (const std::string& name : attributes) {
    auto found = std::find_if(fields.first, fields.first + fields.count,
                              [&](const AttrField& field) { return name == field.name; });
    if (found == fields.first + fields.count || found->type == AttrField::Type::dtype)
      fail("FOVEA_ARGUMENT", "recordVary: ", op, " has no attribute ", name, " that is a number or a boolean");
    numbers_.push_back({entry - 1, found, 0});
  }
}

void CommandList::add_window(View& view, int axis, const Window& window) {
  numbers_.push_back({0, nullptr, windows_.add(view, axis, window)});
}

void CommandList::set_numbers(std::span<const double> values) {
  for (size_t i = 0; i < numbers_.size(); i++) {
    if (numbers_[i].window) {
      windows_.set(numbers_[i].window, values[i]);
      continue;
    }
    const AttrField& field = *numbers_[i].field;
    std::byte* to = op_at(numbers_[i].entry).attrs() + field.offset;
    if (field.type != AttrField::Type::real && !(std::fabs(values[i]) <= 9007199254740992.0))
      fail("FOVEA_ARGUMENT", "replay: number ", i, " is ", values[i], "; ", field.name, " takes whole numbers");
    switch (field.type) {
      case AttrField::Type::boolean: *reinterpret_cast<bool*>(to) = values[i] != 0; break;
      case AttrField::Type::integer: set_counter(to, values[i]); break;
      default: std::memcpy(to, &values[i], sizeof values[i]);
    }
  }
  place_windows();
}

void CommandList::connect(std::span<const double> draws) {
  std::map<std::pair<int64_t, int64_t>, size_t> by_counters;
  for (size_t i = 0; i + 1 < draws.size(); i += 2)
    by_counters.emplace(std::pair(int64_t(draws[i]), int64_t(draws[i + 1])), i / 2);
  for (size_t i = 0; i < entries_.size() && !by_counters.empty(); i++) {
    if (!entries_[i].op) continue;
    Counters counters = counters_of(op_at(i));
    if (!counters.seed) continue;
    auto found = by_counters.find({counter_at(counters.seed), counter_at(counters.offset)});
    if (found != by_counters.end()) random_.push_back({i, found->second});
  }
}

void CommandList::redraw(std::span<const double> draws) {
  for (const Random& random : random_) {
    Counters counters = counters_of(op_at(random.entry));
    set_counter(counters.seed, draws[2 * random.draw]), set_counter(counters.offset, draws[2 * random.draw + 1]);
  }
}

void CommandList::queue(const Queued& queued) {
  for (size_t i = 0; i < entries_.size(); i++) {
    const Entry& entry = entries_[i];
    int64_t begin = queued ? clock_ns() : 0;
    Command& command = entry.stream->reserve<Command>(entry.bytes);
    std::memcpy(static_cast<void*>(&command), &lines_[entry.line], entry.bytes);
    if (entry.op) {
      auto& c = static_cast<OpCommand&>(command);
      if (c.many) c.many = new std::vector<View>(*c.many);
    }
    uint64_t position = entry.stream->publish();
    if (queued && entry.op) tell(queued, i, begin, position);
  }
}

void CommandList::tell(const Queued& queued, size_t entry, int64_t begin, uint64_t position) {
  OpCommand& c = op_at(entry);
  CommandViews views(c);
  auto span = [](Views list) { return std::span(list.begin(), list.end()); };
  OpCall call{*c.op, span(views.in()), span(views.out()), c.attrs(), nullptr, c.kernel};
  queued(*entries_[entry].stream, call, begin, position);
}

}  // namespace fovea
