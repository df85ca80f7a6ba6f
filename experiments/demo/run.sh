#!/usr/bin/env bash
# The whole path on a simulated cohort, each command shown as it can be typed again. `make demo` runs this.
set -euo pipefail

run() {
  printf '\n\033[1m$ %s\033[0m\n' "$*"
  "$@"
}

# Small enough for two cores: a quarter of ResNet-18's channels, fewer epochs than the recipes. Each training command
# is a sweep over the two tasks (-m).
small="encoder.width=16"
train="python -m neuro_ssl.train"
tasks="task=brain_age,sex"

run python -m neuro_ssl.simulate spacing_mm=3
run python -m neuro_ssl.preprocess registration=centre bias_correction=false  # simulated heads stand upright
run $train +experiment=simclr_pretrain $small trainer.max_epochs=36
pretrained=$(ls -td runs/simclr_pretrain-* | head -n 1)

run $train -m +experiment=linear_probe $tasks weights="$pretrained"
run $train -m +experiment=linear_probe $tasks $small                  # an untrained encoder, for comparison
run $train -m +experiment=finetune $tasks weights="$pretrained" trainer.max_epochs=12
run $train -m +experiment=from_scratch $tasks $small trainer.max_epochs=12
run python -m neuro_ssl.explain weights="$(ls -td runs/finetune-brain_age-* | head -n 1)" max_scans=10
run python -m neuro_ssl.report
