#!/bin/sh
# LAAT and its rivals on the bundled CLIP tower: fine-tune on seen classes of `shapes`, evaluate on novel ones and on other data sets.
#
# Every method has the same images, steps, batches and inner attack. METHODS are METHOD:LR.
# Environment: SEEDS="0 1 2", METHODS, OUT=runs/rivals. About a minute and a half of one core per training run, and 1 minute per evaluation.
set -eu
here=$(dirname "$0")
groups=$here/../demo_classifier
out=${OUT:-runs/rivals}
mkdir -p "$out"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
laat anchors --classes shapes --model demo --seen-file "$groups/seen.txt" --val-file "$groups/validation.txt" -o "$out/raw.st" --quiet
laat expand "$out/raw.st" -o "$out/expanded.st" --quiet

# train METHOD LR SEED
train() {
    objective=$1 anchors=$out/raw.st settings="--weight-decay 0"
    case $1 in
        laat) anchors=$out/expanded.st settings="--weight-decay 0 --tau 0.1" ;;
        fare) settings="--optimizer adamw --weight-decay 1e-4" ;;
    esac
    # shellcheck disable=SC2086
    laat train --objective "$objective" --anchors "$anchors" $settings --backbone clip:demo --data shapes --no-augment --no-seen-bias \
        --eps 2/255 --steps 2 --step-size 2/255 --batch-size 64 --epochs 1 --schedule cosine --warm-up 0.1 --lr "$2" --seed "$3" \
        --name "$1" --resume auto --out "$out/$1-lr$2-$3"
}

for seed in ${SEEDS:-0 1 2}; do
    for pair in ${METHODS:-laat:0.01 tecoa:0.0003 fare:0.01 pmg-aft:0.0001 agft:0.001 tga-zsr:0.0003}; do
        method=${pair%:*} rate=${pair#*:}
        train "$method" "$rate" "$seed"
        laat benchmark "$here/transfer.toml" "$method-$seed=$out/$method-lr$rate-$seed/model.st" -o "$out/reports" --no-checks --quiet
    done
done
laat benchmark "$here/transfer.toml" clip:demo -o "$out/reports" --no-checks
for data in shapes textured small; do
    laat report "$out"/reports/*-[0-9]/"$data"-linf-*-quick.json --group-by objective,anchors,eps --baseline objective=tecoa --format markdown
done
python "$here/drift.py" "$out"/*/model.st
