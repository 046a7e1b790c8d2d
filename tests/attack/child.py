"""Read inputs in processes that may die: what became of each is the answer, whatever it did.

`Readers` starts `python -m attack.child TABLE` once; that process imports the readers and then forks a worker for every
batch of inputs, so that a start costs milliseconds. Around each input the worker sets timers whose signals end it, also
inside C code, and the whole worker may take only so much more memory than it had when it started. When a worker dies,
its last input is the reason, and the next worker goes on behind it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attack.readers import Reader

__all__ = ["BAD", "EVIDENCE", "Input", "Limits", "Outcome", "Readers", "Verdict"]

EVIDENCE = "executed"
"""Hostile files that call for code try to make a file of this name, in the working folder or the one above."""
_LONGEST = 2000
"""Characters of a message; paths of temporary folders are part of it."""
_TABLE = "attack.readers"


class Verdict(str, Enum):
    """What became of one input."""

    READ = "read"
    REFUSED = "refused"  # an error of mindground.errors, in one line
    FINDING = "finding"  # any other exception, or a message that is no line
    CRASH = "crash"  # a signal ended the interpreter
    HANG = "hang"
    MEMORY = "memory"
    EXECUTED = "executed"  # code of the file ran, or something was written outside


BAD = frozenset({Verdict.FINDING, Verdict.CRASH, Verdict.HANG, Verdict.MEMORY, Verdict.EXECUTED})


@dataclass(frozen=True)
class Limits:
    """What one input may take.

    Attributes:
        cpu: seconds of processor time, all threads together; more is a HANG.
        wall: seconds in all, for a reader that waits; larger than `cpu`, because the machine may be busy.
        memory: bytes beyond the idle worker's; more is MEMORY.
    """

    cpu: float = 10.0
    wall: float = 60.0
    memory: int = 1 << 30


@dataclass(frozen=True)
class Input:
    """The file under attack, and further files beside it.

    Attributes:
        data: bytes of the reader's file.
        beside: path relative to the folder -> bytes; None makes a FIFO.
    """

    data: bytes
    beside: Mapping[str, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Attributes: what became of it; exception and place, or signal; the message; seconds of processor time; bytes."""

    verdict: Verdict
    signature: str = ""
    message: str = ""
    seconds: float = 0.0
    grown: int = 0

    @property
    def kind(self) -> str:
        """One word for equal outcomes."""
        return f"{self.verdict.value} {self.signature}"


class Readers:
    """The process that reads, used as a context.

    Args:
        table: module with `READERS`, name -> Reader.
        names: readers to import beforehand; empty = all.
    """

    def __init__(self, table: str = _TABLE, names: Sequence[str] = ()) -> None:
        root = Path(__file__).resolve().parents[2]
        settings = {
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root / "tests"), str(root / "tests" / "families")]),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OPENCV_FOR_THREADS_NUM": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "GLOG_v": "3",
            "PYTHONWARNINGS": "ignore",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "attack.child", table, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | settings,
        )

    def run(self, reader: str, inputs: Sequence[Input], limits: Limits | None = None) -> list[Outcome]:
        """Read every input; the answers are in their order."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        pickle.dump((reader, list(inputs), limits or Limits()), stdin)
        stdin.flush()
        answer: list[Outcome] | str = pickle.load(stdout)  # noqa: S301 - our own process wrote it
        if isinstance(answer, str):
            raise RuntimeError(f"the process of the readers failed: {answer}")
        return answer

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def _status(key: str) -> int:
    """A size of this process in bytes, by its name in /proc/self/status."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:"))


def signature(error: BaseException) -> str:
    """Type of an exception and the deepest place of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/mindground/" in frame.filename] or list(frames)
    last = ours[-1]
    return f"{type(error).__name__} @ {last.filename.rpartition('/mindground/')[2]}:{last.lineno} ({last.name})"


def _memory_failed(error: BaseException | None) -> bool:
    """True when an allocation failed somewhere under this error, whatever it was turned into."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or "Insufficient memory" in str(error)[:2000]:
            return True
        error = error.__cause__ or error.__context__
    return False


def flaw(message: str) -> str:
    """What is wrong with a message for people; empty when nothing is."""
    if not message.strip():
        return "an empty message"
    if any(ord(letter) < 32 or ord(letter) in (0x7F, 0x2028, 0x2029) for letter in message):
        return "a message with a line end or another control character"
    if len(message) > _LONGEST:
        return f"a message of more than {_LONGEST} characters"
    return ""


def _judge(reader: Reader, folder: Path) -> tuple[Verdict, str, str]:
    from mindground.errors import MindGroundError

    try:
        reader.call(folder)
        return Verdict.READ, "", ""
    except MindGroundError as error:
        message = str(error)
        wrong = flaw(message)
        if _memory_failed(error):
            return Verdict.MEMORY, f"an allocation failed in {signature(error)}", message[:300]
        if wrong:
            return Verdict.FINDING, f"{wrong}: {signature(error)}", message[:300]
        return Verdict.REFUSED, type(error).__name__, message
    except (KeyboardInterrupt, SystemExit) as error:
        return Verdict.FINDING, signature(error), ""
    except BaseException as error:
        verdict = Verdict.MEMORY if _memory_failed(error) else Verdict.FINDING
        return verdict, signature(error), str(error)[:300]


