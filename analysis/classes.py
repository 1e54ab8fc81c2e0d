"""How much a Recall@1 owes to which test classes were drawn: intervals over classes, from hits per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.intervals import MIN_BOOTSTRAP, Interval, class_difference_interval, class_interval
from analysis.summary import judged

if TYPE_CHECKING:
    from analysis.load import Study


Hits = tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]


def class_hits(study: Study, configurations: Sequence[str]) -> dict[str, Hits]:
    """By configuration, per test class, queries answered rightly and queries asked, (classes,) each, over all seeds.

    A class is one unit however many networks saw it. Only configurations whose complete trials all kept their hits (at
    their last epoch), with at least 20 classes.
    Raises: LedgerError for an array file that is missing or damaged.
    """
    from study.ledger.read import load_arrays

    trials = judged(study.trials)
    wanted = trials[(trials["status"] == "complete") & trials["configuration"].isin(configurations)]
    last = wanted.set_index("number")["epochs_done"]
    kept = study.arrays[study.arrays["number"].isin(last.index)]
    files = {
        number: file
        for number, epochs_done, file in kept[["number", "epochs_done", "file"]].itertuples(index=False)
        if epochs_done == last[number] and "test_class_hits" in file.names
    }
    found: dict[str, Hits] = {}
    for name, numbers in wanted.groupby("configuration")["number"]:
        tables = [load_arrays(study.folder, files[number]) for number in numbers if number in files]
        sizes = {len(table["test_class_hits"]) for table in tables}
        if len(tables) < len(numbers) or len(sizes) != 1 or min(sizes) < MIN_BOOTSTRAP:
            continue
        hits, images = (
            np.stack([table[f"test_class_{what}"] for table in tables]).sum(axis=0).astype(np.float64)
            for what in ("hits", "images")
        )
        found[str(name)] = (hits, images)
    return found


def over_classes(found: Mapping[str, Hits]) -> dict[str, Interval]:
    """By configuration the interval of its mean test Recall@1 over test classes: other classes, the same networks."""
    return {name: class_interval(hits, images) for name, (hits, images) in found.items()}


def differences_over_classes(found: Mapping[str, Hits], reference: str) -> dict[str, Interval]:
    """By configuration the interval of its mean test Recall@1 minus the reference's, over test classes, class by class.

    Only configurations that were asked the reference's queries: the same seeds on the same classes.
    """
    if reference not in found:
        return {}
    reference_hits, asked = found[reference]
    return {
        name: class_difference_interval(hits, reference_hits, asked)
        for name, (hits, images) in found.items()
        if name != reference and np.array_equal(images, asked)
    }
