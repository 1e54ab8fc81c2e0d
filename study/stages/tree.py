"""A plan as a tree of stages: what is trained once and inherited by whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.trial_config import TrialConfig
from study.stages.key import Environment, prefix_keys

ANYWHERE = Environment(torch="any", cpu="any")
"""Stands in for the machine where only the shape of a plan matters."""


@dataclass(frozen=True)
class Stage:
    """Epochs that the same trials share. first, last: epochs_done of its first and last; parent: index, None at a root.

    trials: indices of the trials that pass through it, in their order.
    """

    first: int
    last: int
    parent: int | None
    trials: tuple[int, ...]

    @property
    def epochs(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class StageTree:
    """The stages of a plan. asked: epochs that its trials ask for; trained: those that are trained once each."""

    stages: tuple[Stage, ...]
    asked: int

    @property
    def trained(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    @property
    def critical_path(self) -> int:
        """Epochs of the longest chain of stages: what no number of workers can shorten."""
        ends: list[int] = []
        for stage in self.stages:
            ends.append(stage.epochs + (ends[stage.parent] if stage.parent is not None else 0))
        return max(ends, default=0)


def stage_tree(trials: Sequence[tuple[TrialConfig, int]]) -> StageTree:
    """The tree that `trials`, each a configuration and its seed, make."""
    chains = [prefix_keys(trial, seed, ANYWHERE) for trial, seed in trials]
    passing: dict[str, list[int]] = {}
    for index, chain in enumerate(chains):
        for key in chain[1:]:
            passing.setdefault(key, []).append(index)
    stages: list[Stage] = []
    stage_of: dict[str, int] = {}
    for index, chain in enumerate(chains):
        parent: int | None = None
        first = 1
        while first < len(chain):
            members = passing[chain[first]]
            last = first
            while last + 1 < len(chain) and len(passing[chain[last + 1]]) == len(members):
                last += 1
            if members[0] == index:
                stage_of[chain[first]] = len(stages)
                stages.append(Stage(first, last, parent, tuple(members)))
            parent, first = stage_of[chain[first]], last + 1
    return StageTree(tuple(stages), sum(len(chain) - 1 for chain in chains))