class _Folder:
    """The reader's files below `base`/inner, and whether something else came to be there."""

    def __init__(self, reader: Reader, base: Path) -> None:
        self.reader, self.base, self.inner = reader, base, base / "inner"
        shutil.rmtree(self.inner, ignore_errors=True)
        self.inner.mkdir()
        os.chdir(self.inner)
        for name, data in reader.beside().items():
            self._put(name, data)

    def _put(self, name: str, data: bytes | None) -> None:
        path = self.inner / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            os.mkfifo(path)
        else:
            path.write_bytes(data)
            if path.parent.name == "bin":
                path.chmod(0o755)

    def fill(self, given: Input) -> None:
        self._put(self.reader.file, given.data)
        for name, data in given.beside.items():
            self._put(name, data)

    def clear(self, given: Input) -> bool:
        """Remove what `fill` put beside; True when a file appeared that shows that code ran."""
        for name in given.beside:
            (self.inner / name).unlink(missing_ok=True)
        outside = [path for path in self.base.iterdir() if path != self.inner]
        for path in outside:
            path.unlink()
        shown = self.inner / EVIDENCE
        ran = shown.exists()
        shown.unlink(missing_ok=True)
        return ran or bool(outside)


def _work(reader: Reader, inputs: Sequence[Input], limits: Limits, base: Path, answers: IO[bytes]) -> None:
    """The worker: read inputs until one needs a new process."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    folder = _Folder(reader, base)
    os.environ["PATH"] = f"{folder.inner / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    idle = _status("VmRSS")
    most = _status("VmData") + 2 * limits.memory
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    for given in inputs:
        folder.fill(given)
        before = resource.getrusage(resource.RUSAGE_SELF)
        signal.setitimer(signal.ITIMER_REAL, limits.wall)
        signal.setitimer(signal.ITIMER_PROF, limits.cpu)
        verdict, mark, message = _judge(reader, folder.inner)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        after = resource.getrusage(resource.RUSAGE_SELF)
        grown = max(0, (after.ru_maxrss << 10) - idle)
        if folder.clear(given):
            verdict = Verdict.EXECUTED
        elif grown > limits.memory and verdict is not Verdict.MEMORY:
            verdict, mark = Verdict.MEMORY, f"took {grown >> 20} MB ({verdict.value} {mark})"
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        pickle.dump(Outcome(verdict, mark, message, spent, grown), answers)
        answers.flush()
        if verdict is Verdict.MEMORY:
            return


def _died(status: int, limits: Limits) -> Outcome:
    if not os.WIFSIGNALED(status):
        return Outcome(Verdict.CRASH, f"the interpreter ended with status {status >> 8}")
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return Outcome(Verdict.HANG, f"more than {limits.cpu:g} s of processor time", seconds=limits.cpu)
    if number == signal.SIGALRM:
        return Outcome(Verdict.HANG, f"waited for more than {limits.wall:g} s", seconds=limits.wall)
    if number == signal.SIGKILL:
        return Outcome(Verdict.MEMORY, "the system ended it for want of memory")
    return Outcome(Verdict.CRASH, signal.Signals(number).name)


def _batch(reader: Reader, inputs: Sequence[Input], limits: Limits, base: Path) -> list[Outcome]:
    done: list[Outcome] = []
    while len(done) < len(inputs):
        incoming, outgoing = os.pipe()
        child = os.fork()
        if child == 0:
            code, own = 1, 2
            try:
                os.close(incoming)
                own = os.dup(2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries talk about damaged files
                with os.fdopen(outgoing, "wb") as answers:
                    _work(reader, inputs[len(done) :], limits, base, answers)
                code = 0
            except BaseException:
                os.write(own, traceback.format_exc().encode())
            finally:
                os._exit(code)
        os.close(outgoing)
        before = len(done)
        with os.fdopen(incoming, "rb") as answers:
            with contextlib.suppress(EOFError, pickle.UnpicklingError):
                while True:
                    done.append(pickle.load(answers))  # noqa: S301 - our own process wrote it
        _, status = os.waitpid(child, 0)
        if status != 0:
            done.append(_died(status, limits))
        elif len(done) == before:
            raise RuntimeError(f"a worker for {reader.name} ended without an answer")
    return done


def main(arguments: Sequence[str]) -> int:
    """Serve `Readers`: requests on the standard input, answers on what was the standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    table: Mapping[str, Reader] = importlib.import_module(arguments[0]).READERS
    for name in arguments[1:] or table:
        with tempfile.TemporaryDirectory(prefix="attack-") as folder:
            table[name].warm_up(Path(folder))
    base = Path(tempfile.mkdtemp(prefix="attack-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        while True:
            try:
                reader, inputs, limits = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own process
            except EOFError:
                return 0
            answer: Any
            try:
                answer = _batch(table[reader], inputs, limits, base)
            except Exception as error:
                traceback.print_exc()
                answer = f"{type(error).__name__}: {error}"
            pickle.dump(answer, answers)
            answers.flush()
    finally:
        os.chdir("/")
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    # The classes must be those that the other side imports, not copies in `__main__`.
    sys.exit(importlib.import_module("attack.child").main(sys.argv[1:]))
