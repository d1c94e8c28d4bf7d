"""The training engine: schedules, optimizer, processes, checkpoints, logs and the loop."""
