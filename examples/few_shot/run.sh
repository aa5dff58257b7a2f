#!/bin/sh
# LAAT without support images against few-shot training: adversarial querying and transfer, CIFAR-FS, conv4-64.
#
#   examples/few_shot/run.sh DATA [FEATURES]
#
# DATA      CIFAR-100: a folder of parquet files, a saved data set, or the hub id uoft-cs/cifar100
# FEATURES  optional text features of the 100 classes in CIFAR-FS order (.npy or safetensors), as in examples/cifar_fs
#
# All methods take the same number of gradient steps, attack steps and images per step. Each tries the same number of learning
# rates with the first seed and keeps the one that is best on the validation classes; the novel classes are evaluated once.
#
# Environment: SEEDS="0 1 2", METHODS="laat aq-protonet-1 aq-protonet-5 aq-r2d2-5 at-linear", OUT=runs/few_shot,
# EPISODES=500, EPOCHS=3. About 3 minutes of one core per training run, and 2 per report. Interrupted runs are resumed,
# finished ones are skipped.
set -eu
data=$1
features=${2:-}
here=$(dirname "$0")
out=${OUT:-runs/few_shot}
seeds=${SEEDS:-0 1 2}
first=${seeds%% *}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
mkdir -p "$out"

run() { nice "${LAAT:-laat}" "$@"; }

# the options of a method: 320 images per step, of which AQ attacks the queries
options() {
    case $1 in
        laat) echo "--batch-size 320" ;;
        at-linear) echo "--objective at-linear --batch-size 320" ;;
        aq-*-1) echo "--objective aq --head $(echo "$1" | cut -d- -f2) --shots 1 --queries 15 --steps-per-epoch 120" ;;
        aq-*-5) echo "--objective aq --head $(echo "$1" | cut -d- -f2) --shots 5 --queries 11 --steps-per-epoch 120" ;;
    esac
}

# logits of cosines at tau 1 have smaller gradients and need larger rates
rates() {
    case $1 in
        laat) echo "0.3 1.0 3.0" ;;
        *) echo "0.1 0.3 1.0" ;;
    esac
}

# train METHOD RATE SEED
train() {
    folder=$out/$1-lr$2-$3
    [ -f "$folder/model.st" ] && [ ! -f "$folder/state.st" ] && return
    # shellcheck disable=SC2046
    run train --anchors "$out/expanded.st" --data "$data" --split train+test --resize 16 --backbone conv4-64 $(options "$1") \
        --epochs "${EPOCHS:-3}" --lr "$2" --schedule one-cycle --steps 3 --crop-padding 2 --no-seen-bias --seed "$3" \
        --resume auto --out "$folder"
}

# evaluate METHOD RATE SEED
evaluate() {
    report=$out/$1-$3.json
    [ -f "$report" ] && return
    case $1 in
        laat) how="--shots 0,1,5" ;;
        *-r2d2-*) how="--shots 1,5 --head r2d2" ;;
        *) how="--shots 1,5 --head protonet" ;;
    esac
    # shellcheck disable=SC2086
    run eval "$out/$1-lr$2-$3/model.st" --data "$data" --split train+test --classes-from novel --protocol episodes --ways 5 \
        --queries 2 --episodes "${EPISODES:-500}" $how --attack pgd-20 --attack margin-pgd-20 --no-checks -o "$report"
}

if [ ! -f "$out/expanded.st" ]; then
    run anchors --classes cifar-fs ${features:+--features "$features"} -o "$out/raw.st"
    run expand "$out/raw.st" -o "$out/expanded.st"
fi
for method in ${METHODS:-laat aq-protonet-1 aq-protonet-5 aq-r2d2-5 at-linear}; do
    for rate in $(rates "$method"); do
        train "$method" "$rate" "$first"
    done
    best=$(python "$here/best_rate.py" "$out" "$method" "$first")
    for seed in $seeds; do
        train "$method" "$best" "$seed"
        evaluate "$method" "$best" "$seed"
    done
done
run report "$out"/*-[0-9].json --group-by objective,training.head,training.shots,shots --over seed \
    --baseline objective=laat,shots=0 --format markdown
