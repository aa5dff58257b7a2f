#!/bin/sh
# One run on several machines. Type the same line on each of them, within half an hour:
#
#   examples/torchrun.sh FIRST MACHINES [options of laat train]
#   examples/torchrun.sh node1 2 --anchors expanded.st --data photos --out run
#
# FIRST      the machine that the others can reach by this name; its copy of --out is the one that is written
# MACHINES   how many there are
#
# Each machine needs the anchors and the data; --resume auto also needs to find --out on all of them (a shared folder).
# PROCESSES=4 (default: one a GPU) and PORT=29400 can be set in the environment. The batch size is that of all processes
# together, and the result does not hang on their number. On one machine this is enough:
#
#   torchrun --standalone --nproc-per-node gpu -m laatcli train --data photos
set -eu
first=$1 machines=$2
shift 2
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"
exec torchrun --nnodes "$machines" --nproc-per-node "${PROCESSES:-gpu}" --rdzv-backend c10d --rdzv-id laat \
    --rdzv-endpoint "$first:${PORT:-29400}" -m laatcli train --resume auto "$@"
