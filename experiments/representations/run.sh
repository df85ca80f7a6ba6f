#!/usr/bin/env bash
# Pretrain the same encoders in several ways on simulated brains, then probe their frozen features.
#   bash experiments/representations/run.sh REAL [WORK]
# REAL: folder of real heads (*_T1.nii.gz) with participants.csv (MRID, Age, Sex); WORK keeps what was made.
set -euo pipefail
real=$1
work=${2:-representations}
here=$(dirname "$0")
export NEURO_SSL_DATA=$work/data NEURO_SSL_RUNS=$work/runs

run() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

# A size that two cores train within ten minutes a method: 6 mm voxels, and of the ViT 5×6×6 patches of 36 mm.
prepared="grid=6mm bias_correction=false"
run python -m neuro_ssl.simulate effects=realistic spacing_mm=4 n_subjects=300
run python -m neuro_ssl.preprocess $prepared registration=centre
run python -m neuro_ssl.preprocess $prepared registration=rigid dataset=csv dataset.cohort=ixi dataset.root="$real" \
  dataset.table=participants.csv 'dataset.columns={subject_id: MRID, age_years: Age, sex: Sex}' \
  'dataset.image_pattern="{MRID}_T1.nii.gz"' 'splits={train: 1.0, val: 0, test: 0}'

train="run python -m neuro_ssl.train grid=6mm logger=csv strategy=cpu"
vit="encoder=vit_tiny encoder.patch_size=[6,6,6] encoder.n_layers=4"
resnet="encoder=resnet18 encoder.width=16 encoder.stem_stride=1"
$train +experiment=simclr_pretrain $resnet trainer.max_epochs=40
$train +experiment=yaware_pretrain $resnet trainer.max_epochs=40
$train +experiment=mae_pretrain $vit trainer.max_epochs=60
$train +experiment=simclr_pretrain $vit trainer.max_epochs=20
$train +experiment=simclr_mae_pretrain $vit trainer.max_epochs=20
run python "$here/probe.py" "$work"
