"""Bad input to the commands: exit code 2, one sentence that says what to do, no traceback, nothing run, nothing hung.

The parts behind them have tests of their own (weights, images, sentences, configuration); here the same mistakes come
in the way a user makes them.
"""

from __future__ import annotations

import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from data.transform_support import make
from mindground.cli import main
from mindground.data import Dataset
from mindground.data.loader import Loader
from mindground.data.transforms import ReferentWindowTransform
from mindground.errors import ImageError
from mindground.structures import Sample
from mindground.text import build_wordpiece
from weights.make_fixtures import attack_legacy, attack_pickle, attack_zip

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Calls a verb that must refuse its arguments; gives what it says."""
    monkeypatch.chdir(tmp_path)

    def start(name: str, *words: object) -> str:
        capfd.readouterr()
        code = main([*name.split(), *map(str, words)])
        said = capfd.readouterr().err
        assert code == 2, said
        assert "Traceback" not in said and said.strip()
        assert not list(tmp_path.rglob("*.ckpt.tmp"))
        return said

    return start


class _Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def _attack_nested(path: Path, attack: Any) -> None:
    """A torch archive whose tensors are in order and whose extra entry is not."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"model": {"a": 1}, "note": attack}))
        archive.writestr("m/version", "3")


@pytest.mark.parametrize("make", [attack_pickle, attack_zip, attack_legacy, _attack_nested])
def test_a_malicious_checkpoint_runs_nothing_by_any_verb(
    make: Callable[[Path, Any], None], tmp_path: Path, refused: Callable[..., str]
) -> None:
    marker, evil, image = tmp_path / "ran", tmp_path / "best.ckpt", tmp_path / "a.png"
    make(evil, _Attack(marker))
    Image.new("RGB", (4, 4)).save(image)
    synthetic = ("--data.root", tmp_path / "data", "--data.synthetic.train_images=8", "--data.synthetic.val_images=1")
    calls = (
        ("eval", "--ckpt", evil),
        ("predict", "--ckpt", evil, "--image", image, "--text", "ship"),
        ("show", "--ckpt", evil),
        ("weights import", evil, "--family", "vglaw", "--out", tmp_path / "new.ckpt"),
        ("train", "--train.resume", evil, "--train.output_dir", tmp_path / "runs", *synthetic),
        ("train", "--pretrained_path", evil, "--train.output_dir", tmp_path / "runs", *synthetic),
    )
    for name, *words in calls:
        said = refused(name, *words)
        assert "system" in said and str(evil) in said, (name, said)
        assert not marker.exists()
    assert not (tmp_path / "new.ckpt").exists() and not (tmp_path / "runs").exists()
    pickle.loads(pickle.dumps(_Attack(marker)))
    assert marker.exists(), "the attack itself works"


def test_checkpoints_that_are_none(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "text.ckpt").write_text("not weights at all")
    np.savez(tmp_path / "theirs.npz", a=np.ones(3))
    assert "not a MindGround checkpoint" in refused("eval", "--ckpt", tmp_path / "text.ckpt")
    said = refused("eval", "--ckpt", tmp_path / "theirs.npz")
    assert "file of weights (npz)" in said and "import_weights.py" in said
    assert "does not exist" in refused("eval", "--ckpt", tmp_path / "absent.ckpt")
    assert "train first" in refused("show")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--dataset", "refcoco", "--splitBy", "unc", "--data.root", "nowhere"),
            ("refs(unc).p", "instances.json", "lichengunc/refer", "nowhere"),
        ),
        (("--dataset", "refclef", "--data.root", "nowhere"), ("refs(berkeley).p", "refclef.zip", "nowhere")),
        (("--dataset", "jsonl", "--data.root", "nowhere"), ("train.jsonl", "nowhere")),
        (("--dataset", "coco", "--data.root", "nowhere"), ("nowhere", "json")),
    ],
)
def test_a_missing_data_set_says_what_goes_where(
    words: tuple[str, ...], says: tuple[str, ...], refused: Callable[..., str]
) -> None:
    said = refused("train", *words)
    assert all(part in said for part in says), said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--train.batchsize=4",), "train.batch_size"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--device.precision=float16", "--device_target=CPU"), "use float32"),
        (("--data.synthetic.image_size=16",), "at least 64"),
        (("--data.synthetic.seed=-1",), "data.synthetic.seed=-1 must be at least 0"),
    ],
)
def test_wrong_keys_and_values(words: tuple[str, ...], says: str, refused: Callable[..., str]) -> None:
    assert says in refused("train", *words)


