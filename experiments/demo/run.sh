#!/usr/bin/env bash
# The whole path on a simulated cohort, each command shown as it can be typed again. `make demo` runs this.
set -euo pipefail

run() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

# Small enough for two cores: a quarter of the channels, few epochs. Everything else is as the recipes say.
small="encoder.width=16"
train="python -m neuro_ssl.train"

run python -m neuro_ssl.simulate
run python -m neuro_ssl.preprocess
run $train +experiment=simclr_pretrain $small trainer.max_epochs=30
pretrained=$(ls -td runs/simclr_pretrain-* | head -n 1)

for task in brain_age sex; do
  run $train +experiment=linear_probe task=$task $small              # an untrained encoder, for comparison
  run $train +experiment=linear_probe task=$task weights="$pretrained"
  run $train +experiment=finetune task=$task weights="$pretrained"
  run $train +experiment=from_scratch task=$task $small
done
run python -m neuro_ssl.report
