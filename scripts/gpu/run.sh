#!/usr/bin/env bash
# On a GPU host without network, with what scripts/gpu/pack.sh packed: unpacks, builds, tests, looks for errors with
# compute-sanitizer, and times, in one command. The checkout is only read; all else lies in a folder for temporary files,
# so that a second call builds only what has changed.
#
#   bash scripts/gpu/run.sh [build|tests|sanitizer|bench|all]
#
#   OUT              where logs and results go: summary.txt, build.log, tests.log, sanitizer.log, bench.log, bench.jsonl,
#                    torch.jsonl, table.md
#   GPU_TMP          the folder for everything else (default: fovea-gpu in the system's)
#   GPU_FILTER       times only the cases whose names contain this
#   GPU_SECONDS      for the whole run (default 560): a step that is left no time is skipped
#   FOVEA_BINARY, FOVEA_CUDA_PLUGIN   use these instead of building
#
# One line for each step; a step that fails does not stop those after it. Ends with 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
root=$PWD
what=${1:-all}
case $what in build | tests | sanitizer | bench | all) ;; *) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 2 ;; esac

work=${GPU_TMP:-${TMPDIR:-/tmp}/fovea-gpu}
out=${OUT:-$work/out}
tree=$work/tree
jobs=$(nproc)
end=$((SECONDS + ${GPU_SECONDS:-560}))
mkdir -p "$work/bin" "$tree" "$out"
summary=$out/summary.txt
: >"$summary"
rm -f "$out"/{build,compile,tests,tests-cpu,sanitizer,bench}.log

say() { printf '%s\n' "$*" | tee -a "$summary"; }
wants() { [[ $what == all || $what == "$1" ]]; }

# step <name> <seconds> <log> <command...>: the command's last line is its part of the summary; 77 means skipped.
step() {
  local name=$1 limit=$2 log=$out/$3 start=$SECONDS left=$((end - SECONDS)) part status word
  shift 3
  if ((left < 5)); then
    say "$(printf '%-5s %-26s %4s    %s' skip "$name" - 'no time is left')"
    return 1
  fi
  part=$(mktemp "$work/step.XXXXXX")
  timeout -k 5 $((limit < left ? limit : left)) "$@" >"$part" 2>&1 </dev/null
  status=$?
  { printf '\n######## %s: %s\n' "$name" "$*"; cat "$part"; } >>"$log"
  case $status in 0) word=ok ;; 77) word=skip ;; 124 | 137) word=late ;; *) word=FAIL ;; esac
  say "$(printf '%-5s %-26s %4d s  %s' "$word" "$name" $((SECONDS - start)) "$(grep -v '^\s*$' "$part" | tail -n 1 | cut -c1-300)")"
  # What went wrong, for who sees only this output.
  if [[ $word == FAIL || $word == late ]]; then
    { grep -aE '^FAIL|^     [^ ]|PROBLEM|FAILED' "$part" || grep -aiE 'error' "$part" || tail -n 15 "$part"; } |
      head -n 25 | cut -c1-300 | sed 's/^/      /'
  fi
  rm -f "$part"
  [[ $status == 0 ]]
}

unpack() { # <file.xz> to standard output
  if command -v xz >/dev/null; then xz -dc "$1"
  else python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer, 1 << 20)' "$1"; fi
}

prepare() {
  local node modules
  node=$(compgen -G "$root/.gpu/node-*.xz")
  modules=$(compgen -G "$root/.gpu/modules-*.tar.xz")
  if [[ -z $node || -z $modules ]]; then
    echo 'there is no .gpu/ here: run scripts/gpu/pack.sh where there is network, and carry .gpu along'
    return 1
  fi
  if [[ ! -x $work/bin/node || $(cat "$work/bin/from" 2>/dev/null) != "$(basename "$node")" ]]; then
    unpack "$node" >"$work/bin/node.part" && chmod +x "$work/bin/node.part" && mv "$work/bin/node.part" "$work/bin/node" || return 1
    basename "$node" >"$work/bin/from"
  fi
  "$work/bin/node" scripts/gpu/mirror.mjs "$root" "$tree" || return 1
  if [[ $(cat "$work/modules-from" 2>/dev/null) != "$(basename "$modules")" ]]; then
    rm -rf "$tree/node_modules"
    unpack "$modules" | tar -x -C "$tree" --no-same-owner || return 1
    basename "$modules" >"$work/modules-from"
  fi
  rm -rf "$tree/dist"
  unpack "$root/.gpu/dist.tar.xz" | tar -x -C "$tree" --no-same-owner || return 1
  "$work/bin/node" --version
}

generator=(-G 'Unix Makefiles')
keep_going=(-k)
if command -v ninja >/dev/null; then generator=(-G Ninja) keep_going=(-k 0); fi

# build_in <folder> <name> <seconds> <log> <option...>: configures and builds, past the first error, to see all of them.
build_in() {
  local folder=$1 name=$2 limit=$3 log=$4
  shift 4
  step "configure$name" 60 "$log" cmake -S "$tree" -B "$folder" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "$@" &&
    step "build$name" "$limit" "$log" cmake --build "$folder" --parallel "$jobs" -- "${keep_going[@]}"
}

