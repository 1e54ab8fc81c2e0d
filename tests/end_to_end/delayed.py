"""python -m tests.end_to_end.delayed FILE HOME CPUS: `study run` whose workers dawdle at random before each report."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_spaces.load import load_study
from study.home import Home, Options
from study.tuning.session import run_session

_LONGEST_S = 0.5


def train_and_dawdle(config: dict[str, Any]) -> None:
    """Runs in Ray's workers, as train_job does."""
    from study.tuning import worker

    prompt = worker.reports

    def reports(job: worker.Job, workplace: worker.Workplace) -> Iterator[worker.Report]:
        for report in prompt(job, workplace):
            time.sleep(random.uniform(0, _LONGEST_S))
            yield report

    worker.reports = reports
    try:
        worker.train_job(config)
    finally:
        worker.reports = prompt


def main(file: str, home: str, cpus: str) -> None:
    place = Home(Path(home))
    options = Options(place, data_dir=place.path, tracking_uri=place.mlflow_uri, cpus=int(cpus))
    run_session(load_study(Path(file)), "", options, resume=False, trainable=train_and_dawdle)


if __name__ == "__main__":
    main(*sys.argv[1:])
