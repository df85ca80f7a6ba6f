#!/usr/bin/env bash
# Sweeps as users run them, on a simulated cohort; two of them are killed at a random moment and started again.
#   bash experiments/sweeps/run.sh WORK
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?a folder to work in}"
cd "$1"
export NEURO_SSL_DATA=$PWD/data OMP_NUM_THREADS=1
RANDOM=20261126
train="python -m neuro_ssl.train"
small="grid=6mm encoder.width=16 trainer.max_epochs=20 strategy=cpu num_workers=0 logger=csv"

run() {
  printf '\n$ %s\n' "$*"
  "$@"
}
killed() { # after at most this many seconds, itself and all that it started
  local most=$1 seconds
  shift
  seconds=$((10 + RANDOM % (most - 10)))
  printf '\n$ %s\n' "$*"
  setsid "$@" &
  sleep "$seconds"
  kill -9 -- -$! && echo "killed after $seconds s"
  wait $! || true
}

if [ ! -d data ]; then
  run python -m neuro_ssl.simulate spacing_mm=3
  run python -m neuro_ssl.preprocess grid=6mm registration=centre bias_correction=false
fi

echo "== One: eight points of pretraining on two cores, undisturbed, and killed and started again"
points="-m +sweep=simclr_temperature $small task.temperature=0.1,0.5 seed=0,1,2,3 hydra/launcher=joblib"
begin=$SECONDS
run $train $points runs_dir=undisturbed
lasted=$((SECONDS - begin))
killed $lasted $train $points runs_dir=runs
run $train $points runs_dir=runs
python "$here/compare.py" undisturbed runs

echo "== Two: which temperature? Probes of brain age on what came of it, chosen by validation, the choice tested once"
weights=$(find runs -maxdepth 1 -name "simclr_pretrain-*" | sort | paste -sd,)  # as the table has printed them
run $train -m +experiment=linear_probe task=brain_age grid=6mm strategy=cpu num_workers=0 logger=csv runs_dir=runs \
  open_test=false weights="$weights" hydra/launcher=joblib
best=$(sed -n "s/^ *python -m neuro_ssl.train//p" "$(find runs/.sweeps -name sweep.md | sort | tail -n 1)")
run $train $best

echo "== Three: a study of ten trials, undisturbed, and killed and resumed"
study="-m +sweep=optuna_simclr $small hydra.sweeper.n_trials=10 representation_every_epochs=5 \
  hydra.sweeper.sampler.n_startup_trials=4 hydra.sweeper.pruner.n_startup_trials=3 hydra.sweeper.pruner.n_warmup_steps=5"
begin=$SECONDS
run $train $study runs_dir=undisturbed
lasted=$((SECONDS - begin))
killed $lasted $train $study runs_dir=runs
run $train $study runs_dir=runs
python "$here/compare.py" undisturbed runs
