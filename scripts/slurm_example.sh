#!/bin/bash
# A recipe on two machines of eight GPUs through SLURM: sbatch scripts/slurm_example.sh
# Options behind it are handed on to kinema fit, as a recipe's weights and the batch of one GPU, here for steps of 64 videos:
#   CONFIG=experiments/recipes/ssv2/tsm_r50_8f.yaml DATA=FOLDER sbatch scripts/slurm_example.sh \
#       --init_from WEIGHTS --data.batch_size 4
# Copy it and change what your cluster asks for. SLURM starts one process for each GPU; Lightning finds the others from SLURM's
# variables, so --trainer.num_nodes and --trainer.devices must say what --nodes and --ntasks-per-node say.
#SBATCH --job-name=kinema
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=slurm-%j.out

set -euo pipefail

CONFIG=${CONFIG:-experiments/own_videos.yaml}
DATA=${DATA:?the folder of the videos}
RUNS=${RUNS:-runs}
# One id for all processes, and for the job when it is started again: it then goes on from its last checkpoint. SLURM starts it
# again when a machine fails (--requeue). 120 s before the time is up (--signal) kinema saves and ends with status 143, and the
# last line below asks for more time.
ID=slurm-${SLURM_JOB_ID:?start this with sbatch}
RUN=$RUNS/slurm/$ID

resume=()
if [[ -f $RUN/checkpoints/last.ckpt ]]; then
    resume=(--ckpt_path "$RUN/checkpoints/last.ckpt")
fi

status=0
srun kinema fit --config "$CONFIG" --data.root "$DATA" --run.root "$RUNS" --run.name slurm --run.id "$ID" \
    --trainer.accelerator gpu --trainer.num_nodes 2 --trainer.devices 8 --trainer.strategy ddp \
    --trainer.precision bf16-mixed --data.num_workers 8 --run.checkpoint_every_steps 500 "${resume[@]}" "$@" ||
    status=$?
if [[ $status == 143 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
