"""Kedro datasets: what the user brings (records, models) and what the project writes (committed, verified)."""

from selfie.datasets.committed import CommittedDataset
from selfie.datasets.models import PackagedGGUFDataset, PolicyDataset, PretrainedDataset, WorkspaceDataset
from selfie.datasets.records import PreferenceDataset, PromptDataset
from selfie.datasets.rows import RowsDataset

__all__ = [
    "CommittedDataset",
    "PackagedGGUFDataset",
    "PolicyDataset",
    "PreferenceDataset",
    "PretrainedDataset",
    "PromptDataset",
    "RowsDataset",
    "WorkspaceDataset",
]
