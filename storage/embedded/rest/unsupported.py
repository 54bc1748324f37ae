"""What lakeFS's REST API has and this server has not: named, so that it is refused, not missed."""

from starlette.responses import Response

from storage.embedded.errors import Unsupported
from storage.embedded.http.calls import Call
from storage.errors import NotFound

_REPOSITORY = "/repositories/{repository}"
_BRANCH = f"{_REPOSITORY}/branches/{{branch}}"
_UPLOAD = f"{_BRANCH}/staging/pmpu/{{upload}}"
_RUN = f"{_REPOSITORY}/actions/runs/{{run}}"


async def refuse(call: Call) -> Response:
    """501."""
    path = call.request.url.path
    raise Unsupported(f"the embedded lakeFS does not support {call.request.method} {path}")


async def unknown(_: Call) -> Response:
    """No path of lakeFS's."""
    raise NotFound("invalid API endpoint")


_PATHS = [
    # users, groups and policies: keys of the embedded server are kept on its command line
    ("GET POST PUT DELETE", "/auth/{rest:path}"),
    ("POST", "/sts/login"),
    ("GET", "/oidc/callback"),
    ("POST", "/setup_lakefs"),
    ("POST", "/setup_comm_prefs"),
    ("GET", "/usage-report/summary"),
    # garbage collection by lakeFS's own job
    ("GET", "/config/garbage-collection"),
    ("GET PUT DELETE", f"{_REPOSITORY}/settings/gc_rules"),
    ("GET POST DELETE", f"{_REPOSITORY}/gc/rules"),
    ("GET", f"{_REPOSITORY}/gc/rules/set_allowed"),
    ("POST", f"{_REPOSITORY}/gc/prepare_commits"),
    ("POST", f"{_REPOSITORY}/gc/prepare_commits/async"),
    ("GET", f"{_REPOSITORY}/gc/prepare_commits/status"),
    ("POST", f"{_REPOSITORY}/gc/prepare_uncommited"),
    # dump and restore of a graph in lakeFS's own layout
    ("PUT", f"{_REPOSITORY}/refs/dump"),
    ("PUT", f"{_REPOSITORY}/refs/restore"),
    ("GET POST", f"{_REPOSITORY}/dump"),
    ("GET POST", f"{_REPOSITORY}/restore"),
    ("POST", f"{_REPOSITORY}/commits"),
    ("GET", f"{_REPOSITORY}/metadata/object/{{type}}/{{id}}"),
    ("GET", f"{_REPOSITORY}/metadata/meta_range/{{id}}"),
    ("GET", f"{_REPOSITORY}/metadata/range/{{id}}"),
    # hooks and pull requests
    ("GET", f"{_REPOSITORY}/actions/runs"),
    ("GET", _RUN),
    ("GET", f"{_RUN}/hooks"),
    ("GET", f"{_RUN}/hooks/{{hook}}/output"),
    ("GET POST", f"{_REPOSITORY}/pulls"),
    ("GET PATCH", f"{_REPOSITORY}/pulls/{{pull}}"),
    ("PUT", f"{_REPOSITORY}/pulls/{{pull}}/merge"),
    # bytes that do not come through this server
    ("GET POST DELETE", f"{_BRANCH}/import"),
    ("PUT", f"{_BRANCH}/objects"),
    ("GET PUT", f"{_BRANCH}/staging/backing"),
    ("POST", f"{_BRANCH}/staging/pmpu"),
    ("PUT DELETE", _UPLOAD),
    ("PUT", f"{_UPLOAD}/parts/{{number}}"),
    ("PUT", f"{_UPLOAD}/parts/{{number}}/copy"),
    ("POST", f"{_REPOSITORY}/refs/{{branch}}/symlink"),
    # the rest
    ("POST", f"{_BRANCH}/cherry-pick"),
    ("GET POST DELETE", f"{_REPOSITORY}/branch_protection"),
]
ROUTES = [(method, path, refuse) for methods, path in _PATHS for method in methods.split()]
EVERYTHING = "/{path:path}"
EVERY_METHOD = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]
