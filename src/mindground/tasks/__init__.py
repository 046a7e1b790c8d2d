"""What one kind of question means everywhere: truth, metrics, result files, drawing, what a predictor needs.

A data set says its kind (`Dataset.kind`), a model what it asks and answers (`ModelInterface`); `task_for` is the only
place where the two meet.
"""

from __future__ import annotations

from mindground.errors import ConfigError
from mindground.models.interface import ModelInterface
from mindground.tasks.base import MetricSettings, Task
from mindground.tasks.instances import InstanceTask
from mindground.tasks.prompted import PromptedTask
from mindground.tasks.referring import ReferringTask

__all__ = ["MetricSettings", "Task", "task_for", "task_of"]

# (kind of data set, what a model asks) -> task.
_TASKS: dict[tuple[str, str], type[Task]] = {
    ("referring", "expression"): ReferringTask,
    ("instances", "nothing"): InstanceTask,
    ("instances", "prompt"): PromptedTask,
}
# What a model asks -> the kind of data set that it learns from.
_KINDS = {asks: kind for kind, asks in _TASKS}


def task_for(kind: str, interface: ModelInterface, dataset: str = "this data set") -> Task:
    """The task of a model on samples of a kind.

    Args:
        kind: `Dataset.kind`.
        dataset: what messages call the data set.

    Raises:
        ConfigError: samples of this kind do not answer what the model asks.
    """
    task = _TASKS.get((kind, interface.asks))
    if task is not None:
        return task(interface)
    if interface.asks == "expression":
        raise ConfigError(
            f"{dataset} holds {kind} without sentences, and this family looks for what a sentence names: choose a "
            "data set with sentences, or write them with tools/make_referring.py"
        )
    if interface.asks == "nothing":
        raise ConfigError(
            f"{dataset} holds {kind} samples with a sentence each, and this family finds every instance without one: "
            "choose a data set of instances (data.dataset=coco)"
        )
    if interface.asks == "prompt":
        raise ConfigError(
            f"{dataset} holds {kind} samples, and this family draws its prompts from the masks of all objects of an "
            "image: choose a data set of instances with masks (data.dataset=coco)"
        )
    raise ConfigError(
        f"{dataset} holds {kind} samples, and this family asks for a {interface.asks}: it has no task on a data set"
    )


def task_of(interface: ModelInterface) -> Task:
    """The task of a model on the data that it is made for, where there is no data set (prediction).

    Raises:
        ConfigError: what the model asks belongs to no task.
    """
    if interface.asks not in _KINDS:
        raise ConfigError(
            f"a model that asks for a {interface.asks} has no task yet: tasks/__init__.py lists what data sets of "
            f"{' and '.join(sorted(_KINDS.values()))} can answer"
        )
    return task_for(_KINDS[interface.asks], interface)
