#!/usr/bin/env bash
# ZeRO-2 on one machine by DeepSpeed's launcher: optimizer states and gradients split over the ranks.
#   launch/scripts/deepspeed_zero2.sh RECIPE RUN_DIR PROCESSES      (again, with the same words, to go on)
set -euo pipefail
recipe=$1 run=$2 processes=$3

# The run directory holds everything that is decided; an existing one is kept as it is.
python -m launch.cli train "$recipe" --override parallel.zero=2 --run-dir "$run" --processes "$processes" --prepare-only

# Each start is an attempt with a number of its own; ranks of an earlier one stop writing.
export WINDTUNNEL_ATTEMPT=$(($(find "$run/attempts" -mindepth 1 -maxdepth 1 -type d | wc -l) + 1))
mkdir "$run/attempts/$(printf %03d "$WINDTUNNEL_ATTEMPT")-shell"

exec deepspeed --num_gpus "$processes" --no_local_rank --module recipe.train "$run"
