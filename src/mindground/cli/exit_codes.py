"""What all entry points share: logging, one sentence for a user's mistake, exit codes.

0 done; 2 a mistake that the user can repair; 143 or 130 stopped by SIGTERM or Ctrl-C after saving; 141 nobody reads;
1 a defect, with its trace.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import select
import sys
import traceback
from collections.abc import Callable, Sequence

from mindground.errors import MindGroundError, one_line

__all__ = ["EXIT_USER_ERROR", "run_command"]

EXIT_USER_ERROR = 2
# As of a program that SIGPIPE ends.
_BROKEN_PIPE = 141
_LOG = logging.getLogger("mindground")


def run_command(
    main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None, *, label: str = ""
) -> int:
    """Run an entry point's `main` and turn what it raises into a message and an exit code.

    `--debug` anywhere on the command line shows the traceback of a user's mistake as well.

    Args:
        main: takes the arguments.
        argv: these; None takes those of the process.
        label: stands before the message of a mistake; by default the name of its class.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    _start_logging(debug)
    try:
        done = int(main(words) or 0)
        sys.stdout.flush()
        return done
    except MindGroundError as error:
        if debug:
            traceback.print_exc()
        told = f"{label or type(error).__name__}: {error}"
        _say(f"{_where()}{told}")
        return _leave(EXIT_USER_ERROR, told)
    except ModuleNotFoundError as error:
        if debug or (error.name or "mindground").split(".")[0] == "mindground":
            traceback.print_exc()
            return _leave(1)
        _say(
            f"the package {error.name} is not installed for {sys.executable}; start the program with the Python of its "
            "environment, or run: python -m pip install -r requirements.txt (benchmarks: requirements-test.txt)"
        )
        return _leave(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _say("stopped")
        return _leave(130)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return _leave(_BROKEN_PIPE)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            traceback.print_exc()
            return _leave(1)
        _say(f"{error.filename or 'a file'} cannot be written: the disk is full; free space or choose another folder")
        return _leave(EXIT_USER_ERROR)
    except Exception as error:
        stopped_by = getattr(error, "code", None)
        if isinstance(stopped_by, int) and stopped_by > 128:
            if _rank() == 0:
                _say(str(error))
            return stopped_by
        if _where():
            _say(f"{_where()}failed")
        traceback.print_exc()
        return _leave(1, f"{type(error).__name__}: {one_line(error)}")


def _leave(code: int, why: str = "") -> int:
    """A rank that fails alone must take the others with it: an exception would leave them waiting for ever."""
    if "mindground.runtime.distributed" in sys.modules:
        from mindground.runtime.distributed import current_comm
        from mindground.runtime.watch import note_failure

        comm = current_comm()
        if comm is not None and comm.size > 1:
            note_failure(why or f"it ended with code {code}")
            sys.stdout.flush()
            sys.stderr.flush()
            comm.abort(code)
    return code


def _rank() -> int:
    """The rank of this process as far as it is known: of MindSpore's collectives, else of the launcher."""
    from mindground.runtime.collectives import started_rank
    from mindground.runtime.launcher import UNKNOWN, launched_rank

    started = started_rank()
    if started is not None:
        return started[0]
    try:
        return launched_rank()
    except MindGroundError:
        return UNKNOWN  # told where the ranks are needed


def _where() -> str:
    """`rank 3 on host: ` where ranks communicate, so that a message says which machine it is about; else empty."""
    if "mindground.runtime.distributed" not in sys.modules:
        return ""
    from mindground.runtime.distributed import current_comm

    comm = current_comm()
    return f"rank {comm.rank} on {platform.node()}: " if comm is not None and comm.size > 1 else ""


def _reader_has_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more (`mindground models | head`); it is closed then."""
    if not hasattr(select, "poll"):
        return False
    try:
        output = sys.stdout.fileno()
    except OSError:
        return False
    pipe = select.poll()
    pipe.register(output, 0)
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _say(text: str) -> None:
    sys.stderr.write(text.rstrip() + "\n")
    sys.stderr.flush()


class _OneRank(logging.Filter):
    """Reports of the first rank alone, warnings of all with their rank, which msrun may give late."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record; one of another rank gets its rank in front."""
        rank = _rank()
        record.rank = "" if rank == 0 else "[a rank] " if rank < 0 else f"[rank {rank}] "
        return rank == 0 or record.levelno >= logging.WARNING


def _start_logging(debug: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(rank)s%(message)s"))
    handler.addFilter(_OneRank())
    _LOG.handlers[:] = [handler]
    _LOG.propagate = False
    _LOG.setLevel(logging.DEBUG if debug else logging.INFO)
