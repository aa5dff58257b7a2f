#!/bin/sh
# The whole pipeline as a shell script, on bundled data: class names -> anchors -> expanded anchors -> model -> attack -> report.
# Each stage writes one file, so a Makefile or a CI job can start at any stage.
# Environment: EPOCHS=1 (a smoke test; 4 epochs train a useful model), BACKBONE=conv4-64, OUT=quickstart.
set -eu
out=${OUT:-quickstart}
mkdir -p "$out"
laat anchors --classes shapes --model demo -o - | laat expand - -o "$out/expanded.st"
laat train --anchors "$out/expanded.st" --data shapes --backbone "${BACKBONE:-conv4-64}" --epochs "${EPOCHS:-1}" --steps 3 --lr 0.1 \
    --schedule one-cycle --out "$out/run"
laat attack "$out/run/model.st" --data shapes --classes-from novel --attack pgd-20 -o "$out/adversarial.st"
laat eval "$out/run/model.st" --adversarial "$out/adversarial.st" -o "$out/saved.json"
laat eval "$out/run/model.st" --data shapes --attack pgd-20 --json -o "$out/report.json" > "$out/stdout.json"
laat inspect "$out/run/model.st"
