"""Is the Hugging Face Hub in reach? One short question, one clear answer, no retries."""

from __future__ import annotations

from fedumm.errors import FedummError

TIMEOUT = 6.0
_USE_INSTEAD = {
    "model": "Connect once and run again; or copy the model's folder here and give its path as --model_name_or_path; "
    "or use the small model that ships with fedumm: --model_name_or_path tiny.",
    "dataset": "Connect once and run again; or give a folder saved with datasets' save_to_disk as --dataset; "
    "or use data that need no download: --dataset easy_vqa.",
}


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
        raise FedummError(
            f"The {kind} {repo_id!r} asks for its terms to be accepted: do so on its page on the Hub, "
            "then log in with 'hf auth login'."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise FedummError(
            f"The Hugging Face Hub has no {kind} {repo_id!r}. Check the name; if it is private, "
            "log in with 'hf auth login'."
        ) from error
    except Exception:
        # No connection, no answer, a server in trouble: which HTTP library says so depends on huggingface_hub.
        _go_offline()
        return None


def _go_offline() -> None:
    import datasets
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
    datasets.config.HF_HUB_OFFLINE = True


def explain_hub_error(kind: str, repo_id: str, error: Exception, cache_dir: str) -> FedummError:
    """What to tell the user when loading ``repo_id`` failed."""
    from huggingface_hub import constants, is_offline_mode

    if is_offline_mode():
        cache = cache_dir or constants.HF_HOME
        return FedummError(
            f"The {kind} {repo_id!r} is not in the cache ({cache}), and the Hugging Face Hub ({constants.ENDPOINT}) "
            f"is out of reach. {_USE_INSTEAD[kind]}"
        )
    if "scripts are no longer supported" in str(error):
        return FedummError(
            f"The data set {repo_id!r} is a script, which 'datasets' no longer runs. Use a copy of it in Parquet."
        )
    return FedummError(f"The {kind} {repo_id!r} can't be loaded from the Hugging Face Hub: {error}")
