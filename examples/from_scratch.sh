#!/usr/bin/env bash
# From scratch against fine-tuning, with the report's settings: SGD with a cosine, AdamW with exponential decay.
#   examples/from_scratch.sh DATA_DIR [FLAG ...]      flags at the end override these
set -euo pipefail
data_dir=${1:?usage: $0 DATA_DIR [FLAG ...]}
shift
common=(--dataset cifar10 --data-dir "$data_dir" --download --resolution 224 --backbone mobilenet_v2
  --norm batch_norm --weight-decay 1e-4 --batch-size 128 --epochs 40 --label-smoothing 0)
python -m tinytl train "${common[@]}" --method Scratch --optimizer sgd --momentum 0.9 --base-lr 0.05 \
  --lr-schedule cosine --out runs/from_scratch/sgd_cosine "$@"
python -m tinytl train "${common[@]}" --method Scratch --optimizer adamw --base-lr 4e-4 \
  --lr-schedule exponential --gamma 0.9 --out runs/from_scratch/adamw_exponential "$@"
python -m tinytl train "${common[@]}" --method deep --weights imagenet_v1 --optimizer adam --base-lr 4e-4 \
  --lr-schedule cosine --out runs/from_scratch/fine_tuning "$@"
