"""The plugin's own arguments, given as the host's are: ``yolo val model=best.pt suppression=hard``.

They stand beside the autoload module, and use the standard library only, because the `yolo` command checks its words
before it imports what would register the rest of the plugin.
"""

from __future__ import annotations

import sys

ARGUMENTS = {
    "suppression": "gaussian",  # Soft-NMS with a "gaussian" or "linear" decay, or "hard" NMS
    "soft_sigma": 0.5,  # sigma of the Gaussian decay
    "backbone_lr": 1.0,  # learning rate of the backbone relative to lr0; the paper's 0.5 is for fine-tuning
    "mri_augment": 0.0,  # probability that a training image gets blur, Rician noise, motion or a bias field; 0 to 1
    "class_centric": 0.0,  # extra training samples of images with rare classes, relative to the set; 0 to 10
    "calibrate": False,  # whether scores are scaled by the temperatures that scripts/calibrate.py put in the checkpoint
    "data_root": None,  # folder of the dataset, in place of the `path` in its YAML
}


def add_to_host() -> None:
    """Add the arguments to the host's defaults, which are shared objects changed in place. Idempotent."""
    utils = sys.modules["ultralytics.utils"]
    for key, value in ARGUMENTS.items():
        utils.DEFAULT_CFG_DICT.setdefault(key, value)
        if not hasattr(utils.DEFAULT_CFG, key):
            setattr(utils.DEFAULT_CFG, key, value)
