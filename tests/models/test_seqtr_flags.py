"""Every flag and configuration key of SeqTR's and MSAM's programs, typed once: what it sets, or how it is answered."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mindground import config as cf
from mindground.cli.train import main as train
from mindground.config.overrides import split_arguments
from mindground.config.registry import family
from mindground.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "models" / "seqtr.md"
FILE = ROOT / "configs" / "seqtr" / "refcoco_detection.yaml"

# As typed -> keys and the values that they get.
READ: dict[str, dict[str, object]] = {
    "--work-dir D": {"train.output_dir": "D"},
    "--resume-from last.ckpt": {"train.resume": "last.ckpt"},
    "--seed 7": {"train.seed": 7},
    "--ema": {"train.ema_decay": 0.999},
    "--cfg-options ema_factor=0.9": {"train.ema_decay": 0.9},
    "--cfg-options ema=True": {"train.ema_decay": 0.999},
    "--cfg-options use_fp16=True": {"device.precision": "float16"},
    "--cfg-options data.samples_per_gpu=16 data.workers_per_gpu=4": {
        "train.batch_size": 16,
        "eval.batch_size": 16,
        "data.num_workers": 4,
    },
    "--cfg-options=scheduler_config.max_epoch=5": {"train.max_epochs": 5},
    "--cfg-options optimizer_config.lr=0.001 optimizer_config.eps=1e-8": {"train.lr": 1e-3, "train.eps": 1e-8},
    "--cfg-options optimizer_config.weight_decay=0.1": {"train.weight_decay": 0.1},
    "--cfg-options optimizer_config.amsgrad=False": {"train.amsgrad": False},
    "--cfg-options grad_norm_clip=1.0 log_interval=7": {"train.clip_max_norm": 1.0, "train.log_freq": 7},
    "--cfg-options num_bin=500 num_ray=12": {"model.head.num_bin": 500, "model.head.num_ray": 12},
    "--cfg-options model.head.shuffle_fraction=0.2": {"model.head.shuffle_fraction": 0.2},
    "--cfg-options model.head.mapping=absolute": {"model.head.mapping": "absolute"},
    "--cfg-options model.head.top_p=0.4": {"model.head.top_p": 0.4},
    "--cfg-options model.head.det_coord=[0,1] model.head.det_coord_weight=2": {
        "model.head.det_coord": [0, 1],
        "model.head.det_coord_weight": 2.0,
    },
    "--cfg-options model.head.loss.neg_factor=0.2": {"model.head.neg_factor": 0.2},
    "--cfg-options model.vis_enc.freeze_layer=none": {"model.visual.darknet.freeze_layer": None},
    "--cfg-options model.vis_enc.pretrained=yolov3.weights": {"train.pretrained": "yolov3.weights"},
    "--cfg-options model.lan_enc.freeze_emb=False": {"model.text.gru.freeze_embedding": False},
    "--cfg-options model.lan_enc.lstm_cfg.hidden_size=256": {"model.text.gru.hidden": 256},
    "--cfg-options model.lan_enc.output_cfg.type=mean": {"model.text.gru.pool": "mean"},
    "--cfg-options model.fusion.direction=none": {"model.fusion.direction": "none"},
}
IGNORED = {
    "--launcher pytorch": "mpirun",
    "--local_rank 0": "launcher",
    "--master_port 29500": "mpirun",
    "--master_addr 127.0.0.1": "mpirun",
    "--nnodes 1": "mpirun",
    "--node_rank 0": "mpirun",
    "--cfg-options deterministic=True": "train.seed",
    "--cfg-options log_level=INFO": "log",
    "--cfg-options model.head.in_ch=1024": "image encoder",
    "--cfg-options model.fusion.vis_chs=[256,512,1024]": "image encoder",
}
REFUSED = {
    "--finetune-from runs/a/best.ckpt": "--train.pretrained.model=runs/a/best.ckpt --train.fresh=[words,positions]",
    "--load-from det_best.pth": "weights import det_best.pth --family seqtr",
    "--load-from best.ckpt": "mindground eval --ckpt best.ckpt",
    "--resume-from latest.pth": "weights import latest.pth --family seqtr",
    "--cfg-options ema=False": "--train.ema_decay=0",
    "--cfg-options use_fp16=False": "--device.precision=float32",
    "--cfg-options save_interval=5": "--train.save_steps=N",
    "--which-set val testA": "mindground show",
    "--with-gt": "mindground show",
    "--no-overlay": "predictions.json",
    "--config_dir configs/seqtr": "mindground predict",
    "--ckpt_dir ckpt": "mindground predict",
    "--host 0.0.0.0": "mindground predict",
    "--port 7869": "mindground predict",
    "--device cuda": "--device_target=GPU",
    "--device cpu": "--device_target=CPU",
    "--device tpu": "--device_target=auto",
    "--nproc_per_node 8": "mpirun -n 8",
    "--cfg-options dataset=RefCOCOPlusUNC": "--data.dataset=seqtr --data.splitBy=refcocoplus-unc",
    "--cfg-options dataset=Mixed": "--data.splitBy=mixed",
    "--cfg-options data.train.type=RSVG": "--data.dataset=dior_rsvg",
    "--cfg-options data.train.type=RSVGD": "--data.splitBy=rsvgd",
    "--cfg-options optimizer_config.type=AdamW": "--train.optimizer=adam",
    "--cfg-options optimizer_config.betas=(0.9,0.98)": "--train.beta2=0.98",
    "--cfg-options scheduler_config.type=CosineAnnealingLR": "--train.schedule=",
    "--cfg-options scheduler_config.decay_steps=[12]": "milestones one lower",
    "--cfg-options scheduler_config.decay_ratio=0.5": "gamma",
    "--cfg-options scheduler_config.warmup_epochs=0": "without the first segment",
    "--cfg-options model.type=SeqTR": "--family=seqtr",
    "--cfg-options model.type=MSAM": "dior_rsvg_msam.yaml",
    "--cfg-options model.type=MSVGModel": "dior_rsvg_msam.yaml",
    "--cfg-options model.vis_enc.type=DarkNet53": "--model.visual.type=darknet",
    "--cfg-options model.vis_enc.type=SwinTransformer": "darknet or swin",
    "--cfg-options model.vis_enc.out_layer=(6,8,13)": "always taken",
    "--cfg-options model.lan_enc.type=LSTM": "--model.text.type=gru",
    "--cfg-options model.lan_enc.type=BertEncoder": "gru or bert",
    "--cfg-options model.lan_enc.output_cfg.type=default": "--model.text.gru.pool=last",
    "--cfg-options model.fusion.type=SimpleFusion": "--model.fusion.type=simple",
    "--cfg-options model.fusion.type=KernelSqueeze": "--model.fusion.type=kernels",
    "--cfg-options model.fusion.type=KC": "--model.fusion.type=kernels",
    "--cfg-options model.head.type=SeqHead": "leave it out",
    "--cfg-options model.head.type=InputHead": "leave it out",
    "--cfg-options model.head.multi_task=True": "--model.task=multi",
    "--cfg-options model.head.multi_task=False": "--model.task=box",
    "--cfg-options model.head.shuffle_fraction=-1": "--model.head.shuffle_fraction=0",
    "--cfg-options model.head.top_p=-1": "--model.head.top_p=0",
    "--cfg-options model.head.det_coord=[-1]": "--model.head.det_coord=[]",
}


def _load(words: str) -> cf.Config:
    return cf.load_config(FILE, words.split())


@pytest.mark.parametrize("words", READ)
def test_a_flag_sets_its_keys(words: str) -> None:
    config = _load(words)
    for key, value in READ[words].items():
        found = config.train.pretrained["visual"] if key == "train.pretrained" else cf.value_of(config, key)
        assert found == value, key
    published = {"--ema", "--cfg-options ema=True"}
    assert (cf.to_dict(_load("")) == cf.to_dict(config)) is (words in published)


@pytest.mark.parametrize("words", IGNORED)
def test_a_flag_without_effect_is_named_in_a_warning(words: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mindground"):
        config = _load(words)
    (record,) = caplog.records
    assert IGNORED[words] in record.message and cf.to_dict(config) == cf.to_dict(_load(""))


@pytest.mark.parametrize("words", REFUSED)
def test_an_old_spelling_is_refused_with_the_new_one(words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(words)
    assert "is not read" in str(caught.value) and REFUSED[words] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_assignments_follow_their_option() -> None:
    found = split_arguments("--cfg-options a=1 b.c=[2,3] --x 4".split()).overrides
    assert found == (("a", ("1",)), ("b.c", ("[2,3]",)), ("x", ("4",)))
    for wrong in ("--cfg-options", "--cfg-options a", "--cfg-options --x 4", "--cfg-options=a"):
        with pytest.raises(ConfigError, match="followed by key=value"):
            split_arguments(wrong.split())
    with pytest.raises(ConfigError, match=r"unknown option --model\.head\.num_bins; did you mean --"):
        _load("--cfg-options model.head.num_bins=3")


README = (
    "--cfg-options ema=True",
    "--work-dir runs/seqtr --launcher none --cfg-options ema=True data.samples_per_gpu=32",
)


@pytest.mark.parametrize("words", README)
def test_training_commands_of_the_readme(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--config", str(FILE), *words.split(), "--explain-config"]) == 0
    assert "darknet.weights" in capsys.readouterr().out


def test_the_page_has_a_line_for_every_flag() -> None:
    page = PAGE.read_text(encoding="utf-8")
    facts = family("seqtr")
    for flag in sorted({*facts.flags, *facts.ignored_flags, *facts.refused_flags, "local_rank", "cfg_options"}):
        assert re.search(rf"`[^`]*(?<![\w.-])(?:--)?{re.escape(flag).replace('_', '[-_]')}\b[^`]*`", page), flag
    for word in (
        "tools/train.py", "tools/test.py", "tools/inference.py", "scripts/train.py", "scripts/test.py",
        "xml2instances.py", "dist_train.sh", "dist_test.sh", "webui.py", "demo/api.py", "instances_master.json",
        "msam_rsvgd.py", "det_best.pth", "segm_best.pth", "word_emb.npz",
    ):  # fmt: skip
        assert word in page, word
