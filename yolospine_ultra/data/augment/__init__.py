"""Augmentation for training: artefacts of MRI acquisition, and more samples of rare classes."""

from yolospine_ultra.data.augment.class_centric import class_table, extra_indices
from yolospine_ultra.data.augment.mri import MRIArtefacts

__all__ = ["MRIArtefacts", "class_table", "extra_indices"]