build() {
  local status
  build_in "$work/build" '' 300 compile.log '-DFOVEA_ONLY_ISAS=baseline;avx2;avx512' -DFOVEA_CUDA=ON \
    -DFOVEA_CUDA_ARCHITECTURES=90-real '-DFOVEA_CUDA_FLAGS=-Xptxas=-v;-lineinfo'
  status=$?
  cat "$out/compile.log" >>"$out/build.log"
  mv "$out/compile.log" "$work/compile.log"
  ((status != 0)) || step kernels 60 build.log node scripts/gpu/kernels.mjs "$work/build" "$work/compile.log" || true
  return $status
}

tests() {
  step 'ops against the CPU' 90 tests.log node scripts/gpu/ops.mjs --limit 40
  step 'tests on the GPU' 170 tests.log node scripts/gpu/tests.mjs --device cuda --limit 150 \
    test/ops test/device test/models/gpt2.test.ts
}
cpu_tests() { step 'op table on the CPU' 260 tests-cpu.log node scripts/gpu/tests.mjs --limit 240 --jobs 6 test/ops; }

# In a build in which each tensor is an allocation of its own, so that one element too far is seen.
sanitizer() {
  local checked=$FOVEA_BINARY
  if [[ -n ${built:-} ]] && build_in "$work/build-checked" ', checked' 150 build.log -DFOVEA_ONLY_ISAS=baseline \
    -DFOVEA_CUDA=OFF -DCMAKE_CXX_FLAGS=-DFOVEA_MALLOC_BLOCKS; then
    checked=$work/build-checked/Release/fovea.node
  fi
  FOVEA_BINARY=$checked step memcheck 130 sanitizer.log node scripts/gpu/ops.mjs --tool memcheck --limit 110 --jobs 7
  # Only of the kernels whose threads share memory.
  FOVEA_BINARY=$checked step racecheck 130 sanitizer.log node scripts/gpu/ops.mjs --tool racecheck --limit 110 --jobs 8 \
    --groups matmul,attention,norm,softmax,loss,reduce,sorting,indexing,quantized
}

bench() {
  # shellcheck disable=SC2016 # the inner shell expands
  step bench 120 bench.log bash -c 'node bench/gpu.mjs --quick --filter "$0" >"$1"' "${GPU_FILTER:-}" "$out/bench.jsonl"
  if command -v python3 >/dev/null && python3 -c 'import torch' 2>/dev/null; then
    node bench/gpu.mjs --list >"$work/cases.json"
    # shellcheck disable=SC2016 # the inner shell expands
    step 'bench, PyTorch' 120 bench.log bash -c 'python3 bench/peers/torch_gpu.py --quick --filter "$0" "$1" >"$2"' \
      "${GPU_FILTER:-}" "$work/cases.json" "$out/torch.jsonl"
  else
    step 'bench, PyTorch' 5 bench.log bash -c 'echo "there is no PyTorch here"; exit 77'
  fi
  # shellcheck disable=SC2016 # the inner shell expands
  step table 20 bench.log bash -c 'node bench/gpu-table.mjs "$0" "$1" >"$2" && tail -n 1 "$2"' \
    "$out/bench.jsonl" "$out/torch.jsonl" "$out/table.md"
}

if ! { prepare; } >"$out/build.log" 2>&1; then
  tail -n 5 "$out/build.log"
  say 'FAIL  unpacking'
  exit 1
fi
export PATH=$work/bin:$PATH:/usr/local/cuda/bin PYTHONUNBUFFERED=1
say "Node $(node --version), $jobs cores, $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
cd "$tree" || exit 2

if [[ -z ${FOVEA_BINARY:-} ]]; then
  export FOVEA_BINARY=$work/build/Release/fovea.node FOVEA_CUDA_PLUGIN=$work/build/Release/fovea_cuda.so
  build || { say 'not built, so nothing was tried'; exit 1; }
  built=yes
fi
if [[ $what != build ]]; then
  # shellcheck disable=SC2016 # a template of JavaScript
  device='import("fovea").then(({ devices }) => {
    const gpu = devices()[1];
    console.log(gpu.available ? `${gpu.description}, ${(gpu.memory / 2 ** 30).toFixed(0)} GiB` : `no GPU: ${gpu.reason}`);
    process.exit(gpu.available ? 0 : 1);
  })'
  if step device 60 tests.log node -e "$device"; then
    wants tests && tests
    # Timed alone, and before what may take the rest of the time.
    wants bench && bench
    # One of these keeps the GPU busy, the other the CPU.
    if wants tests; then cpu_tests & fi
    wants sanitizer && sanitizer
    wait
    [[ ! -f $out/tests-cpu.log ]] || { cat "$out/tests-cpu.log" >>"$out/tests.log"; rm "$out/tests-cpu.log"; }
  fi
fi

count() { grep -cE "^($1) " "$summary"; }
failed=$(count 'FAIL|late')
[[ ! -f $out/table.md ]] || cat "$out/table.md"
rm -f "$work"/step.*
grep -E '^(FAIL|late) ' "$summary" | cut -c1-120
say "$(count ok) passed, $failed failed, $(count skip) skipped in $SECONDS s; logs are in $out"
exit $((failed > 0))
