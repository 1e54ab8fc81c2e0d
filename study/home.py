"""Where studies lie: one folder for all, a folder each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from search_spaces.load import ConfigError
from study.ledger.read import LEDGER_NAME


@dataclass(frozen=True)
class Home:
    """The folder that holds all studies, MLflow's database and the cache of drawn and decoded images."""

    path: Path

    def folder(self, name: str) -> Path:
        """The folder of study `name`."""
        return self.path / name

    @property
    def cache(self) -> Path:
        """Images that were drawn or decoded once."""
        return self.path / ".cache"

    @property
    def mlflow_uri(self) -> str:
        """The default MLflow store: a SQLite file beside the studies."""
        return f"sqlite:///{(self.path / 'mlflow.db').resolve()}"

    def names(self) -> list[str]:
        """Studies that have a ledger, by name."""
        return sorted(path.parent.name for path in self.path.glob(f"*/{LEDGER_NAME}"))

    def existing(self, name: str) -> Path:
        """The folder of a study that was run. Raises: ConfigError naming the ones there are."""
        if (self.folder(name) / LEDGER_NAME).exists():
            return self.folder(name)
        names = self.names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = (
            f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}" if names else "none was run yet"
        )
        raise ConfigError(f"{self.path}: no study {name!r}; {hint}")


@dataclass(frozen=True)
class Options:
    """How and where a study runs; nothing here changes a result.

    cpus: processors of this machine to use, None all. address: of a running Ray cluster, in place of this machine.
    share: False trains every trial from its first epoch.
    """

    home: Home
    data_dir: Path
    tracking_uri: str
    cpus: int | None = None
    gpus: int | None = None
    share: bool = True
    address: str | None = None
