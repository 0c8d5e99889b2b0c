#!/usr/bin/env bash
# The whole experiment: the untrimmed set, a classifier for each kind of features, features, three seeds of the localization
# network on each, and the table. What is there already is not made again.
# Usage:    bash experiments/localization/run.sh [FOLDER]
#           It replaces the published detection.csv and the table of README.md in experiments/localization. Give another FOLDER
#           to keep them; it is made, with a README, where there is none.
# Hardware: 1 CPU core, about 30 minutes in all, most of it the three classifiers.
set -euo pipefail
folder=${1:-experiments/localization}

set=$(kinema data untrimmed --num-train 16 --num-val 8 --seconds 45 60 | tail -n 1)
for network in tsn tsm tada2d; do
  if ! ls "runs/quickstart-$network"/*/checkpoints/last.ckpt > /dev/null 2>&1; then
    kinema fit --config "experiments/quickstart/$network.yaml"
  fi
  features="runs/localization-features/$network"
  kinema features "$set/videos" --run "runs/quickstart-$network" --frame-interval 5 --stride 4 --batch-size 16 \
    --output "$features"
  for seed in 0 1 2; do
    if [ ! -f "runs/localization-$network/seed$seed/metrics.json" ]; then
      kinema fit --config experiments/localization/bmn.yaml --seed_everything "$seed" --data.root "$features" \
        --data.annotations "$set/annotations.json" --run.name "localization-$network" --run.id "seed$seed"
    fi
  done
done
python scripts/report_localization.py "$folder" runs/localization-{tsn,tsm,tada2d} \
  --classifiers runs/quickstart-{tsn,tsm,tada2d}
