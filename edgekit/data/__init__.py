"""Calibration, training and evaluation sets: described by YAML, read by one plugin a kind of storage, streamed."""

from __future__ import annotations

from edgekit.data._dataset import check_disjoint, open_dataset, splits
from edgekit.data._spec import DataSetSpec, Role, known_sets, load_spec

__all__ = ["DataSetSpec", "Role", "check_disjoint", "known_sets", "load_spec", "open_dataset", "splits"]
