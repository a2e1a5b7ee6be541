"""``vqav2``: VQA v2 (Goyal et al., 2017) from the Hub, as two data sets in Parquet.

The training questions are ``Multimodal-Fatima/VQAv2_train``, those to evaluate on the validation
split of ``lmms-lab/VQAv2`` (its test split has no answers).
"""

from __future__ import annotations

from fedumm.data.hub import load_split
from fedumm.data.request import DataRequest, DataSplits

TRAIN = "Multimodal-Fatima/VQAv2_train"
EVAL = "lmms-lab/VQAv2"


def load(request: DataRequest) -> DataSplits:
    """Both splits, or their first rows."""
    return DataSplits(
        load_split(TRAIN, ["train"], request.max_train_samples, request),
        load_split(EVAL, ["validation"], request.max_eval_samples, request),
    )
