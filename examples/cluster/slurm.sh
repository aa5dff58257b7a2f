#!/bin/bash
# Train on several nodes under SLURM. The job requeues itself and resumes after a time limit or a preemption.
#
#   sbatch examples/cluster/slurm.sh [options of laat train]
#   sbatch --nodes 4 examples/cluster/slurm.sh --anchors expanded.st --data photos --out run
#
# --out must be on a file system that all nodes share. The number of nodes may change when the job resumes.
# Environment: PROCESSES=4 sets the processes per node (default: one per GPU).
#SBATCH --job-name=laat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -eu

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
processes=${PROCESSES:-${SLURM_GPUS_ON_NODE:-gpu}}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"

# SLURM sends TERM two minutes before the time limit: all processes stop at the same step and rank 0 saves state.st
asked=
trap 'asked=yes; kill -TERM "$step" 2>/dev/null || true' TERM

srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$processes" \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$((20000 + SLURM_JOB_ID % 20000))" \
    -m laatcli train --resume auto "$@" &
step=$!

code=0
wait "$step" || code=$?
if [ -n "$asked" ]; then # the signal interrupted wait, not the training: wait again
    code=0
    wait "$step" || code=$?
fi
if [ -n "$asked" ] && [ "$code" -ne 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
