"""Which grant a REST request needs, read from its route alone.

A route that is not named here needs the whole repository: to read it for GET and HEAD, to write
it for the rest. So a route added later is closed to narrow keys until someone lets them in.
"""

from collections.abc import Mapping

from storage.embedded.keys.access_keys import Key, Right, require

_REPOSITORIES = "/repositories"
_REPOSITORY = "/repositories/{repository}"
# What stays within one branch or ref, so that a grant for that ref alone is enough.
_WITHIN_REF = frozenset(
    f"{_REPOSITORY}{tail}"
    for tail in (
        "/branches/{branch}/commits",
        "/branches/{branch}/diff",
        "/branches/{branch}/objects",
        "/branches/{branch}/objects/delete",
        "/refs/{ref}/commits",
        "/refs/{ref}/objects",
        "/refs/{ref}/objects/ls",
        "/refs/{ref}/objects/stat",
    )
)
_SHOWS_REPOSITORY = ("GET", _REPOSITORY)
# The handler decides by the name in the body.
_CREATES_REPOSITORY = ("POST", _REPOSITORIES)


def check_route(key: Key, method: str, route: str, named: Mapping[str, str]) -> None:
    """Raises: Unauthenticated, as lakeFS does, if the key's grants are not enough."""
    right = Right.READ if method in ("GET", "HEAD") else Right.WRITE
    repository = named.get("repository")
    if repository is None:
        require(right is Right.READ or key.is_admin or (method, route) == _CREATES_REPOSITORY)
    elif (method, route) == _SHOWS_REPOSITORY:
        require(key.may_see(repository))
    else:
        ref = named.get("branch", named.get("ref")) if route in _WITHIN_REF else None
        require(key.may(right, repository, ref))
