#!/usr/bin/env bash
# The TinyTL report on ProxylessNAS-Mobile: the same settings, with the authors' weights and lite residuals.
#   examples/tinytl_report_proxylessnas_mobile.sh DATA_DIR CHECKPOINT [FLAG ...]
# CHECKPOINT: a file or URL in the authors' layout that holds lite residuals, too. Theirs was trained with weight
# standardisation (ws) and group norm (gn):
#   https://hanlab18.mit.edu/projects/tinyml/tinyTL/files/proxylessnas_mobile+lite_residual@imagenet@ws+gn
# Flags at the end override these.
set -euo pipefail
data_dir=${1:?usage: $0 DATA_DIR CHECKPOINT [FLAG ...]}
checkpoint=${2:?usage: $0 DATA_DIR CHECKPOINT [FLAG ...]}
shift 2
for method in FT-Last TinyTL-B TinyTL-L TinyTL-L+B FT-Norm+Last FT-Full; do
  out=runs/tinytl_report/proxylessnas_mobile/$method
  [ -e "$out/result.json" ] && continue # already ended: a second call runs only the others
  lite=()
  case $method in TinyTL-L*) lite=(--lite-weights "$checkpoint" --kernel-clipping reference) ;; esac
  python -m tinytl train --dataset cifar10 --data-dir "$data_dir" --download --resolution 224 \
    --backbone proxylessnas_mobile --weights "$checkpoint" --norm group_norm --weight-standardization --method "$method" \
    --n-groups 2 --lite-kernel-size 5 "${lite[@]}" \
    --optimizer adam --base-lr 3e-4 --lr-schedule cosine --weight-decay 1e-4 --batch-size 8 --epochs 50 \
    --label-smoothing 0 --crop-scale-min 0.08 --out "$out" "$@"
done
