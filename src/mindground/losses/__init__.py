"""Loss functions of more than one family: boxes, masks, attention."""

from __future__ import annotations

from mindground.losses.attention import attention_loss
from mindground.losses.boxes import box_iou_loss, box_l1_loss, paired_iou
from mindground.losses.masks import dice_loss, sigmoid_focal_loss

__all__ = ["attention_loss", "box_iou_loss", "box_l1_loss", "dice_loss", "paired_iou", "sigmoid_focal_loss"]
