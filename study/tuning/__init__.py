"""Ray Tune and Optuna live here only: who trains what, when, and who is stopped."""

import os

WORKER_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""Of a worker's process. Each trial trains in a thread of its own, to which glibc would give an arena that it keeps:
25 MB a trial, until there are eight arenas a processor."""

# Ray reads its own when it is imported, and its processes inherit all. What the user has set stands; but ray_local sets
# anew what keeps others out of a Ray of our own, as the last one does. `--address` sets that before.
for _name, _value in {
    **WORKER_ENVIRONMENT,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_task_events_report_interval_ms": "0",  # kept for a dashboard that nobody starts: 43 KiB a trial
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # tracebacks of what the ledger says in a line
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}.items():
    os.environ.setdefault(_name, _value)
