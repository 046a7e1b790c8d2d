"""What the flags and configuration keys of SeqTR's and MSAM's programs become here (`--cfg-options key=value`, too)."""

from __future__ import annotations

__all__ = ["FLAGS", "IGNORED_FLAGS", "REFUSED_FLAGS"]

# Flag -> keys of the configuration. General ones, such as --seed or --lr, stand in `mindground.config`. A key with `=`
# is what a flag without a value stands for.
FLAGS: dict[str, str | tuple[str, ...]] = {
    "work_dir": "train.output_dir",
    "resume_from": "train.resume",
    "data.samples_per_gpu": ("train.batch_size", "eval.batch_size"),
    "data.workers_per_gpu": "data.num_workers",
    "ema": "train.ema_decay=0.999",
    "ema_factor": "train.ema_decay",
    "use_fp16": "device.precision=float16",
    "grad_norm_clip": "train.clip_max_norm",
    "log_interval": "train.log_freq",
    "optimizer_config.lr": "train.lr",
    "optimizer_config.eps": "train.eps",
    "optimizer_config.weight_decay": "train.weight_decay",
    "optimizer_config.amsgrad": "train.amsgrad",
    "scheduler_config.max_epoch": "train.max_epochs",
    "num_bin": "model.head.num_bin",
    "num_ray": "model.head.num_ray",
    "model.vis_enc.pretrained": "train.pretrained.visual",
    "model.vis_enc.freeze_layer": "model.visual.darknet.freeze_layer",
    "model.lan_enc.freeze_emb": "model.text.gru.freeze_embedding",
    "model.lan_enc.lstm_cfg.hidden_size": "model.text.gru.hidden",
    "model.lan_enc.output_cfg.type": "model.text.gru.pool",
    "model.head.loss.neg_factor": "model.head.neg_factor",
}

_LAUNCHER = "mpirun starts the ranks"
IGNORED_FLAGS: dict[str, str] = {
    "launcher": _LAUNCHER,
    "master_port": _LAUNCHER,
    "master_addr": _LAUNCHER,
    "nnodes": _LAUNCHER,
    "node_rank": _LAUNCHER,
    "deterministic": "every random number follows from train.seed",
    "log_level": "the log is written whole",
    "model.head.in_ch": "it follows from the image encoder",
    "model.fusion.vis_chs": "they follow from the image encoder",
}

_OFF = "write {0} for what is off there with a number below 0"
_IMPORT = (
    "write mindground weights import {value} --family seqtr --data.vocab token_to_ix.pkl --out X.ckpt (--averages "
    "takes the averaged weights), then "
)
_SHOW = "draw truth and predictions with mindground show --ckpt X.ckpt --split val"
_PAGE = "there is no web page here; ask with mindground predict --ckpt X.ckpt --image I --text T"
_SCHEDULE = (
    "write --train.schedule='[{{kind: linear, epochs: 5, start: 0.1667, by_epoch: true}}, {{kind: step, milestones: "
    "[49], gamma: 0.1}}]' with {0}"
)
_SETS = {
    "RefCOCOUNC": "refcoco-unc",
    "RefCOCOPlusUNC": "refcocoplus-unc",
    "RefCOCOgUMD": "refcocog-umd",
    "RefCOCOgGoogle": "refcocog-google",
    "ReferItGameBerkeley": "referitgame-berkeley",
    "Flickr30k": "flickr30k",
    "Mixed": "mixed",
}
_DATASETS = {
    **{name: f"write --data.dataset=seqtr --data.splitBy={folder}" for name, folder in _SETS.items()},
    **{
        name: "write --data.dataset=dior_rsvg --data.splitBy=official (or msam_image), or for MSAM's instances.json "
        "--data.dataset=seqtr --data.splitBy=rsvgd"
        for name in ("RSVG", "RSVGD")
    },
}
REFUSED_FLAGS: dict[str, dict[str, str]] = {
    "finetune_from": {
        "*": "write --train.pretrained.model={value} --train.fresh=[words,positions], or take one of the files "
        "configs/seqtr/*_finetuned.yaml"
    },
    "load_from": {
        "*.pth": _IMPORT + "mindground eval --ckpt X.ckpt",
        "*": "score with mindground eval --ckpt {value}",
    },
    "resume_from": {"*.pth": _IMPORT + "--train.pretrained.model=X.ckpt to train from it"},
    "ema": {name: "write --train.ema_decay=0" for name in ("False", "false", "0")},
    "use_fp16": {name: "write --device.precision=float32" for name in ("False", "false", "0")},
    "save_interval": {"*": "last.ckpt is written after every epoch; --train.save_steps=N writes it more often"},
    "which_set": {"*": _SHOW},
    "with_gt": {"*": _SHOW},
    "no_overlay": {"*": "predictions.json of mindground predict holds boxes and masks without a drawing"},
    "config_dir": {"*": _PAGE},
    "ckpt_dir": {"*": _PAGE},
    "host": {"*": _PAGE},
    "port": {"*": _PAGE},
    "device": {
        "cuda*": "write --device_target=GPU",
        "cpu": "write --device_target=CPU",
        "*": "write --device_target=auto, GPU, Ascend or CPU",
    },
    "nproc_per_node": {"*": "start mpirun -n {value} mindground train ..."},
    "dataset": _DATASETS,
    "data.train.type": _DATASETS,
    "optimizer_config.type": {"*": "write --train.optimizer=adam (adamw, sgd, ...), in small letters"},
    "optimizer_config.betas": {"*": "write --train.beta1=0.9 --train.beta2=0.98"},
    "scheduler_config.type": {"*": _SCHEDULE.format("other kinds of segments (docs/training.md)")},
    "scheduler_config.decay_steps": {"*": _SCHEDULE.format("milestones one lower: they count finished epochs")},
    "scheduler_config.decay_ratio": {"*": _SCHEDULE.format("this gamma")},
    "scheduler_config.warmup_epochs": {
        "*": _SCHEDULE.format("so many epochs and start = 1 / (epochs + 1), or without the first segment for 0")
    },
    "model.type": {
        "SeqTR": "leave it out; the family is --family=seqtr",
        "*": "take --config configs/seqtr/dior_rsvg_msam.yaml for MSAM",
    },
    "model.vis_enc.type": {
        "DarkNet53": "write --model.visual.type=darknet",
        "*": "write --model.visual.type=darknet or swin",
    },
    "model.vis_enc.out_layer": {"*": "the three maps of strides 8, 16 and 32 are always taken; leave it out"},
    "model.lan_enc.type": {
        "LSTM": "write --model.text.type=gru",
        "*": "write --model.text.type=gru or bert",
    },
    "model.lan_enc.output_cfg.type": {"default": "write --model.text.gru.pool=last"},
    "model.fusion.type": {
        "SimpleFusion": "write --model.fusion.type=simple",
        **{name: "write --model.fusion.type=kernels" for name in ("KernelSqueeze", "KC")},
    },
    "model.head.type": {"*": "there is one head (SeqHead, InputHead); leave it out"},
    "model.head.multi_task": {
        "True": "write --model.task=multi",
        "*": "write --model.task=box, contour or multi",
    },
    "model.head.shuffle_fraction": {"-*": _OFF.format("--model.head.shuffle_fraction=0")},
    "model.head.top_p": {"-*": _OFF.format("--model.head.top_p=0")},
    "model.head.det_coord": {"[[]-1]": _OFF.format("--model.head.det_coord=[]")},
}
