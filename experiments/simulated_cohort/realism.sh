#!/usr/bin/env bash
# bash experiments/simulated_cohort/realism.sh HEADS WORK: the stores that realism.py compares. HEADS is the folder of
# whole IXI heads at 2 mm with participants.csv (columns MRID, Age, Sex). Most of the time is N4 and deepbet.
set -euo pipefail
heads=$1 work=$2
python -m neuro_ssl.preprocess dataset=csv dataset.cohort=ixi dataset.root="$heads" dataset.table=participants.csv \
  'dataset.columns={subject_id: MRID, age_years: Age, sex: Sex}' 'dataset.image_pattern="{MRID}_T1.nii.gz"' \
  brain_extraction=deepbet grid=2mm data_dir="$work"
for effects in teaching realistic; do  # healthy people of the ages of IXI's heads; brains found as in the real scans
  python -m neuro_ssl.simulate effects=$effects output="$work/bids_$effects" n_subjects=24 spacing_mm=2 \
    'age_range=[50,74]' alzheimers_fraction=0 stroke_fraction=0 follow_up_fraction=0
  python -m neuro_ssl.preprocess dataset=bids dataset.root="$work/bids_$effects" dataset.cohort=$effects \
    brain_extraction=deepbet grid=2mm data_dir="$work"
done
