#!/usr/bin/env bash
# The paper's comparison, at a size for two cores: simulated people, and forty real ones.
#   bash experiments/kaczmarek2025/run.sh [REAL] [WORK]
# REAL: folder of real heads (*_T1.nii.gz) with participants.csv (MRID, Age, Sex); without it, simulated people alone.
# WORK keeps what was made (DRY_RUN=1 shows the commands alone): the same command goes on where it was interrupted, and ends with WORK/runs/report/report.html.
set -euo pipefail
real=${1:-}
work=${2:-kaczmarek2025}
export NEURO_SSL_DATA=$work/data NEURO_SSL_RUNS=$work/runs

run() { printf '%s\n' "${*@Q}"; [ -n "${DRY_RUN:-}" ] || "$@"; }

# The paper's networks, smaller: ResNet-18 with a quarter of its channels and a stem of stride 2, a ViT of half the width
# and a third of the layers, 4 mm voxels.
resnet="resnet18 encoder.width=16 encoder.stem_stride=2"
vit="vit_tiny encoder.width=96 encoder.n_layers=4 encoder.patch_size=[8,8,8]"
machine="grid=4mm strategy=cpu num_workers=0"

# More people with a disease than by default, so that enough of them are tested.
run python -m neuro_ssl.simulate spacing_mm=3 n_subjects=500 alzheimers_fraction=0.25 stroke_fraction=0.25
run python -m neuro_ssl.preprocess grid=4mm bias_correction=false registration=centre  # simulated heads stand upright

# split=stored: test subjects aren't pretrained on. The masked autoencoder's rate is that of our recipe: the full-size
# one's would learn nothing in as few steps.
pretrain="run python -m neuro_ssl.train $machine logger=csv batch_size=32"
paper="dataset=simulated split=stored"
$pretrain +experiment=kaczmarek2025/simclr_pretrain $paper encoder=$resnet trainer.sync_batchnorm=false \
  trainer.max_epochs=40
$pretrain +experiment=kaczmarek2025/mae_pretrain $paper encoder=$vit optimizer.learning_rate=0.0005 \
  trainer.max_epochs=60
$pretrain +experiment=simclr_pretrain encoder=$resnet trainer.max_epochs=40
made() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$NEURO_SSL_RUNS/$1-…"; else ls -d "$NEURO_SSL_RUNS/$1"-*; fi
}
simclr=$(made kaczmarek2025_simclr_pretrain)
encoders="{simclr: '$simclr', mae: '$(made kaczmarek2025_mae_pretrain)', our simclr: '$(made simclr_pretrain)'}"

common=($machine "encoders=$encoders" "from_scratch=['$resnet','$vit']"
  'protocols=[ridge_probe,logistic_probe,finetune]')
run python -m neuro_ssl.evaluate "${common[@]}" 'tasks=[alzheimers,sex,brain_age,stroke_severity]' \
  label_fractions=[0.2,1.0] label_seeds=[0] seeds=[0,1,2] 'train="trainer.max_epochs=12 logger=csv"'
run python "$(dirname "$0")/twenty_percent.py" "$(made evaluation-simulated)"

# Where it looks: one of the fine-tuned models, which the same command finds again.
fine_tune=(python -m neuro_ssl.train +experiment=finetune task=alzheimers "weights='$simclr'" $machine logger=csv
  trainer.max_epochs=12 open_test=false)
run "${fine_tune[@]}"
fine_tuned="$NEURO_SSL_RUNS/finetune-alzheimers-…"
[ -n "${DRY_RUN:-}" ] || fine_tuned=$("${fine_tune[@]}" | sed -n 's/.*finished: //p')
run python -m neuro_ssl.explain "weights='$fine_tuned'" grid=4mm max_scans=20

if [ -n "$real" ]; then
  run python -m neuro_ssl.preprocess grid=4mm bias_correction=false registration=centre dataset=csv \
    dataset.cohort=ixi dataset.root="$real" dataset.table=participants.csv \
    'dataset.columns={subject_id: MRID, age_years: Age, sex: Sex}' 'dataset.image_pattern="{MRID}_T1.nii.gz"' \
    'splits={train: 1.0, val: 0, test: 0}'
  run python -m neuro_ssl.evaluate +evaluation=small_cohort "${common[@]}" dataset=csv dataset.cohort=ixi \
    'tasks=[sex,brain_age]' cross_validation.n_repeats=1 'train="trainer.max_epochs=12 logger=csv"'
fi
run python -m neuro_ssl.report
