#!/bin/sh
# Train on several machines. Run the same command on each of them, within half an hour:
#
#   examples/cluster/torchrun.sh FIRST MACHINES [options of laat train]
#   examples/cluster/torchrun.sh node1 2 --anchors expanded.st --data photos --out run
#
# FIRST      host name of the machine that the others connect to; results are written to --out on this machine
# MACHINES   number of machines
#
# Every machine needs the anchors and the data. To resume, every machine also needs to read --out (a shared folder).
# Environment: PROCESSES=4 (per machine; default: one per GPU), PORT=29400. --batch-size is the total over all processes.
# On one machine no script is needed:
#
#   torchrun --standalone --nproc-per-node gpu -m laatcli train --data photos
set -eu
first=$1 machines=$2
shift 2
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
exec torchrun --nnodes "$machines" --nproc-per-node "${PROCESSES:-gpu}" --rdzv-backend c10d --rdzv-id laat \
    --rdzv-endpoint "$first:${PORT:-29400}" -m laatcli train --resume auto "$@"
