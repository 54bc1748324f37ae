"""What must exist before the prediction service can start: keys, policy, repositories."""

from collections.abc import Callable

from flows.settings import Settings


def prepare(settings: Settings, *, tell: Callable[[str], None]) -> None:
    """Make the roles' keys and the pipeline's repositories, where they are missing.

    Raises: Misconfigured for a pipeline that cannot be loaded, BadKey for a folder that holds
    something else than keys.
    """
    from flows.keys.first_keys import make_keys
    from flows.lakes import open_pipeline

    opened = open_pipeline()
    home = make_keys(opened.pipeline, settings.keys)
    if home.created:
        tell(f"keys: made in {home.folder}; the root key is {home.root.key_id[:12]}")
    opened.lake.create_pipeline(opened.pipeline.name)
