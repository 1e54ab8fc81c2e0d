"""Where studies lie: one folder for all, a folder each."""

from __future__ import annotations

import difflib
import shlex
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

    def command(self, verb: str, name: str = "") -> str:
        """The line for a shell that does `verb` (resume, sync, ui) on study `name` where and how this one ran."""
        wanted: list[tuple[str, object]] = []
        if self.home.path != Path("studies"):
            wanted.append(("--home", self.home.path))
        if self.tracking_uri != self.home.mlflow_uri:
            wanted.append(("--tracking-uri", self.tracking_uri))
        if verb == "resume":
            wanted += [("--data", self.data_dir)] if self.data_dir != Path("data") else []
            how = (("--cpus", self.cpus), ("--gpus", self.gpus), ("--address", self.address))
            wanted += [(option, value) for option, value in how if value is not None]
        words = [verb, *filter(None, [name]), *(str(word) for pair in wanted for word in pair)]
        if verb == "resume" and not self.share:
            words.append("--separate")
        return f"python -m study {shlex.join(words)}"
