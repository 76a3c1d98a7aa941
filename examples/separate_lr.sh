#!/usr/bin/env bash
# The report on separate learning rates: MobileNetV2 on CIFAR-10, rates 1 / 0.6 / 0.4, against one rate for all
# and against the last three blocks.
#   examples/separate_lr.sh DATA_DIR [FLAG ...]      flags at the end override these
set -euo pipefail
data_dir=${1:?usage: $0 DATA_DIR [FLAG ...]}
shift
common=(--dataset cifar10 --data-dir "$data_dir" --download --resolution 224 --backbone mobilenet_v2
  --weights imagenet_v1 --norm batch_norm --optimizer adam --base-lr 3e-4 --weight-decay 1e-4
  --lr-schedule cosine --batch-size 8 --epochs 40 --label-smoothing 0)
python -m tinytl train "${common[@]}" --method deep --out runs/separate_lr/separate "$@"
python -m tinytl train "${common[@]}" --method FT-Full --out runs/separate_lr/one_rate "$@"
python -m tinytl train "${common[@]}" --method Last-3 --out runs/separate_lr/last_3 "$@"
python -m tinytl plot runs/separate_lr/separate runs/separate_lr/one_rate runs/separate_lr/last_3 \
  --out runs/separate_lr
