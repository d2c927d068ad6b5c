#!/usr/bin/env bash
# Reruns the GPU tables of docs/performance.md: ceilings, builds, loads, prefill, decode, rooflines by op, own kernels
# against cuBLASLt. Random normal weights of the exact shapes; nothing but the two configurations is needed.
#   bench/run_cuda.sh [--bin DIR] [--work DIR] [--checkpoints DIR] [--quick] CONFIG_8B CONFIG_1B
# DIR of --bin holds ingot and bench/bench_* (build/release); --work gets the engines (three times the larger one, on the
# disk whose speed the builds are compared with). Where transformers is installed, the builds read checkpoints that it
# writes to DIR of --checkpoints (in memory by default); else they draw the weights themselves, which takes longer.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
bin=$here/build/release work=${TMPDIR:-/tmp}/ingot-cuda checkpoints=/dev/shm/ingot-checkpoints quick=
while [ $# -gt 0 ]; do
  case $1 in
    --bin) bin=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --checkpoints) checkpoints=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    *) break ;;
  esac
done
[ $# -eq 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
declare -A config=([8B]=$1 [1B]=$2)
mkdir -p "$work"

field() { python3 -c 'import json, sys; r = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
now() { date +%s.%N; }
since() { python3 -c 'import sys, time; print(f"{time.time() - float(sys.argv[1]):.2f}")' "$1"; }

echo "## Ceilings"
"$bin/bench/bench_ceilings" --cuda | tee "$work/ceilings.txt" | grep -v '^  '

# Seconds of writing and syncing as many bytes as the engine has.
write_seconds() {
  local start
  start=$(now)
  dd if=/dev/zero of="$work/plain" bs=16M count=$(($1 / 16777216)) conv=fsync status=none
  since "$start"
  rm -f "$work/plain"
}

build() {  # NAME TAG: prints a row of the table
  local name=$1 tag=$2 start seconds report
  start=$(now)
  "$bin/ingot" build "${source[@]}" --target cuda --dtype bfloat16 --max-batch-size 64 \
    --max-seq-len 8320 --max-num-tokens 2048 -o "$work/$name" --timing-cache "$work/$name.txt" --json --progress none \
    >"$work/$name-$tag.json" 2>"$work/$name-$tag.log" || { tail -5 "$work/$name-$tag.log" >&2; return 1; }
  seconds=$(since "$start")
  report=$(field '"{:.2f} | {:.2f} | {:.2f} | {:.2f} | {:.0f} | {} | {}".format(
      r["seconds"].get("tune", 0), r["seconds"].get("weights", 0), r["seconds"].get("sync", 0),
      r["engine_bytes"] / 1e9, r["peak_host_bytes"] / 1e6, r["measured"], r["content_hash"])' <"$work/$name-$tag.json")
  echo "| $name | $tag | $seconds | $report |"
}

transformers= weights="weights drawn by the build"
if python3 -c 'import torch, transformers' 2>/dev/null; then transformers=1 weights="checkpoints in memory"; fi
echo; echo "## Builds from $weights"
echo "| model | timing cache | s in all | tune s | weights s | sync s | engine GB | peak host MB | measured | content |"
echo "|---|---|---|---|---|---|---|---|---|---|"
for name in 8B 1B; do
  rm -rf "$work/$name" "$work/$name.txt"
  source=("${config[$name]}" --random-weights)
  if [ -n "$transformers" ]; then
    "$here/bench/peers/write_checkpoint.py" "${config[$name]}" "$checkpoints/$name" >"$work/$name-checkpoint.log" 2>&1 || {
      tail -5 "$work/$name-checkpoint.log" >&2
      exit 1
    }
    source=("$checkpoints/$name")
  fi
  # Taking turns: what fresh memory for the file cache costs changes from minute to minute.
  for tag in filled read; do
    build "$name" "$tag"
    bytes=$(field 'r["engine_bytes"]' <"$work/$name-$tag.json")
    echo "| $name | writing and syncing as many zeros | $(write_seconds "$bytes") | | | | | | | |"
  done
  rm -rf "${checkpoints:?}/$name"
done

echo; echo "## Loads (files in page cache)"
for name in 8B 1B; do
  echo "$name:"
  "$bin/bench/bench_load" "$work/$name"
done

echo; echo "## Speed"
repetitions=5; [ -z "$quick" ] || repetitions=2
for name in 8B 1B; do
  echo "$name:"
  "$bin/ingot" bench "$work/$name" --batch-size 1,16,64 --prompt-tokens 256 --new-tokens 64 \
    --repetitions "$repetitions" -o md --progress none
  "$bin/ingot" bench "$work/$name" --batch-size 1 --prompt-tokens 2048 --new-tokens 8 --repetitions "$repetitions" \
    -o md --progress none | tail -n +3
done

echo; echo "## A decode step of one sequence, launch by launch"
for name in 8B 1B; do
  echo "$name:"
  "$bin/bench/bench_profile" "$work/$name" --prompt 512 --new 16 >"$work/$name-profile.txt"
  sed -n '/^decode step/,$p' "$work/$name-profile.txt" | cut -c1-180
done

[ -z "$quick" ] || exit 0
echo; echo "## Own kernels and cuBLASLt on the 8B's products"
"$bin/bench/bench_gpu_tactics"
echo; echo "## Paged decode attention and choosing tokens, alone"
attention() {  # SEQUENCES CONTEXT
  local pages=$(($1 * (($2 + 31) / 32))) state
  state="bf16[$pages, 8, 32, 128]"
  "$bin/bench/bench_gpu_tactics" --context "$2" "attention bf16[$1, 4096] $state $state i32[$(($1 + 1))] i32[$1] \
i32[$(($1 + 1))] i32[$pages] i32[$1] {heads = 32, scale = 0.088388346}" | tail -n 3
}
attention 8 8192
attention 1 512
attention 64 256
for options in temperature=0 temperature=1 "temperature=1 top_k=50" "temperature=1 top_p=0.9" \
  "temperature=0 logprobs=20"; do
  echo "$options:"
  "$bin/bench/bench_gpu_tactics" --sample "$options" "sample f32[1, 128256] f32[1, 6] i32[1, 8] i32[0, 2] i32[1]" \
    "sample f32[64, 128256] f32[64, 6] i32[64, 8] i32[0, 2] i32[64]" | tail -n 4
done
echo; echo "## A decode step of 8 sequences at context 8192: paged attention"
"$bin/bench/bench_profile" "$work/8B" --batch 8 --prompt 8192 --new 8 --repetitions 1 | grep -E '^\||^decode' | cut -c1-180
python3 -c 'import torch' 2>/dev/null || exit 0
echo; echo "## A prefill's products and attention in PyTorch"
"$here/bench/peers/torch_prefill.py" --config "${config[8B]}"
