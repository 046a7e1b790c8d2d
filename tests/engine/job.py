"""A fake training job as a process of its own: `python job.py FOLDER '{"max_epochs": 3}' ['{"sleep": 0.1}']`.

The third argument is what shall happen: `sleep` before every step, `kill_at` a step, `kill_save` the how-manieth save,
`poison` [epoch, batch] with NaN, `ctrl_c_at` a step whose graph compiles or runs; with `rank` on that rank only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from mindground.runtime import device, interrupts


def main(argv: Sequence[str]) -> int:
    """Train the fake model, with what the third argument asks for."""
    from engine.fakes import fake_config, fake_parts
    from mindground.engine import step, trainer
    from mindground.files import atomic as writer
    from mindground.runtime.distributed import get_comm

    folder, settings, wish = argv[0], json.loads(argv[1]), json.loads(argv[2]) if len(argv) > 2 else {}
    config = fake_config(folder, **settings)
    device.apply(**vars(config.device))
    comm = get_comm()
    if wish.get("rank", comm.rank) != comm.rank:
        wish = {}
    poison = {"poison": tuple(wish["poison"])} if "poison" in wish else {}
    parts = fake_parts(config, comm, dropout=wish.get("dropout", 0.2), **poison)
    run_step, replace, calls = step.TrainStep.__call__, os.replace, []

    def slow_step(self: Any, batches: Any, factor: float, number: int, **more: Any) -> dict[str, float]:
        if number == wish.get("kill_at", -1):
            os.kill(os.getpid(), signal.SIGKILL)
        if number == wish.get("ctrl_c_at", -1):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(wish.get("sleep", 0))
        return run_step(self, batches, factor, number, **more)

    def killing_replace(source: Any, target: Any) -> None:
        # The new file is written but has not taken its place: the worst moment of a save.
        if str(target).endswith("last.ckpt"):
            calls.append(target)
            if len(calls) == wish.get("kill_save", -1):
                os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    step.TrainStep.__call__ = slow_step
    writer.os.replace = killing_replace
    trainer.Trainer(config, comm, parts).run()
    return 0


if __name__ == "__main__":
    interrupts.keep_ctrl_c()
    device.prepare()
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
