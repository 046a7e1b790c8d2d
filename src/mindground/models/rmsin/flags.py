"""What the flags of RMSIN's and LAVT's programs (their `args.py`) become here."""

from __future__ import annotations

__all__ = ["FLAGS", "IGNORED_FLAGS", "REFUSED_FLAGS"]

# Flag -> keys of the configuration. General ones, such as --dataset, --splitBy, --img_size, --lr, --batch-size,
# --resume or --output-dir, stand in `mindground.config`. A key with `=` is what a flag without a value stands for.
FLAGS: dict[str, str | tuple[str, ...]] = {
    "model_id": "train.experiment_name",
    "swin_type": "model.swin_type",
    "window12": "model.swin.window_size=12",
    "mha": "model.fusion_heads",
    "fusion_drop": "model.fusion_dropout",
    "pretrained_swin_weights": "train.pretrained.visual",
    "ck_bert": "train.pretrained.text",
    "b": ("train.batch_size", "eval.batch_size"),
    "wd": "train.weight_decay",
    "epochs": "train.max_epochs",
    "amsgrad": "train.amsgrad",
    "refer_data_root": "data.root",
    "workers": "data.num_workers",
    "j": "data.num_workers",
    "print_freq": "train.log_freq",
}

_LAUNCHER = "mpirun starts the ranks"
IGNORED_FLAGS: dict[str, str] = {
    "ddp_trained_weights": "the prefix `module.` of a file is recognised",
    "pin_mem": "there is no pinned memory to ask for",
    "master_port": _LAUNCHER,
    "master_addr": _LAUNCHER,
    "use_env": _LAUNCHER,
}

_MODEL = (
    "write --model.variant=lavt for the network of LAVT's repository, or --model.variant=rmsin for that of RMSIN's, "
    "whose --model says only where BERT is kept"
)
_BERT = "write --train.pretrained.text={0}/model.safetensors (or pytorch_model.bin), the file that was downloaded"
REFUSED_FLAGS: dict[str, dict[str, str]] = {
    "model": {"lavt": _MODEL, "lavt_one": _MODEL, "*": "write --model.variant=rmsin or lavt"},
    "ck_bert": {name: _BERT.format(name) for name in ("bert-base-uncased", "bert-large-uncased")},
    "bert_tokenizer": {"*": "write --data.vocab={value}/vocab.txt, the vocabulary that belongs to the weights"},
    "split": {"*": "training reads data.train_split; score with mindground eval --ckpt X.ckpt --split {value}"},
    "resume": {
        "*.pth": "write mindground weights import {value} --family rmsin --data.vocab vocab.txt "
        "--out X.ckpt, then mindground eval --ckpt "
        "X.ckpt, or --train.pretrained.model=X.ckpt to train from it"
    },
    "device": {
        "cuda*": "write --device_target=GPU",
        "cpu": "write --device_target=CPU",
        "*": "write --device_target=auto, GPU, Ascend or CPU",
    },
    "nproc_per_node": {"*": "start mpirun -n {value} mindground train ..."},
}
