#include "binding/promises.h"

#include "binding/status.h"
#include "binding/tokens.h"

namespace fovea {

Promises::Promises(napi_env env) : env_(env) {
  napi_value name = nullptr;
  must(napi_create_string_utf8(env, "fovea", NAPI_AUTO_LENGTH, &name));
  must(napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, on_progress,
                                       &progress_));
  must(napi_unref_threadsafe_function(env, progress_));
}

void Promises::close() {
  if (progress_) napi_release_threadsafe_function(progress_, napi_tsfn_abort);
  progress_ = nullptr;
}

napi_value Promises::create(Pending& pending) {
  napi_value promise = nullptr;
  must(napi_create_promise(env_, &pending.deferred, &promise));
  return promise;
}

Promises::InOrder& Promises::of(Stream* stream) {
  for (OfStream& entry : streams_)
    if (entry.stream == stream) return entry.pending;
  return streams_.emplace_back(OfStream{stream, {}}).pending;
}

void Promises::add(std::unique_ptr<Pending> pending) {
  if (outstanding_ == 0) must(napi_ref_threadsafe_function(env_, progress_));
  outstanding_++;
  of(pending->stream).push_back(std::move(pending));
}

// One call may stand for many commands. A status other than ok means that the environment is closing.
void Promises::signal() {
  if (!signalled_.exchange(true)) napi_call_threadsafe_function(progress_, nullptr, napi_tsfn_nonblocking);
}

napi_value Promises::resolved(napi_value value) {
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  must(napi_create_promise(env_, &deferred, &promise));
  must(napi_resolve_deferred(env_, deferred, value));
  return promise;
}

napi_value Promises::rejected(const KernelFailure& failure) {
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr, error = make_error(env_, failure.code, failure.message);
  if (!error) fail("FOVEA_CLOSING", "read: this thread is shutting down");
  must(napi_create_promise(env_, &deferred, &promise));
  must(napi_reject_deferred(env_, deferred, error));
  return promise;
}

napi_value Promises::value_of(Pending& pending) {
  napi_value value = nullptr;
  if (pending.shared) return token_array(env_, publish_shared(pending.shared), pending.shared->view);
  if (pending.buffer) must(napi_get_reference_value(env_, pending.buffer, &value));
  else must(napi_get_undefined(env_, &value));
  return value;
}

void Promises::settle_one(Pending& pending) {
  HandleScope scope(env_);
  if (pending.failure) {
    napi_value error = make_error(env_, pending.failure->code, pending.failure->message);
    if (error) must(napi_reject_deferred(env_, pending.deferred, error));
  } else {
    must(napi_resolve_deferred(env_, pending.deferred, value_of(pending)));
  }
  if (pending.buffer) must(napi_delete_reference(env_, pending.buffer));
}

// Settling runs no JavaScript, so the lists do not change under the loop.
void Promises::settle() {
  for (OfStream& entry : streams_) {
    while (!entry.pending.empty() && entry.pending.front()->position <= entry.stream->done()) {
      std::unique_ptr<Pending> pending = std::move(entry.pending.front());
      entry.pending.pop_front();
      settle_one(*pending);
      if (--outstanding_ == 0) must(napi_unref_threadsafe_function(env_, progress_));
    }
  }
}

void Promises::on_progress(napi_env env, napi_value, void* context, void*) {
  if (!env) return;  // shutting down
  auto* self = static_cast<Promises*>(context);
  self->signalled_.store(false);  // before looking: what finishes from now on signals again
  try {
    self->settle();
  } catch (const std::exception&) {
    // The environment is closing: nobody is left to hear of it.
  }
}

}  // namespace fovea
