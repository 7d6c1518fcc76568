#!/usr/bin/env bash
# What only a GPU or TPU can say: benchmarks/accelerator.sh [PART...] [--toy] [--out DIR], unattended.
# Each part has a process of its own, at most 8 minutes, and writes benchmarks/results/accelerator_PART.json as it goes.
set -u
cd "$(dirname "$0")/.." || exit 1
run=("${PYTHON:-$(command -v python || command -v python3)}" benchmarks/accelerator.py)
parts=$("${run[@]}" --list "$@") || exit
options=()
for word in "$@"; do
  case " $(echo $parts) " in *" $word "*) ;; *) options+=("$word") ;; esac
done
failed=0
for part in $parts; do
  echo "== $part"
  timeout --kill-after=10 480 "${run[@]}" "$part" ${options[@]+"${options[@]}"} || { echo "part $part ended with $?"; failed=1; }
done
exit $failed
