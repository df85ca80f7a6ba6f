#!/usr/bin/env bash
# bash experiments/explanations/run.sh WORK: simulates, trains, explains, prints the tables; given again, it goes on
set -euo pipefail
cd "$(dirname "$0")/../.."
WORK=$1

# prepare COHORT SUBJECTS what of the simulation differs from its defaults; train COHORT TASK what of the recipe
prepare() {
    local cohort=$1 n_subjects=$2
    shift 2
    python -m neuro_ssl.simulate output="$WORK/data/$cohort" n_subjects="$n_subjects" spacing_mm=3 follow_up_fraction=0 "$@"
    python -m neuro_ssl.preprocess dataset=simulated dataset.cohort="$cohort" dataset.root="$WORK/data/$cohort" \
        data_dir="$WORK/data" grid=4mm bias_correction=false registration=centre
}
train() {
    python -m neuro_ssl.train +experiment=from_scratch dataset=simulated grid=4mm encoder.width=16 strategy=cpu logger=csv \
        num_workers=0 data_dir="$WORK/data" dataset.cohort="$1" runs_dir="$WORK/runs/$1" task="$2" "${@:3}"
}

prepare lifespan 500 alzheimers_fraction=0 stroke_fraction=0.4
train lifespan brain_age
prepare cortical 500 alzheimers_fraction=0 stroke_fraction=0 effects.ventricle_mm=0
train cortical brain_age
prepare memory 300 alzheimers_fraction=0.5 stroke_fraction=0 'age_range=[55,90]'
train memory alzheimers
prepare stroke 600 alzheimers_fraction=0 stroke_fraction=1
train stroke stroke_severity trainer.max_epochs=40 views=standard

python experiments/explanations/planted.py "$WORK"
python experiments/explanations/reliance.py "$WORK"
