"""Which of a run's checkpoints are the best, by one metric or by several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mindground.engine.description import read_description
from mindground.engine.run_folder import RunFolder
from mindground.engine.train_state import TrainState, best_so_far
from mindground.errors import ConfigError
from mindground.metrics import is_better

__all__ = ["improved", "keep_best", "mean_scores"]


def improved(state: TrainState, metrics: Mapping[str, float], names: Sequence[str], split: str) -> list[str]:
    """The metrics that are better than ever, which `state` remembers from now on.

    Args:
        names: the one that chooses the best checkpoint, then those that choose others.
        split: where `metrics` come from, for messages.

    Raises:
        ConfigError: an evaluation that does not give one of the metrics.
    """
    missing = [name for name in names if name not in metrics]
    if missing:
        raise ConfigError(
            f"{split} gives no {missing[0]} (it has {', '.join(metrics)}), so no checkpoint can be chosen by it; set "
            "eval.select_by to one of these and continue with --train.resume=auto"
        )
    found = []
    if is_better(metrics[names[0]], state.best):
        state.best, state.best_step = metrics[names[0]], state.step
        found.append(names[0])
    for name in names[1:]:
        if is_better(metrics[name], state.others.get(name)):
            state.others[name] = metrics[name]
            found.append(name)
    return found


def keep_best(state: TrainState, folder: RunFolder, names: Sequence[str]) -> tuple[float | None, int, dict[str, float]]:
    """Best value, its step and those of the further metrics: of `state`, or of better checkpoints in the folder.

    Raises:
        CheckpointError: one of them is damaged.
    """
    best, step = best_so_far(state, folder.best)
    others = {name: state.others[name] for name in names[1:] if name in state.others}
    for name in names[1:]:
        path = folder.best_by(name)
        kept = read_description(path).state if path.is_file() else {}
        values = kept.get("others")
        value = values.get(name) if isinstance(values, Mapping) and kept.get("judged_by") == state.judged_by else None
        if isinstance(value, float) and is_better(value, others.get(name)):
            others[name] = value
    return best, step, others


def mean_scores(by_split: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Means over splits of the scores that all of them have, and the sum of their `count`; one split as it is."""
    splits = list(by_split.values())
    if len(splits) == 1:
        return dict(splits[0])
    shared = [name for name in splits[0] if all(name in scores for scores in splits)]
    means = {name: sum(scores[name] for scores in splits) / len(splits) for name in shared}
    if "count" in means:
        means["count"] = sum(scores["count"] for scores in splits)
    return means
