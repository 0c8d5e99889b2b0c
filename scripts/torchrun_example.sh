#!/bin/bash
# A recipe on the GPUs of one machine, or of several that can reach each other, through torchrun:
#   DATA=FOLDER bash scripts/torchrun_example.sh
# Options behind it are handed on to kinema fit, such as --init_from WEIGHTS and --data.batch_size.
# On several machines, on each of them: NODES=2 HEAD=first-machine:29500 DATA=FOLDER ID=NAME bash scripts/torchrun_example.sh
# One machine needs no torchrun: kinema fit ... --trainer.devices 8 --trainer.strategy ddp starts the processes itself.

set -euo pipefail

CONFIG=${CONFIG:-experiments/own_videos.yaml}
DATA=${DATA:?the folder of the videos}
NODES=${NODES:-1}
GPUS=${GPUS:-8}
HEAD=${HEAD:-localhost:29500}
# One id for all processes; of your own choice on several machines, where the time differs.
ID=${ID:-$(date +%Y%m%d-%H%M%S)}

torchrun --nnodes "$NODES" --nproc-per-node "$GPUS" --rdzv-backend c10d --rdzv-endpoint "$HEAD" --rdzv-id "$ID" \
    --module kinema fit --config "$CONFIG" --data.root "$DATA" --run.name torchrun --run.id "$ID" \
    --trainer.accelerator gpu --trainer.num_nodes "$NODES" --trainer.devices "$GPUS" --trainer.strategy ddp \
    --trainer.precision bf16-mixed --data.num_workers 8 "$@"
