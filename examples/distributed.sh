#!/usr/bin/env bash
# Several processes on one machine share every batch: the step is that of one process with the whole batch.
#   PROCESSES=4 examples/distributed.sh DATA_DIR [FLAG ...]      one process per GPU; without GPUs, Gloo on CPUs
set -euo pipefail
data_dir=${1:?usage: PROCESSES=4 $0 DATA_DIR [FLAG ...]}
shift
torchrun --standalone --nproc-per-node "${PROCESSES:-2}" -m tinytl train \
  --dataset cifar10 --data-dir "$data_dir" --download --resolution 224 --backbone mobilenet_v2 --weights imagenet_v1 \
  --method TinyTL-L+B --norm group_norm --optimizer adamw --base-lr 4e-4 --lr-schedule exponential --gamma 0.9 \
  --batch-size 128 --epochs 40 --out runs/distributed "$@"
