#!/usr/bin/env bash
# What a GPU machine is asked to do, in four calls: build and time (A), sanitizers (B), training of
# `edge` (C) and of the original's U-Net (D). Results are left in $OUT (default out/gpu-day/results).
#
#   benchmarks/gpu_day.sh pack DATA                   here: cuts the training pack into parts
#   benchmarks/gpu_day.sh receive|A|B|C|D [--KEY=VALUE ...]    there, from the root of the project
#   benchmarks/gpu_day.sh --rehearse A|B|C|D          here, on the CPU, in minutes: tiny sizes
#
# A call may carry 64 MiB, the project and one part (out/gpu-day/part.NN and out/gpu-day/parts.sha256):
# every command keeps the part that came with it, `receive` does nothing else. C and D need all parts.
# Training goes on in a session of its own when the call returns (WAIT seconds, 540); a second C or
# D waits on and brings later weights. --KEY=VALUE of C and D change the recipe. MINUTES (8): of each
# training. ARCHITECTURES (90): what the kernels are built for. PYTHON (python3).
set -euo pipefail
cd "$(dirname "$0")/.."

rehearse=
if [ "${1-}" = --rehearse ]; then
  rehearse=1
  shift
fi
command=${1-}
shift || true
PYTHON=${PYTHON:-python3}
OUT=${OUT:-$PWD/out/gpu-day/results}
if [ -n "$rehearse" ]; then WORK=${WORK:-$PWD/out/gpu-day/rehearsal}; else WORK=${WORK:-/tmp/gpu-day}; fi
carried=${CARRIED:-out/gpu-day}
mkdir -p "$OUT" "$WORK/parts"
export PYTHONPATH=$WORK/site:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
failed=0

say() { echo "== $*" | tee -a "$OUT/$command.log"; }
skip() { say "skipped, it needs a GPU: $*"; }

# step SECONDS NAME COMMAND...: runs it, logs it, goes on when it fails.
step() {
  local seconds=$1 name=$2 start=$SECONDS status=0
  shift 2
  say "$name"
  timeout "$seconds" "$@" >"$WORK/step.log" 2>&1 || status=$?
  cat "$WORK/step.log" >>"$OUT/$command.log"
  tail -n 4 "$WORK/step.log"
  say "$name: status $status, $((SECONDS - start)) s"
  if [ $status -ne 0 ]; then failed=1; fi
  return 0
}

pack() {
  local data=${1:?give the folder of the training pack}
  mkdir -p "$carried"
  rm -f "$carried"/part.* "$carried/parts.sha256"
  tar -C "$data" -cf - $(cd "$data" && echo basis.npz train-*.npz val.npz) |
    split -b 30m -d - "$carried/part."
  (cd "$carried" && sha256sum part.* | tee parts.sha256)
}

receive() {
  cp -n "$carried"/part.* "$WORK/parts/" 2>/dev/null || true
  cp "$carried/parts.sha256" "$WORK/parts/" 2>/dev/null || true
  local known=0 here
  here=$(find "$WORK/parts" -name 'part.*' | wc -l)
  [ -f "$WORK/parts/parts.sha256" ] && known=$(wc -l <"$WORK/parts/parts.sha256")
  say "parts of the training pack here: $here of $known"
}

unpack() {
  [ -f "$WORK/data/basis.npz" ] && return
  if [ -n "$rehearse" ]; then
    "$PYTHON" - "$WORK/data" <<'PY'
import sys
from pathlib import Path
from tests.helpers.data import write_pack
write_pack(Path(sys.argv[1]), resolution=128, codes=70)
PY
    return
  fi
  (cd "$WORK/parts" && sha256sum --quiet -c parts.sha256) || {
    say "the training pack is not complete: carry the parts that are missing"
    exit 1
  }
  mkdir -p "$WORK/data"
  cat "$WORK"/parts/part.* | tar -C "$WORK/data" -xf -
}

build() {
  [ -d "$WORK/site/posgan_edge_kernels" ] && return
  local options=("-Ccmake.define.CMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES:-90}")
  if [ -n "$rehearse" ]; then options=(-Ccmake.define.POSGAN_CUDA=OFF); fi
  # What builds it is there already on a machine without an index.
  if "$PYTHON" -c 'import nanobind, scikit_build_core' 2>/dev/null; then
    options+=(--no-build-isolation)
  fi
  step 300 "build of the kernels" "$PYTHON" -m pip install --no-deps --no-cache-dir \
    --target "$WORK/site" "${options[@]}" "-Cbuild-dir=$WORK/build" ./cpp_ext
  local built
  built=$("$PYTHON" -m posgan_edge_kernels)
  say "$built"
  if [ -z "$rehearse" ] && [[ $built != *"host and CUDA"* ]]; then exit 1; fi
}

