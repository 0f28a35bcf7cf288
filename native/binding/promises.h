// Promises that streams settle. All of an environment complete through one thread-safe function, which keeps the
// event loop alive only while a promise is outstanding.
#pragma once
#include <node_api.h>

#include <atomic>
#include <deque>
#include <memory>

#include "core/failure.h"
#include "core/shared_storage.h"
#include "core/stream.h"

namespace fovea {

struct Pending {
  Stream* stream = nullptr;
  uint64_t position = 0;                  // settled once the stream has passed it
  Failure failure;                        // written by the stream before it passes `position`
  napi_ref buffer = nullptr;              // the destination of a read: keeps it alive while the stream writes into it
  std::shared_ptr<SharedStorage> shared;  // the destination of a share()
  napi_deferred deferred = nullptr;
};

class Promises {
 public:
  explicit Promises(napi_env env);
  ~Promises() { close(); }
  Promises(const Promises&) = delete;
  Promises& operator=(const Promises&) = delete;
  // To be called when the threads of the streams are gone.
  void close();

  // The promise of `pending`, to be followed by add() once the command is queued.
  napi_value create(Pending& pending);
  void add(std::unique_ptr<Pending> pending);
  // From a stream's thread: something is done.
  void signal();
  // A promise that is settled already: no command, no hop between threads.
  napi_value resolved(napi_value value);
  napi_value rejected(const KernelFailure& failure);

 private:
  static void on_progress(napi_env env, napi_value, void* context, void*);
  void settle();
  void settle_one(Pending& pending);
  napi_value value_of(Pending& pending);

  // In stream order: finding the finished ones is popping the front.
  using InOrder = std::deque<std::unique_ptr<Pending>>;
  struct OfStream {
    Stream* stream;
    InOrder pending;
  };
  InOrder& of(Stream* stream);

  napi_env env_;
  napi_threadsafe_function progress_ = nullptr;
  std::atomic<bool> signalled_{false};
  std::deque<OfStream> streams_;
  size_t outstanding_ = 0;
};

}  // namespace fovea
