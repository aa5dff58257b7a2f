#!/bin/sh
# CIFAR-FS with a small recipe: zero-shot adversarial robustness on 20 novel classes, for expanded, raw and random anchors.
#
#   examples/cifar_fs/run.sh DATA [FEATURES]
#
# DATA      CIFAR-100: a folder of parquet files, a saved data set, or the hub id uoft-cs/cifar100
# FEATURES  optional text features of the 100 classes in CIFAR-FS order (.npy or safetensors); without it the names are
#           encoded with CLIP ViT-B/16, whose weights open_clip downloads
#
# Environment: SEEDS="0 1 2", ANCHORS="expanded raw random", OUT=runs/cifar_fs, EPISODES=500.
# About 17 minutes per run (12 to train, 5 to evaluate) on one core of a busy 2-core machine. Finished runs and reports are skipped.
set -eu
data=$1
features=${2:-}
out=${OUT:-runs/cifar_fs}
mkdir -p "$out"

laat anchors --classes cifar-fs ${features:+--features "$features"} -o "$out/raw.st"
laat expand "$out/raw.st" -o "$out/expanded.st" --plot "$out/cosines.png"
laat anchors --classes cifar-fs --source random --dim 512 -o "$out/random.st"

# CIFAR-FS regroups all 60,000 images by class; the groups share no class, so both splits are used for training and evaluation
for seed in ${SEEDS:-0}; do
    for anchors in ${ANCHORS:-expanded raw random}; do
        laat train --anchors "$out/$anchors.st" --data "$data" --split train+test --backbone conv4-64 \
            --epochs 4 --batch-size 128 --lr 0.1 --schedule one-cycle --steps 3 --no-seen-bias --seed "$seed" --out "$out/$anchors-$seed"
        laat eval "$out/$anchors-$seed/model.st" --data "$data" --split train+test --classes-from novel \
            --protocol episodes --ways 5 --shots 0 --queries 10 --episodes "${EPISODES:-500}" \
            --attack pgd-20 --attack margin-pgd-20 -o "$out/$anchors-$seed/report.json"
    done
done
python "$(dirname "$0")/table.py" "$out"
