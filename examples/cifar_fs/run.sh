#!/bin/sh
# Zero-shot adversarial robustness on CIFAR-FS. The rows of the tables in README.md are the names in ROWS.
#
#   ROWS="published fast-centre" SEEDS="0 1 2" examples/cifar_fs/run.sh DATA [FEATURES]
#
# DATA      CIFAR-100: a folder of parquet files, a saved data set, or the hub id uoft-cs/cifar100
# FEATURES  optional text features of the 100 classes: safetensors with `classes` (a JSON list of the names) in the header, or
#           .npy in the order of the class list; without it, the names are encoded with CLIP ViT-B/16, which open_clip downloads
#
# Environment: ROWS="published fast-paper fast-centre", SEEDS=0, EPOCHS=12, EPISODES=500, CLASSES=cifar-fs (or fc100),
# PRECISION=auto (of the inner attack), NOVEL=1 (0: validation classes alone), AUTOATTACK=0 (1 adds aa-few-class),
# OUT=runs/CLASSES.
# Interrupted runs are resumed; finished runs and reports are kept. README.md has the minutes of each row.
set -eu
data=$1
features=${2:-}
classes=${CLASSES:-cifar-fs}
out=${OUT:-runs/$classes}
mkdir -p "$out"

[ -f "$out/simplex.st" ] || {
    laat anchors --classes "$classes" ${features:+--features "$features"} -o "$out/raw.st"
    laat expand "$out/raw.st" -o "$out/paper.st"
    laat expand "$out/raw.st" --method centre -o "$out/centre.st"
    laat expand "$out/raw.st" --method whiten --shrinkage 0.5 -o "$out/whiten.st"
    laat anchors --classes "$classes" --source random --dim 512 -o "$out/random.st"
    laat anchors --classes "$classes" --source simplex --dim 512 -o "$out/simplex.st"
}

# settings ROW: the anchors and the options of laat train
settings() {
    anchors=paper
    options="--recipe cifar-fs-fast"
    case $1 in
        published) options="--recipe cifar-fs-conv4 --backbone conv4-64" ;;
        fast-paper | fast-centre | fast-whiten | fast-raw | fast-random | fast-simplex) anchors=${1#fast-} ;;
        published-512) options="--recipe cifar-fs-conv4" ;;
        plus-512) options="--recipe cifar-fs-conv4-plus" ;;
        fast-at | fast-trades | fast-cos | fast-acos | fast-l2) options="$options --objective ${1#fast-}" ;;
        fast-ema) options="$options --ema 0.99" ;;
        fast-pgd-7) options="$options --eps 8/255 --steps 7 --step-size 2/255" ;;
        fast-pgd-3) options="$options --eps 8/255 --steps 3 --step-size 2/255" ;;
        fast-pgd-1) options="$options --eps 8/255 --steps 1 --step-size 10/255" ;;
        fast-n-fgsm) options="$options --eps 8/255 --inner n-fgsm --steps 1 --step-size 8/255" ;;
        *) echo "run.sh: unknown row '$1'" >&2 && exit 2 ;;
    esac
}

# evaluate NAME OPTIONS…
# The last epoch: the best one is chosen on few images, and is not always better. Training and evaluation have no classes in
# common, so both use all images of their classes.
evaluate() {
    name=$1
    shift
    laat eval "$run/last.st" --data "$data" --split train+test -o "$run/$name.json" "$@"
}

rows=${ROWS:-published fast-paper fast-centre}
for seed in ${SEEDS:-0}; do
    for row in $rows; do
        settings "$row"
        run="$out/$row-$seed"
        # shellcheck disable=SC2086  # several words
        laat train --attack-precision "${PRECISION:-auto}" $options --anchors "$out/$anchors.st" --data "$data" --split train+test \
            --epochs "${EPOCHS:-12}" --seed "$seed" --name "$row" --resume auto --out "$run"
        episodes="--protocol episodes --ways 5 --shots 0 --queries 10"
        # shellcheck disable=SC2086
        {
            evaluate val --classes-from val --suite quick
            evaluate val-5-way --classes-from val --suite quick $episodes --episodes 200
            [ "${NOVEL:-1}" = 0 ] || evaluate all-way --suite quick
            [ "${NOVEL:-1}" = 0 ] || evaluate 5-way --suite quick $episodes --episodes "${EPISODES:-500}"
            [ "${AUTOATTACK:-0}" = 0 ] || evaluate autoattack --suite aa-few-class $episodes --episodes 100
        }
    done
done
reports="val val-5-way"
[ "${NOVEL:-1}" = 0 ] || reports="$reports all-way 5-way"
case $rows in
    published\ * | *\ published | *\ published\ *) baseline="--baseline published" ;;
    *) baseline= ;;
esac
for report in $reports; do
    # shellcheck disable=SC2086  # two words, or none
    laat report "$out"/*-[0-9]*/$report.json --group-by name --over seed $baseline --format markdown
done
