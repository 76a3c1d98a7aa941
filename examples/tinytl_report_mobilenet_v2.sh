#!/usr/bin/env bash
# The TinyTL report on MobileNetV2: six methods on CIFAR-10 at 224 px, Adam 3e-4, cosine, batches of 8, 50 epochs.
# Lite residuals start at random. Norms become group norms of 8 channels, as in the report.
#   examples/tinytl_report_mobilenet_v2.sh DATA_DIR [FLAG ...]      flags at the end override these, such as --epochs 1, --method FT-Last
set -euo pipefail
data_dir=${1:?usage: $0 DATA_DIR [FLAG ...]}
shift
for method in FT-Last TinyTL-B TinyTL-L TinyTL-L+B FT-Norm+Last FT-Full; do
  out=runs/tinytl_report/mobilenet_v2/$method
  [ -e "$out/result.json" ] && continue # already ended: a second call runs only the others
  python -m tinytl train --dataset cifar10 --data-dir "$data_dir" --download --resolution 224 \
    --backbone mobilenet_v2 --weights imagenet_v1 --norm group_norm --gn-channel-per-group 8 --method "$method" \
    --n-groups 2 --lite-kernel-size 3 --downsample-ratio 2 \
    --optimizer adam --base-lr 3e-4 --lr-schedule cosine --weight-decay 1e-4 --batch-size 8 --epochs 50 \
    --label-smoothing 0 --crop-scale-min 0.08 --out "$out" "$@"
done
