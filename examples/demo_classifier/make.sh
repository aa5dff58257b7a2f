#!/bin/sh
# Train the classifier `demo` that comes with the package: LAAT on the bundled shapes, with the bundled text encoder.
set -eu
here=$(dirname "$0")
out=${OUT:-demo_classifier}
mkdir -p "$out"
laat anchors --classes shapes --model demo --seen-file "$here/seen.txt" --val-file "$here/validation.txt" -o "$out/anchors.st"
laat expand "$out/anchors.st" -o "$out/expanded.st"
laat train --anchors "$out/expanded.st" --recipe shapes-demo --data shapes --lr 0.2 --steps 7 --epochs "${EPOCHS:-25}" --out "$out/run"
