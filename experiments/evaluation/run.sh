#!/usr/bin/env bash
# The whole protocol, once on a simulated cohort and once on real heads.
#   bash experiments/evaluation/run.sh REAL [WORK]
# REAL: folder of real heads (*_T1.nii.gz) with participants.csv (MRID, Age, Sex); WORK keeps what was made.
set -euo pipefail
real=$1
work=${2:-evaluation}
export NEURO_SSL_DATA=$work/data NEURO_SSL_RUNS=$work/runs

run() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

# A size for two cores: 6 mm voxels, and of the ViT 5×6×6 patches of 36 mm. SFCN wants 32 voxels along each axis, so that
# what is trained from scratch sees a larger box than the pretrained encoders do, each of which gets its own.
own=6mm
larger=32x32x32@6mm
run python -m neuro_ssl.simulate effects=realistic spacing_mm=3 n_subjects=300 scanners_per_site=2 \
  'field_strengths=[1.5, 3.0]' retest_fraction=0.3
for grid in $own $larger; do
  # Weights are given real heads as they were given simulated ones: centred alone.
  # (A few of the oldest simulated brains have too little contrast at 1.5 T: they are left out, which is exit status 1.)
  run python -m neuro_ssl.preprocess grid=$grid bias_correction=false registration=centre || [ $? = 1 ]
  run python -m neuro_ssl.preprocess grid=$grid bias_correction=false registration=centre dataset=csv \
    dataset.cohort=ixi dataset.root="$real" dataset.table=participants.csv \
    'dataset.columns={subject_id: MRID, age_years: Age, sex: Sex}' 'dataset.image_pattern="{MRID}_T1.nii.gz"' \
    'splits={train: 1.0, val: 0, test: 0}'
done

resnet="resnet18 encoder.width=16 encoder.stem_stride=1"
vit="vit_tiny encoder.patch_size=[6,6,6] encoder.n_layers=4"
train="run python -m neuro_ssl.train grid=$own logger=csv strategy=cpu"
$train +experiment=simclr_pretrain encoder=$resnet trainer.max_epochs=20
$train +experiment=yaware_pretrain encoder=$resnet trainer.max_epochs=20
$train +experiment=mae_pretrain encoder=$vit trainer.max_epochs=30
weights() { ls -d "$NEURO_SSL_RUNS/$1"_pretrain-*; }

common=(grid=$larger strategy=cpu "from_scratch=['$resnet','$vit',sfcn]")
all="[ridge_probe,logistic_probe,knn_probe,linear_probe,finetune]"
encoders="{simclr: $(weights simclr), yaware: $(weights yaware), mae: $(weights mae)}"

# Simulated: four tasks, label efficiency of the probes, reliability over retests and scanners …
run python -m neuro_ssl.evaluate +evaluation=label_efficiency "${common[@]}" "encoders=$encoders" "protocols=$all" \
  'tasks=[brain_age,sex,alzheimers,stroke_severity]' 'train_fractions=[1.0]' 'train="trainer.max_epochs=5 logger=csv"'
# … the same people out of distribution, and real heads by models of simulated ones.
run python -m neuro_ssl.evaluate "${common[@]}" "encoders=$encoders" 'tasks=[brain_age,sex]' from_scratch=[] \
  'test_sets=[leave_site_out,ixi]'

# Real: repeated nested cross-validation, with an encoder that was pretrained on simulated heads alone.
run python -m neuro_ssl.evaluate +evaluation=small_cohort "${common[@]}" dataset=csv dataset.cohort=ixi \
  "encoders={simclr: $(weights simclr)}" "protocols=$all" cross_validation.n_repeats=2 \
  'train="trainer.max_epochs=10 logger=csv"'