A() {
  build
  if [ -n "$rehearse" ]; then
    skip "nvidia-smi; pytest -m gpu (in its place: the kernels in the emulator)"
    step 500 "kernels in the emulator" "$PYTHON" -m pytest -q -p no:cacheprovider \
      tests/test_kernels_emulated.py -k "equal or mapped"
    skip "kernel times (the host's are taken)"
    step 300 "kernel times" "$PYTHON" benchmarks/kernels.py --rounds 3 --json "$OUT/kernels.json"
    step 300 "frame path" "$PYTHON" benchmarks/frame_path.py --rehearse --rounds 3 \
      --json "$OUT/frame-path.json"
    return
  fi
  step 20 "GPU" nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.limit,utilization.gpu \
    --format=csv
  step 150 "tests marked gpu" "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu \
    tests/test_kernels_gpu.py tests/test_gpu_engines.py
  step 120 "kernel times" "$PYTHON" benchmarks/kernels.py --rounds 100 --json "$OUT/kernels.json"
  step 120 "frame path" "$PYTHON" benchmarks/frame_path.py --json "$OUT/frame-path.json"
}

B() {
  build
  local tests=("$PYTHON" -m pytest -q -x -p no:cacheprovider)
  if [ -n "$rehearse" ]; then
    skip "compute-sanitizer (in its place: what the emulator checks, and mutations of it)"
    step 500 "emulator" "${tests[@]}" tests/test_kernels_emulated.py -k "mutation or show_nothing"
    return
  fi
  # So that the sanitizer sees each tensor as an allocation.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  local tool
  for tool in memcheck racecheck synccheck; do
    step 170 "$tool" compute-sanitizer --tool $tool --error-exitcode 9 \
      "${tests[@]}" -m gpu tests/test_kernels_gpu.py
  done
}

# train NAME RECIPE SETTINGS...: with 256 faces a step, or less where memory is short.
train() {
  local name=$1 recipe=$2 run=$WORK/$1 settings=()
  shift 2
  unpack
  for setting in "$@"; do settings+=(--set "${setting#--}"); done
  local batches="256 128 64" wait=${WAIT:-540}
  settings+=(--set "budget_minutes=${MINUTES:-8}")
  if [ -n "$rehearse" ]; then
    batches="8 4"
    settings+=(--set workers=1 --set epochs=1 --set checkpoint_every=1)
    rm -rf "$run" "$run".*
  else
    settings+=(--set workers=15)
  fi
  if [ ! -f "$run.pid" ]; then
    cat >"$run.sh" <<'SH'
run=$1 python=$2 recipe=$3 data=$4 batches=$5
shift 5
for batch in $batches; do
  rm -rf "$run"
  status=0
  "$python" -m posgan_edge train "$recipe" --data "$data" --output "$run" \
    "$@" --set "batch_size=$batch" >"$run.log" 2>&1 || status=$?
  echo "batch size $batch: status $status" >>"$run.log"
  if [ $status -eq 0 ] || ! grep -qi "out of memory" "$run.log"; then break; fi
done
echo $status >"$run.status"
SH
    setsid nohup bash "$run.sh" "$run" "$PYTHON" "$recipe" "$WORK/data" "$batches" \
      "${settings[@]}" >/dev/null 2>&1 </dev/null &
    echo $! >"$run.pid"
    say "training of $name started: ${settings[*]}"
  fi
  local end=$((SECONDS + wait))
  while [ ! -f "$run.status" ] && kill -0 "$(cat "$run.pid")" 2>/dev/null && [ $SECONDS -lt $end ]; do
    sleep 2
  done
  cp "$run.log" "$OUT/$name.log"
  cp "$run/history.json" "$OUT/$name-history.json" 2>/dev/null || true
  tail -n 5 "$run.log"
  if [ ! -f "$run.status" ]; then
    say "training of $name goes on"
  elif [ "$(cat "$run.status")" != 0 ]; then
    say "training of $name ended with status $(cat "$run.status")"
    failed=1
  fi
  if [ ! -f "$run/last.pth" ]; then
    say "no weights of $name yet"
    failed=1
    return
  fi
  # Weights alone, as 16-bit numbers where they would not fit, in files below 16 MB.
  "$PYTHON" - "$run/last.pth" "$WORK/$name.safetensors" <<'PY'
import sys
from posgan_edge.models.checkpoints import load_generator, save_safetensors
generator = load_generator(sys.argv[1])
if 4 * sum(p.numel() for p in generator.parameters()) > 80e6:
    generator = generator.half()
save_safetensors(generator, sys.argv[2])
PY
  rm -f "$OUT/$name.safetensors."*
  split -b 15900000 -d "$WORK/$name.safetensors" "$OUT/$name.safetensors."
  say "weights of $name: cat $name.safetensors.* >$name.safetensors, sha256 $(sha256sum <"$WORK/$name.safetensors")"
}

C() {
  local small=()
  if [ -n "$rehearse" ]; then small=(closed_eyes=1 open_mouths=1); fi
  train edge edge "${small[@]}" "$@"
}

# The original's BEGAN schedule, on the pack.
D() {
  local small=()
  if [ -n "$rehearse" ]; then
    small=(generator.ngf=4 adversarial.ngf=4 adversarial.pretrain_epochs=1)
  fi
  train unet unet data_format=pack generator.layout=ict "${small[@]}" "$@"
}

case $command in
  pack) pack "$@" ;;
  receive) receive ;;
  A | B | C | D)
    : >"$OUT/$command.log"
    receive
    "$command" "$@"
    say "$command: $([ $failed -eq 0 ] && echo done || echo FAILED, see above)"
    exit $failed
    ;;
  *)
    sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0"
    exit 2
    ;;
esac
