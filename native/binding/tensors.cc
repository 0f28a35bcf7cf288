// The functions that JavaScript calls all the time. Arguments are plain numbers and handles; shapes travel through the
// shared scratch array.
#include <cstring>

#include "binding/arguments.h"
#include "binding/holds.h"

namespace fovea {

View Arguments::shape(Runtime& runtime, size_t rank_argument, Dtype dtype, bool with_strides) const {
  constexpr double kMost = 9007199254740992.0;  // 2^53
  double rank = real(rank_argument, "the number of axes");
  if (!(rank >= 0 && rank <= kMaxRank) || rank != std::floor(rank))
    fail("FOVEA_SHAPE", function, ": a tensor has 0 to ", kMaxRank, " axes, not ", rank, "; merge axes with reshape()");
  View view;
  view.rank = int(rank), view.dtype = dtype;
  for (int i = 0; i < view.rank; i++) {
    double n = runtime.scratch[i], stride = with_strides ? runtime.scratch[view.rank + i] : 0;
    if (!(n >= 0 && n <= kMost) || n != std::floor(n))
      fail("FOVEA_SHAPE", function, ": axis ", i, " of the shape is ", n, "; expected a whole number of at least 0");
    if (!(std::fabs(stride) <= kMost) || stride != std::floor(stride))
      fail("FOVEA_SHAPE", function, ": stride ", i, " is ", stride, "; expected a whole number");
    view.shape[i] = int64_t(n), view.strides[i] = int64_t(stride);
  }
  dense_bytes(view, function);
  if (!with_strides) view.make_contiguous_strides();
  return view;
}

namespace {

// Fills an op's attributes from the arguments behind `at`; undefined leaves the default.
void read_attrs(const Op& op, const Arguments& args, size_t at, std::byte* attrs) {
  op.default_attrs(attrs);
  for (int i = 0; i < op.attrs.count; i++, at++) {
    const AttrField& field = op.attrs.first[i];
    if (args.type(at) == napi_undefined) continue;
    std::byte* to = attrs + field.offset;
    switch (field.type) {
      case AttrField::Type::boolean: *reinterpret_cast<bool*>(to) = args.boolean(at); break;
      case AttrField::Type::integer: *reinterpret_cast<int64_t*>(to) = args.whole(at); break;
      case AttrField::Type::real: *reinterpret_cast<double*>(to) = args.real(at); break;
      case AttrField::Type::dtype: *reinterpret_cast<Dtype*>(to) = args.dtype(at); break;
    }
  }
}

const Op& op_of(const Arguments& args, bool many) {
  size_t index = args.size(0);
  auto& ops = registry().ops();
  if (index >= ops.size())
    fail("FOVEA_ARGUMENT", args.function, ": there is no op ", index, "; describe() lists ", ops.size());
  const Op& op = *ops[index];
  if (op.many != many)
    fail("FOVEA_ARGUMENT", args.function, ": ", op.name, " is called through ", op.many ? "runMany" : "run");
  return op;
}

View input_of(Runtime& runtime, const Op& op, size_t i, int32_t handle) {
  if (handle == 0 && op.rule.inputs()[i].optional) return {};
  return runtime.slots.at(handle).view;
}

napi_value finish(Runtime& runtime, Arguments& args, const Op& op, std::span<View> inputs, size_t at) {
  size_t outputs = op.rule.outputs().size();
  napi_value owners[Registry::kMaxOutputs];
  for (size_t i = 0; i < outputs; i++) owners[i] = args.owner(1 + i);
  alignas(16) std::byte attrs[Registry::kMaxAttrBytes];
  read_attrs(op, args, at, attrs);
  int32_t handles[Registry::kMaxOutputs] = {};
  runtime.run_op(op, inputs, attrs, {owners, outputs}, handles);
  for (size_t i = 1; i < outputs; i++) runtime.scratch[i] = handles[i];
  return integer(args.env, handles[0]);
}

// run(op, owner of each output..., handle of each input (0: absent)..., attribute...) -> handle of output 0
napi_value run(Runtime& runtime, Arguments& args) {
  const Op& op = op_of(args, false);
  size_t at = 1 + op.rule.outputs().size(), inputs = op.rule.inputs().size();
  View views[Registry::kMaxInputs];
  for (size_t i = 0; i < inputs; i++, at++) views[i] = input_of(runtime, op, i, args.handle(at));
  return finish(runtime, args, op, {views, inputs}, at);
}

// runMany(op, owners..., Int32Array of handles, tuple after tuple, attribute...) -> handle of output 0
napi_value run_many(Runtime& runtime, Arguments& args) {
  const Op& op = op_of(args, true);
  size_t at = 1 + op.rule.outputs().size(), width = op.rule.inputs().size(), length = 0;
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  if (napi_get_typedarray_info(args.env, args.at(at, "an Int32Array of handles"), &type, &length, &data, nullptr,
                               nullptr) != napi_ok ||
      type != napi_int32_array)
    args.refuse(at, "an Int32Array of handles");
  if (length % width) args.refuse(at, "an Int32Array with ", width, " handles for each entry of the list");
  std::vector<View> views(length);
  for (size_t i = 0; i < length; i++) views[i] = input_of(runtime, op, i % width, static_cast<const int32_t*>(data)[i]);
  return finish(runtime, args, op, views, at + 1);
}

// empty(owner, dtype, rank, device), shape in scratch
napi_value empty(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  Place& place = args.place(runtime, 3);
  return integer(args.env, runtime.empty(owner, args.shape(runtime, 2, args.dtype(1)), place));
}

struct HostBytes {
  const void* data = nullptr;
  size_t bytes = 0;
};

HostBytes bytes_of_view(const Arguments& args, size_t i) {
  constexpr size_t kWidths[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};  // by napi_typedarray_type
  constexpr const char* kExpected = "a typed array or a DataView";
  napi_value value = args.at(i, kExpected);
  bool typed = false, view = false;
  must(napi_is_typedarray(args.env, value, &typed));
  must(napi_is_dataview(args.env, value, &view));
  void* data = nullptr;
  size_t length = 0;
  if (view) {
    must(napi_get_dataview_info(args.env, value, &length, &data, nullptr, nullptr));
    return {data, length};
  }
  if (!typed) args.refuse(i, kExpected);
  auto type = napi_typedarray_type(-1);  // stays so for an array type that this version of Node-API does not know
  must(napi_get_typedarray_info(args.env, value, &type, &length, &data, nullptr, nullptr));
  if (int(type) < 0 || size_t(type) >= std::size(kWidths))
    args.refuse(i, "an array of a known type; pass its bits as a Uint16Array");
  return {data, length * kWidths[type]};
}

// upload(owner, typed array, dtype, rank), shape in scratch
napi_value upload(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  HostBytes host = bytes_of_view(args, 1);
  View shape = args.shape(runtime, 3, args.dtype(2));
  size_t bytes = dense_bytes(shape, "tensor");
  if (host.bytes != bytes)
    fail("FOVEA_SHAPE", "tensor: data has ", host.bytes, " bytes, but ", to_string(shape), " of ", name_of(shape.dtype),
         " needs ", bytes, "; pass as many elements as the shape has");
  return integer(args.env, runtime.upload(owner, shape, host.data));
}

// transfer(owner, handle, device): a copy there
napi_value transfer(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  return integer(args.env, runtime.transfer(owner, args.handle(1), args.place(runtime, 2)));
}

// view(owner, handle, rank, offset), shape and strides in scratch: another window of the same block
napi_value view(Runtime& runtime, Arguments& args) {
  napi_value owner = args.owner(0);
  View base = runtime.slots.at(args.handle(1)).view, made = args.shape(runtime, 2, base.dtype, true);
  int64_t offset = args.whole(3), width = int64_t(bytes_of(base.dtype));
  __int128 first = (base.data - base.block->data) / width + __int128(offset), low = first, high = first;
  bool any = true;
  for (int i = 0; i < made.rank; i++) {
    any &= made.shape[i] > 0;
    (made.strides[i] < 0 ? low : high) += __int128(made.shape[i] - 1) * made.strides[i];
  }
  if (!any) offset = 0;
  else if (low < 0 || (high + 1) * width > __int128(base.block->size))
    fail("FOVEA_INDEX", "view: ", to_string(made), " from element ", offset, " reaches outside of its tensor ",
         to_string(base));
  made.data = base.data + offset * width, made.block = base.block;
  runtime.follow_window(base, made);
  Holds holds(runtime);
  holds.add(base.block);
  return integer(args.env, runtime.add_view(owner, made));
}

// inspect(handle) -> rank; scratch: [shape..., strides..., dtype, device]
napi_value inspect(Runtime& runtime, Arguments& args) {
  const View& v = runtime.slots.at(args.handle(0)).view;
  for (int i = 0; i < v.rank; i++)
    runtime.scratch[i] = double(v.shape[i]), runtime.scratch[v.rank + i] = double(v.strides[i]);
  runtime.scratch[2 * v.rank] = double(v.dtype), runtime.scratch[2 * v.rank + 1] = v.block->device;
  return integer(args.env, v.rank);
}

napi_value free_handle(Runtime& runtime, Arguments& args) {
  runtime.free(args.handle(0));
  return nullptr;
}
napi_value read(Runtime& runtime, Arguments& args) { return runtime.read(args.handle(0)); }
napi_value read_now(Runtime& runtime, Arguments& args) { return runtime.read_now(args.handle(0)); }
napi_value synchronize(Runtime& runtime, Arguments& args) { return runtime.synchronize(args.place(runtime, 0)); }
napi_value synchronize_now(Runtime& runtime, Arguments& args) {
  Stream& stream = args.place(runtime, 0).stream();
  stream.wait(stream.queued());
  return nullptr;
}
napi_value scratch(Runtime& runtime, Arguments&) { return runtime.scratch_array(); }

}  // namespace

void export_tensors(Exports& exports) {
  exports.add("run", entry<run>);
  exports.add("runMany", entry<run_many>);
  exports.add("empty", entry<empty>);
  exports.add("upload", entry<upload>);
  exports.add("transfer", entry<transfer>);
  exports.add("view", entry<view>);
  exports.add("inspect", entry<inspect>);
  exports.add("free", entry<free_handle>);
  exports.add("read", entry<read>);
  exports.add("readNow", entry<read_now>);
  exports.add("synchronize", entry<synchronize>);
  exports.add("synchronizeNow", entry<synchronize_now>);
  exports.add("scratch", entry<scratch>);
}

}  // namespace fovea
