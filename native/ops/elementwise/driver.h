// Walks tensors of any strides and dtypes so that the functions proper only ever see dense rows of one type.
//
// Axes are merged where all operands allow it. Work is cut into blocks: pieces of a row, or, where rows are short, runs
// of elements across rows. An operand that is dense and of the row function's type is used in place; anything else
// passes through a buffer on the stack, which is small enough to stay in the first-level cache: gathered by its
// strides, converted, or filled with one value. Large results that nobody reads soon go to memory past the cache.
#pragma once
#include "core/kernel.h"
#include "ops/elementwise/convert.h"
#include "ops/elementwise/move.h"
#include "ops/elementwise/walk.h"

namespace fovea::FOVEA_ISA {
namespace {

// out[i] = f(in[0][i], in[1][i], ...) for dense rows. False: an element has no result (integer division by zero).
using Row = bool (*)(void* out, const void* const* in, int64_t n, const void* attrs);

struct RowFunction {
  Row row = nullptr;            // nullptr: out = in[0]
  Dtype in[3], out;             // types of the dense rows
  const char* error = nullptr;  // what to say if row returns false
  Row past_cache = nullptr;     // the same function, writing past the cache to memory that is aligned to a vector
};

constexpr int64_t kBlock = 512;     // elements of a buffer
constexpr int64_t kShortRow = 128;  // below this, blocks run across rows
constexpr int64_t kTileRow = 128,
                  kTileRows = 32;      // a transposed operand is gathered in tiles, so that whole cache lines are used
constexpr int64_t kAhead = 16;         // short rows that are fetched ahead, and
constexpr int64_t kPrefetchLine = 64;  // bytes that come with one fetch
constexpr int64_t kChunk = 32768;      // elements that one thread takes at a time
constexpr int64_t kStreamBytes = 8 << 20;  // outputs from this size on bypass the cache

FOVEA_INLINE bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % kVectorBytes == 0; }

// ---- the walk

// How one operand gets to or from its dense row.
struct Access {
  Convert convert;     // between dtype and row type, nullptr if they are the same
  Convert past_cache;  // the same, for what is written past the cache, or nullptr
  size_t width;        // bytes of an element in memory
  bool constant;       // the same value everywhere
  bool linear;         // row-major over the merged axes: element i lies at data + i
  bool direct;         // the row function uses memory itself
  int64_t period;      // all rows are the same, of this size, and blocks run across rows; else 0
};

struct Plan {
  const Walk& walk;
  const RowFunction& function;
  const void* attrs;
  Access access[kMaxOperands];
  int64_t inner, rows, block, blocks, pieces;  // pieces of a row, where blocks lie within rows
  bool across;                                 // blocks run across rows
  int tiled;  // the transposed operand, or 0; then consecutive blocks go down the rows instead of along one
  int64_t tile_rows = kTileRows;  // two cache lines at least
  bool stream;
  bool steady;  // from block to block, offsets of operands only grow by the block

  Plan(const Walk& w, const RowFunction& f, const void* attrs) : walk(w), function(f), attrs(attrs) {
    inner = w.shape[w.rank - 1], rows = w.size() / inner;
    tiled = transposed_operand();
    if (tiled && bytes_of(w.operands[tiled].dtype) == 2) tile_rows = 2 * kTileRows;
    across = inner < kShortRow && rows > 1 && !tiled;
    bool all_direct = true;
    steady = across;
    for (int k = 0; k < w.count; k++) {
      all_direct &= describe(k);
      steady &= access[k].linear || access[k].constant || access[k].period;
    }
    const Operand& out = w.operands[0];
    const Access& to = access[0];
    stream = to.linear && !w.in_place && w.size() * int64_t(to.width) >= kStreamBytes && aligned(out.data);
    // A row function that cannot stream writes to a buffer, which is streamed then.
    if (stream && f.row && !(f.past_cache && !to.convert)) access[0].direct = all_direct = false;
    block = all_direct ? kChunk : tiled ? kTileRow : kBlock;
    pieces = across ? 1 : (inner + block - 1) / block;
    blocks = across ? (w.size() + block - 1) / block : rows * pieces;
  }

