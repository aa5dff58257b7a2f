#!/bin/sh
# CIFAR-FS: train one model and run every kind of evaluation on it.
#
#   examples/cifar_fs/report.sh DATA [FEATURES]
#
# DATA and FEATURES as for run.sh.
# Environment: OUT=runs/cifar_fs_report, EPOCHS=10, EPISODES=100 (except few-shot), FEW_SHOT_EPISODES=500, QUERIES=10.
# On 2 cores: 9 minutes of training, 47 of AutoAttack on a busy machine, about 15 for the rest. Finished parts are skipped,
# interrupted ones are resumed.
#
# Trained on CIFAR-100's split train only, so that gzsl has held-out images of the seen classes.
set -eu
data=$1
features=${2:-}
out=${OUT:-runs/cifar_fs_report}
mkdir -p "$out"

[ -f "$out/expanded.st" ] || {
    laat anchors --classes cifar-fs ${features:+--features "$features"} -o "$out/raw.st"
    laat expand "$out/raw.st" -o "$out/expanded.st"
}
laat train --anchors "$out/expanded.st" --data "$data" --split train --backbone conv4-64 --epochs "${EPOCHS:-10}" \
    --batch-size 128 --lr 0.1 --schedule one-cycle --steps 3 --no-seen-bias --seed 0 --resume auto --out "$out/model"

# evaluate NAME OPTIONS…
evaluate() {
    name=$1
    shift
    laat eval "$out/model/model.st" --data "$data" -o "$out/$name.json" "$@"
}

# novel classes were not used in training: evaluate on all 600 images of each
novel="--split train+test --protocol episodes --ways 5 --queries ${QUERIES:-10}"
hundred="--episodes ${EPISODES:-100}"
more="--episodes ${FEW_SHOT_EPISODES:-500} --attack pgd-20 --attack margin-pgd-20"
# shellcheck disable=SC2086  # each variable is several words
{
    evaluate white-box $novel $hundred --attack fgsm --attack pgd-20 --attack cw-linf --attack margin-pgd-20
    evaluate shots $novel $more --shots 0,1,5 --plot "$out/shots.png"
    evaluate blended $novel $more --shots 1,5 --blend 2
}
evaluate gzsl --split test --protocol gzsl --attack pgd-20 --attack margin-pgd-20 --plot "$out/gzsl.png"
# shellcheck disable=SC2086
evaluate autoattack $novel $hundred --suite aa-few-class
for name in white-box autoattack shots blended gzsl; do
    laat report "$out/$name.json" --format markdown
done
