#!/usr/bin/env bash
# An installed package compiles the example, and the example builds and runs the bundled model.
#   install_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$2" --prefix "$work/prefix" >/dev/null
cmake -S "$1/examples/generate" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >/dev/null
ninja -C "$work/build" >/dev/null
"$work/build/generate" "$1/examples/baker-7m" "$work/engine" "Holmes looked at me and" | tee "$work/out"
# As in tests/data/baker-7m/golden.json.
grep -qF " I was sitting by the fire, and I saw him look at me." "$work/out"
"$work/prefix/bin/ingot" inspect "$work/engine" | grep -q "kind: engine"