def _images(folder: Path) -> dict[str, tuple[int, int]]:
    """Odd but honest images and the (height, width) that a viewer shows."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels[..., 0]).save(folder / "grey.png")
    Image.fromarray(np.dstack([pixels, pixels[..., 0]]), "RGBA").save(folder / "rgba.png")
    cv2.imwrite(str(folder / "deep.tif"), pixels.astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(pixels[:1, :1]).save(folder / "pixel.png")
    Image.fromarray(pixels[:1]).save(folder / "line.png")
    sizes = {"grey.png": (20, 30), "rgba.png": (20, 30), "deep.tif": (20, 30), "turned.jpg": (30, 20)}
    return {**sizes, "pixel.png": (1, 1), "line.png": (1, 30)}


SENTENCES = ("the ship", "word " * 3000, "最左边的那艘白色的船", "🚢🚢 left 👍🏽", "x" * 5000, "")


@pytest.mark.parametrize("training", [True, False])
def test_odd_images_and_sentences_give_arrays_of_one_shape(training: bool, tmp_path: Path) -> None:
    sizes = _images(tmp_path)
    samples = [
        Sample(str(tmp_path / name), f"{name}/{number}", name, text, np.asarray([[0, 0, size[1], size[0]]]))
        for name, size in sizes.items()
        for number, text in enumerate(SENTENCES)
    ]
    words = build_wordpiece(["the ship left"])
    transform = make(ReferentWindowTransform, words, training, max_len=12, multi_scale=True, translate=True)
    loader = Loader(Dataset(samples), transform, 6, training=training, seed=1, workers=2)
    seen = 0
    for batch in loader.epoch(0):
        assert batch.arrays["image"].shape == (6, 3, 64, 64) and np.isfinite(batch.arrays["image"]).all()
        assert batch.arrays["token_ids"].shape == (6, 12) and batch.arrays["token_mask"].sum(1).min() >= 2
        assert ((batch.arrays["box"] >= 0) & (batch.arrays["box"] <= 1)).all()
        for sample, geometry in zip(batch.samples, batch.geometries, strict=True):
            assert geometry.original_size == sizes[sample.image_id]
        seen += batch.count
    assert seen == len(samples)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"\xff\xd8\xff\xe0 cut"])
def test_a_file_that_is_no_image_is_named(content: bytes, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "no.jpg").write_bytes(content)
    data = Dataset([Sample(str(tmp_path / "no.jpg"), "s", "i", "ship", np.asarray([[0, 0, 1, 1]]))])
    transform = make(ReferentWindowTransform, build_wordpiece(["ship"]), True)
    with pytest.raises(ImageError, match=r"no\.jpg"):
        next(iter(Loader(data, transform, 1, training=True, seed=1).epoch(0)))
    assert "absent.png" in refused("predict", "--image", tmp_path / "absent.png", "--text", "ship")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--train.seed=2",), "ranks [1] have another configuration than rank 0"),
        (("--train.seed=1", "--data.root=nowhere", "--dataset=jsonl"), "another configuration"),
    ],
)
def test_ranks_that_disagree_end_with_a_message(words: tuple[str, ...], says: str, run_python: Callable) -> None:
    """Two ranks started with different command lines: `mpirun -n 1 A : -n 1 B`."""
    program = str(ROOT / "src" / "train.py")
    begin = time.monotonic()
    started = ["-c", _TWO_COMMANDS, program, "--train.seed=1", "--", *words]
    done = run_python(started, timeout=60)
    assert done.returncode != 0 and time.monotonic() - begin < 60
    assert says in done.stderr and "Traceback" not in done.stderr, done.stderr


# mpirun's form with several programs, started beside the python that runs this.
_TWO_COMMANDS = """
import subprocess, sys
from pathlib import Path
program, words = sys.argv[1], sys.argv[2:]
first, second = words[: words.index("--")], words[words.index("--") + 1 :]
one = ["-n", "1", sys.executable, program]
mpirun = str(Path(sys.executable).with_name("mpirun"))
sys.exit(subprocess.call([mpirun, *one, *first, ":", *one, *second]))
"""
