"""What studies mean: reads their ledgers, never training code. `analysis.load(study)` gives pandas frames."""

from analysis.load import Study, load

__all__ = ["Study", "load"]
