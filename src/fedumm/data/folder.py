"""A data set in a local folder or file, in one of the layouts that :mod:`fedumm.data.layouts` knows."""

from __future__ import annotations

from pathlib import Path

from fedumm.data.layouts import splits_of
from fedumm.data.layouts.errors import LayoutError
from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.splits import chosen
from fedumm.errors import FedummError
from fedumm.texts import one_line


def load_folder(path: Path, request: DataRequest, configuration: str = "") -> DataSplits:
    """Training and evaluation split of the data set in ``path``; of one split alone, this one and None.

    Raises:
        FedummError: it is no data set, lacks one of the splits, or is made of files that lie elsewhere.
    """
    try:
        return chosen(splits_of(path, request, configuration), request, str(path))
    except LayoutError as error:
        raise FedummError(f"--dataset {path} can't be read as a data set: {error}.") from error
    except FedummError:
        raise
    except Exception as error:
        reason = one_line(str(error.__cause__ or error).strip().split("\n")[0].rstrip("."))
        raise FedummError(f"--dataset {path} can't be read as a data set: {reason}.") from error
