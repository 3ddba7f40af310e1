# What every job here does: train, or go on where the job was stopped, and queue again if it was.
#   CONFIG  the configuration
#   OUTPUT  the run's folder, on a disk that all nodes see
# Further arguments go to `invert train`.

set -uo pipefail

resume=()
if [ -f "$OUTPUT/state/last.ckpt" ]; then resume=(--resume); fi

srun invert train "$CONFIG" --output-dir "$OUTPUT" "${resume[@]}" \
  --set trainer.num_nodes="$SLURM_NNODES" --set trainer.devices="$SLURM_NTASKS_PER_NODE" "$@"
status=$?

# 143: `invert` was asked to stop, as `--signal` does before the time limit, and has saved what it had.
if [ "$status" -eq 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$status"
