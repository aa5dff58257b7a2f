#!/bin/sh
# CIFAR-FS: train one model with the fast recipe and evaluate it under each protocol of laat eval.
#
#   examples/cifar_fs/report.sh DATA [FEATURES]
#
# DATA and FEATURES as for run.sh.
# Environment: OUT=runs/cifar_fs_report, EPOCHS=12, PRECISION=auto (of the inner attack), EPISODES=500, QUERIES=10.
# README.md has the minutes. Finished parts are skipped, interrupted ones are resumed.
#
# Trained on CIFAR-100's split train only, so that gzsl has held-out images of the seen classes, and with a bias on the seen
# classes, which is fitted on the validation classes.
set -eu
data=$1
features=${2:-}
out=${OUT:-runs/cifar_fs_report}
mkdir -p "$out"

[ -f "$out/expanded.st" ] || {
    laat anchors --classes cifar-fs ${features:+--features "$features"} -o "$out/raw.st"
    laat expand "$out/raw.st" -o "$out/expanded.st"
}
laat train --recipe cifar-fs-fast --seen-bias --attack-precision "${PRECISION:-auto}" --anchors "$out/expanded.st" --data "$data" \
    --split train --epochs "${EPOCHS:-12}" --seed 0 --resume auto --out "$out/model"

# evaluate NAME OPTIONS…
# The last epoch, as in run.sh.
evaluate() {
    name=$1
    shift
    laat eval "$out/model/last.st" --data "$data" -o "$out/$name.json" "$@"
}

# novel classes were not used in training: evaluate on all 600 images of each
novel="--split train+test --protocol episodes --ways 5 --queries ${QUERIES:-10} --episodes ${EPISODES:-500}"
# shellcheck disable=SC2086  # several words
{
    evaluate shots $novel --suite quick --shots 0,1,5 --plot "$out/shots.png"
    evaluate blended $novel --suite quick --shots 1,5 --blend 2
    evaluate attacks $novel --attack fgsm --attack pgd-20 --attack cw-linf --attack margin-pgd-20
}
evaluate gzsl --split test --protocol gzsl --suite quick --plot "$out/gzsl.png"
for name in attacks shots blended gzsl; do
    laat report "$out/$name.json" --format markdown
done
