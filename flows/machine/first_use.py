"""What must exist before the prediction service can start: keys, policy, repositories."""

from collections.abc import Callable

from flows.settings import Settings


def prepare(settings: Settings, *, tell: Callable[[str], None]) -> None:
    """Make the roles' keys and the pipeline's repositories, where they are missing.

    Raises: Misconfigured for a pipeline that cannot be loaded, BadKey for a folder that holds
    something else than keys.
    """
    from flows.context import open_context
    from flows.keys.first_keys import make_keys

    context = open_context()
    home = make_keys(context.pipeline, settings.keys)
    if home.created:
        tell(f"keys: made in {home.folder}; the root key is {home.root.key_id[:12]}")
    context.create_repositories()
