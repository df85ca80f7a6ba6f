#!/usr/bin/env bash
# The paper's comparison at its own size, for who has its cohorts and a cluster. Nobody here has run it on them.
#   DOWNLOADS=/data bash experiments/kaczmarek2025/full.sh     # DRY_RUN=1 shows the commands alone
# DOWNLOADS holds a folder a cohort (adni, aibl, …), as downloaded; conf/dataset says how each is got. What is there already is
# not made again, so that the same command goes on, and parts can be given to the cluster one by one.
# Size: 44,958 scans to pretrain on, 1000 epochs, on 12 GPUs (the paper's; on others the same result, later). Evaluation:
# 96 trainings of up to 300 epochs, one GPU each; seeds and tasks are independent.
set -euo pipefail
DOWNLOADS=${DOWNLOADS:-/data}
runs=${NEURO_SSL_RUNS:-runs}

run() { printf '%s\n' "${*@Q}"; [ -n "${DRY_RUN:-}" ] || "$@"; }

for cohort in adni aomic corr dlbs gsp habs_hd mcsa nifd ppmi sald soop aibl ixi; do
  run python -m neuro_ssl.preprocess dataset=$cohort dataset.root="$DOWNLOADS/$cohort"
done

# split=stored withholds validation and test subjects of the eleven cohorts, SOOP's among them. The paper's recipes train on
# the test subjects too, as far as is known: leave it out for that, and give evaluate allow_leakage=true.
twelve_gpus=(strategy=ddp trainer.num_nodes=3 trainer.devices=4 split=stored)
launch=${LAUNCH:-srun --nodes=3 --ntasks-per-node=4 --gpus-per-node=4}
run $launch python -m neuro_ssl.train +experiment=kaczmarek2025/simclr_pretrain "${twelve_gpus[@]}"
run $launch python -m neuro_ssl.train +experiment=kaczmarek2025/mae_pretrain "${twelve_gpus[@]}"

weights() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$runs/$1-…"; else ls -d "$runs/$1"-*; fi
}
# Adam at 1e-4 for 300 epochs, batches of 6, no augmentation, raw labels: the paper's. Which two supervised networks it
# compares with is unknown to us: ResNet-18 and ViT-Tiny, its two encoders, are our choice.
training="batch_size=6 views=none early_stopping_patience=null trainer.max_epochs=300 trainer.gradient_clip_val=null
  optimizer.algorithm=adam optimizer.learning_rate=0.0001 optimizer.weight_decay=0.0 optimizer.schedule=constant
  optimizer.warmup_fraction=0.0"
raw="task.standardise_target=false task.standardise_features=false"
simclr=$(weights kaczmarek2025_simclr_pretrain) mae=$(weights kaczmarek2025_mae_pretrain)
evaluate() {
  run python -m neuro_ssl.evaluate "$@" "encoders={simclr: '$simclr', mae: '$mae'}" \
    "from_scratch=['resnet18 encoder.stem_stride=1',vit_tiny]" \
    'protocols=[ridge_probe,logistic_probe,linear_probe,finetune]' label_fractions=[0.2,1.0] label_seeds=[0] \
    seeds=[0,1,2] "train='$(echo $training)'"
}
evaluate +evaluation=aibl "tasks=['alzheimers $raw']"
evaluate +evaluation=ixi "tasks=['sex $raw','brain_age $raw']"
evaluate +evaluation=soop "tasks=['stroke_severity $raw']"
run python -m neuro_ssl.report
