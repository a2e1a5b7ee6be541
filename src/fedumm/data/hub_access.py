"""Is the Hugging Face Hub in reach? One short question, one clear answer, no retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fedumm.errors import FedummError

TIMEOUT = 6.0
_USE_INSTEAD = {
    "model": "Connect once and run again; or copy the model's folder here and give its path as --model_name_or_path; "
    "or use the small model that ships with fedumm: --model_name_or_path tiny.",
    "dataset": "Connect once and run again; or give a folder with a saved DatasetDict as --dataset; "
    "or use data that need no download: --dataset easy_vqa.",
}
_found_away = False


def check_reachable(kind: str, repo_id: str) -> str | None:
    """The commit at the head of a repository; None if the Hub is out of reach.

    Out of reach means offline mode (``HF_HUB_OFFLINE=1``) or no answer within six seconds. The
    Hugging Face libraries are then put into offline mode for the rest of this process, so that
    they take what is in the cache and do not try again.

    Args:
        kind: ``model`` or ``dataset``.

    Raises:
        FedummError: the Hub says that there is no such repository, or that it may not be read.
    """
    from huggingface_hub import HfApi, is_offline_mode
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if is_offline_mode():
        return None
    try:
        return HfApi().repo_info(repo_id, repo_type=kind, timeout=TIMEOUT).sha
    except GatedRepoError as error:
        raise _gated(kind, repo_id) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise FedummError(
            f"The Hugging Face Hub has no {kind} {repo_id!r}. Check the name; if it is private, "
            "log in with 'hf auth login'."
        ) from error
    except Exception as error:
        # No connection, no answer, a server in trouble: which HTTP library says so depends on huggingface_hub.
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise FedummError(
                f"The Hugging Face Hub does not let you read the {kind} {repo_id!r}: {_first_line(error)}. "
                "Log in again with 'hf auth login', or log out with 'hf auth logout'."
            ) from error
        _go_offline()
        return None


def check_model(repo_id: str) -> None:
    """Raise :class:`FedummError` if a model is neither in reach nor in the cache. Nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    if check_reachable("model", repo_id) is None and not isinstance(
        try_to_load_from_cache(repo_id, "config.json"), str
    ):
        raise explain_hub_error("model", repo_id, FileNotFoundError(repo_id), "")


def fetch_model(repo_id: str) -> None:
    """Download what a model is loaded from into the cache of the Hugging Face libraries: it is not loaded.

    Raises:
        FedummError: it is neither in reach nor in the cache, or may not be read.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        if check_reachable("model", repo_id) is None:
            return check_model(repo_id)
        files = HfApi().list_repo_files(repo_id)
        # The weights of other frameworks, and of older formats beside newer ones, can be twice what is needed.
        weights = "*.safetensors" if any(name.endswith(".safetensors") for name in files) else "*.bin"
        snapshot_download(repo_id, allow_patterns=[weights, "*.json", "*.txt", "*.jinja", "*.model"])
    except FedummError:
        raise
    except Exception as error:
        raise explain_hub_error("model", repo_id, error, "") from error


def _gated(kind: str, repo_id: str) -> FedummError:
    return FedummError(
        f"The {kind} {repo_id!r} asks for its terms to be accepted: do so on its page on the Hub, "
        "then log in with 'hf auth login'."
    )


def _first_line(error: Exception) -> str:
    """Errors of the Hugging Face libraries go on for paragraphs."""
    return str(error).strip().split("\n")[0].rstrip(".")


def _go_offline() -> None:
    import datasets
    from huggingface_hub import constants

    global _found_away
    _found_away = True
    constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Within it the Hugging Face libraries take only what is in their cache."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def explain_hub_error(kind: str, repo_id: str, error: Exception, cache_dir: str) -> FedummError:
    """What to tell the user when loading ``repo_id`` failed."""
    from huggingface_hub import constants, is_offline_mode

    if is_offline_mode():
        away = f"the Hugging Face Hub ({constants.ENDPOINT}) is out of reach"
        return FedummError(
            f"The {kind} {repo_id!r} is not in the cache ({cache_dir or constants.HF_HOME}), and "
            f"{away if _found_away else 'HF_HUB_OFFLINE forbids a download'}. {_USE_INSTEAD[kind]}"
        )
    if "gated" in str(error):
        return _gated(kind, repo_id)
    if "scripts are no longer supported" in str(error):
        return FedummError(
            f"The data set {repo_id!r} is a script, which 'datasets' no longer runs. Use a copy of it in Parquet."
        )
    return FedummError(f"The {kind} {repo_id!r} can't be loaded from the Hugging Face Hub: {_first_line(error)}")