 private:
  // The first that lies in memory along the last axis but one.
  int transposed_operand() const {
    if (walk.rank < 2 || inner < kTileRows) return 0;
    for (int k = 1; k < walk.count; k++) {
      const int64_t* strides = walk.operands[k].strides;
      if (walk.operands[k].data && strides[walk.rank - 2] == 1 && magnitude(strides[walk.rank - 1]) > kTileRows / 2)
        return k;
    }
    return 0;
  }
  bool describe(int k) {
    const Operand& o = walk.operands[k];
    Access& a = access[k];
    Dtype row_type = k ? function.in[k - 1] : function.out;
    a.width = bytes_of(o.dtype);
    a.convert = k ? converter(o.dtype, row_type) : converter(row_type, o.dtype);
    a.past_cache = nullptr;
    if (k == 0 && row_type == Dtype::f32 && bytes_of(o.dtype) == 2)
      a.past_cache = o.dtype == Dtype::bf16 ? narrow_past_cache<Bfloat16> : narrow_past_cache<Half>;
    a.constant = !o.data, a.linear = o.data, a.direct = false, a.period = 0;
    if (!o.data) return false;
    int64_t expected = 1, largest = 0;
    for (int i = walk.rank - 1; i >= 0; i--) {
      a.linear &= o.strides[i] == expected;
      expected *= walk.shape[i];
      if (magnitude(o.strides[i]) > largest) largest = magnitude(o.strides[i]);
    }
    a.constant = k && largest == 0;
    bool repeats = k && across && !a.constant;
    for (int i = 0; i < walk.rank - 1; i++) repeats &= o.strides[i] == 0;
    a.period = repeats ? inner : 0;
    int64_t step = o.strides[walk.rank - 1];
    a.direct = !a.convert && (across ? a.linear : step == 1);
    return a.direct;
  }
};

// Where a block starts: its offset in every operand, and its coordinates if it runs across rows.
struct Position {
  int64_t linear, count, tile_rows;  // rows from this one to the end of its tile
  int64_t at[kMaxRank];
  int64_t offset[kMaxOperands];
};

Position position_of(const Plan& p, int64_t block) {
  const Walk& w = p.walk;
  Position s;
  if (p.across) {
    s.linear = block * p.block;
    int64_t left = w.size() - s.linear;
    s.count = left < p.block ? left : p.block;
  } else {
    int64_t row, piece;
    if (p.tiled) {  // (outer axes, band of tile_rows rows, piece, row of the band)
      int64_t height = w.shape[w.rank - 2], outer = block / (height * p.pieces), rest = block % (height * p.pieces);
      int64_t band = rest / (p.tile_rows * p.pieces), left = height - band * p.tile_rows,
              band_rows = left < p.tile_rows ? left : p.tile_rows;
      rest -= band * p.tile_rows * p.pieces;
      row = outer * height + band * p.tile_rows + rest % band_rows, piece = rest / band_rows;
      s.tile_rows = band_rows - rest % band_rows;
    } else {
      row = block / p.pieces, piece = block % p.pieces;
    }
    s.linear = row * p.inner + piece * p.block;
    int64_t left = p.inner - piece * p.block;
    s.count = left < p.block ? left : p.block;
  }
  int64_t rest = s.linear;
  for (int k = 0; k < w.count; k++) s.offset[k] = 0;
  for (int i = w.rank - 1; i >= 0; i--) {
    s.at[i] = rest % w.shape[i], rest /= w.shape[i];
    for (int k = 0; k < w.count; k++) s.offset[k] += s.at[i] * w.operands[k].strides[i];
  }
  return s;
}

// From a block to the next one, without divisions where it lies in the same row or in the row after.
FOVEA_INLINE void advance(const Plan& p, Position& s, int64_t next_block) {
  const Walk& w = p.walk;
  int last = w.rank - 1, axis = last - 1;
  if (p.steady || (!p.across && !p.tiled && s.at[last] + p.block < p.inner)) {
    for (int k = 0; k < w.count; k++) s.offset[k] += p.block * (p.steady ? 1 : w.operands[k].strides[last]);
    s.linear += p.block, s.at[last] += p.block;
    int64_t left = p.steady ? w.size() - s.linear : p.inner - s.at[last];
    s.count = left < p.block ? left : p.block;
    return;
  }
  if (p.across || (p.tiled ? s.tile_rows == 1 : p.pieces > 1)) {
    s = position_of(p, next_block);
    return;
  }
  s.linear += p.inner, s.tile_rows--, s.at[axis]++;
  for (int k = 0; k < w.count; k++) s.offset[k] += w.operands[k].strides[axis];
  for (; axis > 0 && s.at[axis] == w.shape[axis]; axis--) {
    for (int k = 0; k < w.count; k++)
      s.offset[k] += w.operands[k].strides[axis - 1] - w.shape[axis] * w.operands[k].strides[axis];
    s.at[axis] = 0, s.at[axis - 1]++;
  }
}

// Elements of a block that may run across rows, between an operand's memory and a dense row.
template <class T, bool gathers>
void move_across(const Plan& p, const Position& s, int k, T* row) {
  const Walk& w = p.walk;
  const int64_t* strides = w.operands[k].strides;
  int64_t at[kMaxRank], offset = s.offset[k], last = w.rank - 1;
  for (int i = 0; i < w.rank; i++) at[i] = s.at[i];
  T* data = reinterpret_cast<T*>(w.operands[k].data);
  for (int64_t done = 0; done < s.count;) {
    int64_t left = s.count - done, n = w.shape[last] - at[last];
    if (n > left) n = left;
    int64_t step = strides[last];
    if (gathers && step == 1 && last > 0)
      for (int64_t i = 0; i < n; i += kPrefetchLine / int64_t(sizeof(T)))
        __builtin_prefetch(data + offset + kAhead * strides[last - 1] + i);  // never faults
    if constexpr (gathers) move_strided(data + offset, step, row + done, 1, n);
    else move_strided(row + done, 1, data + offset, step, n);
    done += n, at[last] += n, offset += n * step;
    for (int64_t i = last; i > 0 && at[i] == w.shape[i]; i--)
      offset += strides[i - 1] - w.shape[i] * strides[i], at[i] = 0, at[i - 1]++;
  }
}

struct Buffers {
  alignas(64) std::byte row[kMaxOperands][(kBlock + kShortRow) * 8];  // dense, in the row function's types
  alignas(64) std::byte raw[kBlock * 8];                              // dense, in an operand's own dtype
  alignas(64) std::byte tile[kTileRows * kTileRow * 8];  // rows of the transposed operand, in its own dtype
  int64_t tile_row, tile_rows = 0;                       // the one that is next, and how many there are
};
// The next row of the transposed operand; gathers a tile where a new one begins.
const std::byte* tile_row(const Plan& p, const Position& s, Buffers& b) {
  const Operand& o = p.walk.operands[p.tiled];
  if (b.tile_rows == 0) {
    b.tile_row = 0, b.tile_rows = s.tile_rows;
    dispatch_width(p.access[p.tiled].width, [&]<class T>() {
      const T* from = reinterpret_cast<const T*>(o.data) + s.offset[p.tiled];
      int64_t stride = o.strides[p.walk.rank - 1];
      // In bands, each of which fetches the next: more would not fit the few cache sets that a stride of 2^n meets.
      for (int64_t j = 0; j < s.count; j += kTileRows, from += kTileRows * stride) {
        int64_t band = s.count - j < kTileRows ? s.count - j : kTileRows;
        for (int64_t k = 0; k < band; k++)
          for (int64_t i = 0; i < s.tile_rows; i += kPrefetchLine / int64_t(sizeof(T)))
            __builtin_prefetch(from + (k + kTileRows) * stride + i);  // never faults
        transpose(from, stride, reinterpret_cast<T*>(b.tile) + j, kTileRow, band, s.tile_rows);
      }
    });
  }
  b.tile_rows--;
  return b.tile + b.tile_row++ * kTileRow * int64_t(p.access[p.tiled].width);
}

FOVEA_INLINE void fill_scalar(Dtype type, double value, void* row, int64_t n) {
  alignas(8) std::byte one[8];
  if (Convert convert = converter(Dtype::f64, type)) convert(&value, one, 1);
  else __builtin_memcpy(one, &value, 8);
  dispatch_width(bytes_of(type),
                 [&]<class T>() { move_strided(reinterpret_cast<const T*>(one), 0, static_cast<T*>(row), 1, n); });
}
// A row of operand k for this block.
const void* read_row(const Plan& p, const Position& s, int k, Buffers& b) {
  const Operand& o = p.walk.operands[k];
  const Access& a = p.access[k];
  if (a.constant) return b.row[k];
  if (a.period) return b.row[k] + s.linear % a.period * int64_t(bytes_of(p.function.in[k - 1]));
  std::byte* at = o.data + s.offset[k] * int64_t(a.width);
  if (a.direct) return at;
  int64_t step = o.strides[p.walk.rank - 1];
  bool dense = a.linear || (!p.across && step == 1);
  if (p.tiled == k) {
    at = const_cast<std::byte*>(tile_row(p, s, b));
  } else if (!dense) {
    std::byte* gathered = a.convert ? b.raw : b.row[k];
    dispatch_width(a.width, [&]<class T>() {
      if (p.across) move_across<T, true>(p, s, k, reinterpret_cast<T*>(gathered));
      else move_strided(reinterpret_cast<const T*>(at), step, reinterpret_cast<T*>(gathered), 1, s.count);
    });
    at = gathered;
  }
  if (!a.convert) return at;
  a.convert(at, b.row[k], s.count);
  return b.row[k];
}
// Values that are the same for all blocks, once per thread and chunk.
void fill_constants(const Plan& p, Buffers& b) {
  for (int k = 1; k < p.walk.count; k++) {
    const Operand& o = p.walk.operands[k];
    const Access& a = p.access[k];
    Dtype type = p.function.in[k - 1];
    if (!o.data) fill_scalar(type, o.scalar, b.row[k], kBlock);
    if (!o.data || !(a.constant || a.period)) continue;
    int64_t period = a.constant ? 1 : a.period, length = kBlock + a.period;
    dispatch_width(a.width, [&]<class T>() {
      int64_t stride = a.constant ? 0 : o.strides[p.walk.rank - 1];
      move_strided(reinterpret_cast<const T*>(o.data), stride, reinterpret_cast<T*>(b.raw), 1, period);
    });
    if (a.convert) a.convert(b.raw, b.row[k], period);
    else __builtin_memcpy(b.row[k], b.raw, size_t(period) * a.width);
    dispatch_width(bytes_of(type), [&]<class T>() {
      T* row = reinterpret_cast<T*>(b.row[k]);
      for (int64_t i = period; i < length; i++) row[i] = row[i - period];
    });
  }
}
void write_row(const Plan& p, const Position& s, const void* row, Buffers& b) {
  const Operand& o = p.walk.operands[0];
  const Access& a = p.access[0];
  std::byte* at = o.data + s.offset[0] * int64_t(a.width);
  int64_t step = o.strides[p.walk.rank - 1], bytes = s.count * int64_t(a.width);
  bool dense = a.linear || (!p.across && step == 1);
  if (a.past_cache && p.stream && aligned(at)) return a.past_cache(row, at, s.count);
  if (a.convert) {
    void* converted = dense && !p.stream ? static_cast<void*>(at) : b.raw;
    a.convert(row, converted, s.count);
    if (converted == at) return;
    row = converted;
  }
  if (p.stream && aligned(at)) return stream_copy(at, row, bytes);
  if (dense) return void(__builtin_memcpy(at, row, size_t(bytes)));
  dispatch_width(a.width, [&]<class T>() {
    if (p.across) move_across<T, false>(p, s, 0, const_cast<T*>(static_cast<const T*>(row)));
    else move_strided(static_cast<const T*>(row), 1, reinterpret_cast<T*>(at), step, s.count);
  });
}

bool run_blocks(const Plan& p, int64_t begin, int64_t end) {
  Buffers b;
  fill_constants(p, b);
  bool ok = true;
  Position s = position_of(p, begin);
  for (int64_t block = begin; block < end; block++) {
    if (block > begin) advance(p, s, block);
    const void* in[kMaxOperands - 1];
    for (int k = 1; k < p.walk.count; k++) in[k - 1] = read_row(p, s, k, b);
    if (!p.function.row) {
      write_row(p, s, in[0], b);
    } else if (p.access[0].direct) {
      void* out = p.walk.operands[0].data + s.offset[0] * int64_t(p.access[0].width);
      bool past_cache = p.stream && aligned(out);
      ok &= (past_cache ? p.function.past_cache : p.function.row)(out, in, s.count, p.attrs);
    } else {
      ok &= p.function.row(b.row[0], in, s.count, p.attrs);
      write_row(p, s, b.row[0], b);
    }
  }
  if (p.stream) stream_fence();
  return ok;
}

void run_walk(Call& call, Walk& w, const RowFunction& function, const void* attrs) {
  if (w.size() == 0) return;
  simplify(w);
  Plan plan(w, function, attrs);
  int64_t largest = plan.across || plan.block < plan.inner ? plan.block : plan.inner, per_chunk = kChunk / largest;
  int64_t failed = 0;
  call.parallel.for_range(plan.blocks, per_chunk, [&](int64_t begin, int64_t end) {
    if (!run_blocks(plan, begin, end)) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
  });
  if (failed) call.fail("FOVEA_ARGUMENT", "%s", function.error);
}

Walk walk_over(const View& shaped_like) {
  Walk w;
  w.rank = shaped_like.rank;
  for (int i = 0; i < w.rank; i++) w.shape[i] = shaped_like.shape[i];
  return w;
}

}  // namespace
}  // namespace fovea::FOVEA_ISA
