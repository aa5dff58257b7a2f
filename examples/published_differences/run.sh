#!/bin/sh
# What the differences to the published program change: small models on CIFAR-FS at 16 px, evaluated on the validation classes.
#
#   examples/published_differences/run.sh DATA [FEATURES]
#
# DATA and FEATURES are those of examples/cifar_fs/run.sh. Environment: SEEDS="0 1 2", OUT=runs/published_differences,
# EPISODES=500. About a minute per training run on one core. Finished runs are skipped.
set -eu
data=$1
features=${2:-}
out=${OUT:-runs/published_differences}
here=$(dirname "$0")
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out"

laat anchors --classes cifar-fs ${features:+--features "$features"} -o "$out/raw.st"
laat expand "$out/raw.st" -o "$out/expanded.st"

train() { # NAME OPTIONS...: all other settings are the same
    name=$1
    shift
    laat train --anchors "$out/expanded.st" --data "$data" --split train+test --resize 16 --epochs 2 --lr 1 \
        --schedule one-cycle --steps 3 --no-seen-bias --seed "$seed" --out "$out/$name-$seed" "$@"
}

evaluate() { # RUN REPORT OPTIONS...
    run=$1
    report=$2
    shift 2
    laat eval "$out/$run/last.st" --data "$data" --split train+test --resize 16 --classes-from val --protocol episodes \
        --queries 10 --episodes "${EPISODES:-500}" --attack pgd-20 --attack margin-pgd-20 -o "$out/$run/$report.json" "$@"
}

for seed in ${SEEDS:-0 1 2}; do
    train laat
    train laat-published --objective published:Laat
    train conv-biases --backbone published:conv4_64_with_biases
    for distance in cos:CosineDistance acos:AngularDistance l2:EuclideanDistance; do
        train "${distance%:*}" --objective "${distance%:*}"
        train "${distance%:*}-published" --objective "published:${distance#*:}"
    done
done
for seed in ${SEEDS:-0 1 2}; do
    for name in laat laat-published cos cos-published acos acos-published l2 l2-published; do
        evaluate "$name-$seed" zero-shot
    done
    evaluate "conv-biases-$seed" zero-shot --backbone published:conv4_64_with_biases
    evaluate "laat-$seed" images --shots 1,5
    for blend in 0.15 2; do
        evaluate "laat-$seed" "blend-$blend" --shots 1,5 --blend "$blend"
    done
    evaluate "laat-$seed" blend-raw --shots 1,5 --blend 2 --support-embeddings raw
done
python "$here/table.py" "$out"
