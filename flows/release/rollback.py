"""Take an environment back: the model by a new index, the data by a new version, as one request.

Order: everything is read and verified first; then the index, since what serves is the harm; then
the datasets. A failure between the two leaves the old model serving beside the new data, and the
same command again goes on from there: an index that a rollback wrote for the same reason is taken
for this request's own, and the datasets' rollback is keyed by that index. So one reason is one
rollback, until something else is promoted; another reason, or `to`, goes further back.
"""

from dataclasses import dataclass

from flows import audit
from flows.context import Context
from flows.data import rollback as datasets
from flows.keys.published_policy import publish_policy
from flows.pipeline import Pipeline
from flows.release.approval import propose
from flows.release.publish_index import (
    NextIndex,
    make_request_id,
    names_release,
    publish_index,
    verify_registered,
)
from flows.trust.installation import Trusted
from flows.trust.newest_index import read_history, read_standing_index
from security.release.index import Index, VerifiedIndex
from security.release.signing import VerifiedRelease
from storage.errors import NotFound, Refused
from storage.lake import MAIN, Lake, Pin
from storage.registry import ReleaseRef, layout
from storage.runs import records
from storage.runs.records import Record
from storage.versions import rollback


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """What a person asks for: which environment goes back, why, to what, and with its data or not.

    Without `to` it is the release that ran before the current one.
    """

    environment: str
    reason: str
    to: ReleaseRef | None = None
    keep_data: bool = False
    may_run_again: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentPlan:
    """What a rollback would do: `left` gives way to `release`, and `data` is taken back.

    `current` is the newest index; if `repeated`, an earlier start of this request wrote it.
    `data` is None if the datasets stay, or were taken back by that earlier start.
    """

    request: RollbackRequest
    current: VerifiedIndex
    left: ReleaseRef
    release: ReleaseRef
    verified: VerifiedRelease
    repeated: bool
    data: datasets.DataPlan | None

    @property
    def environment(self) -> str:
        """The environment that goes back."""
        return self.request.environment

    @property
    def reason(self) -> str:
        """Why."""
        return self.request.reason

    @property
    def is_done(self) -> bool:
        """Whether an earlier start did all of it."""
        return self.repeated and (self.data is None or self.data.is_done)


@dataclass(frozen=True, slots=True)
class EnvironmentRollback:
    """What stands now. `data` is the record of the datasets' rollback, None if there was none.

    `already`: an earlier start of this request had done all of it. With a `proposal` nothing
    changed yet: more releasers have to sign, and the same request then takes the datasets back.
    """

    environment: str
    left: ReleaseRef
    release: ReleaseRef
    index: int
    data: Record | None
    already: bool
    proposal: int | None = None


def plan_rollback(context: Context, request: RollbackRequest) -> EnvironmentPlan:
    """Read and verify everything that a rollback needs, and change nothing.

    Raises: NotFound without an index or an earlier release, Untrusted if the release to go back
    to does not verify, Refused if the environment runs it already.
    """
    lake, pipeline, trusted = context.lake, context.pipeline, context.trusted
    environment, reason, to = request.environment, request.reason, request.to
    pin = context.pin_releases()
    audit.check_grown(lake, pin, trusted.floors)
    current = _require_current(lake, pin, trusted, environment)
    past = read_history(lake, pin, current)
    repeated = _is_repeated(lake, pin, current.index, reason, to)
    release = _make_ref(current.index) if repeated else to or _find_earlier(past)
    view = trusted.policy
    if view.index_threshold(environment) > 1:
        view = view.for_cosigner()
    verified = verify_registered(lake, pin, release, view)
    if names_release(current.index, verified) and not repeated:
        raise Refused(
            f"{environment} runs {release} already.",
            remedy="For its data alone: `headrace data rollback --all --to "
            f"{_find_data_pin(pipeline, verified).commit[:12]}`.",
        )
    data = None
    done = repeated and _find_data_record(lake, pipeline, environment, current.index.number)
    if not request.keep_data and not done:
        data = _plan_data(lake, pipeline, verified, may_run_again=request.may_run_again)
    left = _make_ref(past[-2] if repeated else current.index)
    return EnvironmentPlan(request, current, left, release, verified, repeated, data)


def roll_back_environment(context: Context, plan: EnvironmentPlan) -> EnvironmentRollback:
    """The planned release by a new index, then the pipeline's datasets to its data pin.

    Predictions stay: they are what was answered.
    Raises: Refused, naming the winner, if another index came after the plan was made.
    """
    # A person may have thought for long: others may have signed another policy meanwhile.
    context = context.read_policy_again()
    number = plan.current.index.number
    if not plan.repeated:
        publish_policy(context)
        following = _make_next(plan, context.actor)
        if context.trusted.policy.index_threshold(plan.environment) > 1:
            proposal = propose(context, following)
            return EnvironmentRollback(
                plan.environment, plan.left, plan.release, number, None, False, proposal
            )
        number, _ = publish_index(context, following)
    if plan.data is not None and not plan.data.is_done:
        datasets.roll_back_datasets(
            context,
            plan.data,
            request_id=_name_data_request(plan.environment, number),
            on=MAIN,
            reason=plan.reason,
        )
    return EnvironmentRollback(
        environment=plan.environment,
        left=plan.left,
        release=plan.release,
        index=number,
        data=_find_data_record(context.lake, context.pipeline, plan.environment, number),
        already=plan.is_done,
    )


def _require_current(lake: Lake, pin: Pin, trusted: Trusted, environment: str) -> VerifiedIndex:
    found = read_standing_index(lake, pin, trusted, environment)
    if found is None:
        raise NotFound(
            f"Nothing was ever promoted to {environment}.",
            remedy="`headrace model list` prints the releases and where each one runs.",
        )
    return found


def _find_earlier(past: list[Index]) -> ReleaseRef:
    """What ran before the current release was first promoted: rollbacks never lead forward."""
    current = past[-1].release
    first = next(position for position, index in enumerate(past) if index.release == current)
    if first == 0:
        raise NotFound(
            f"Nothing ran in {past[-1].environment} before {_make_ref(past[-1])}.",
            remedy="Name the release with --to MODEL/VERSION.",
        )
    return _make_ref(past[first - 1])


def _is_repeated(lake: Lake, pin: Pin, current: Index, reason: str, to: ReleaseRef | None) -> bool:
    """Whether a rollback for this very reason wrote the current index."""
    release = _make_ref(current)
    if to not in (None, release):
        return False
    request = make_request_id("rollback", release, reason, after=current.number - 1)
    run = layout.index_run(current.environment, request)
    return records.find(lake, pin.repository, pin.commit, stage=layout.SERVE, run=run) is not None


def _make_next(plan: EnvironmentPlan, actor: str) -> NextIndex:
    after = plan.current.index.number
    return NextIndex(
        environment=plan.environment,
        release=plan.verified,
        kind="rollback",
        actor=actor,
        reason=plan.reason,
        after=plan.current,
        request_id=make_request_id("rollback", plan.release, plan.reason, after=after),
    )


def _plan_data(
    lake: Lake, pipeline: Pipeline, verified: VerifiedRelease, *, may_run_again: bool
) -> datasets.DataPlan:
    return datasets.plan_datasets(
        lake,
        head=lake.pin(pipeline.repository),
        to=_find_data_pin(pipeline, verified),
        datasets=[dataset.name for dataset in pipeline.datasets],
        may_run_again=may_run_again,
        missing_ok=True,
    )


def _find_data_pin(pipeline: Pipeline, verified: VerifiedRelease) -> Pin:
    """The one commit of the pipeline's data that the release was trained on."""
    pins = verified.release.build.data.values()
    commits = {pin.commit for pin in pins if pin.repository == pipeline.repository}
    if len(commits) != 1:
        raise Refused(
            f"The release names {len(commits)} commits of {pipeline.repository}, not one.",
            remedy="Use --keep-data, then `headrace data rollback` for each dataset.",
        )
    return Pin(pipeline.repository, commits.pop())


def _find_data_record(
    lake: Lake, pipeline: Pipeline, environment: str, number: int
) -> Record | None:
    """The datasets' rollback that belongs to the index, if it was done."""
    run = records.run_id(rollback.STAGE, _name_data_request(environment, number))
    repository = pipeline.repository
    return records.find(lake, repository, MAIN, stage=rollback.STAGE, run=run)


def _name_data_request(environment: str, number: int) -> str:
    return f"{environment} index {number}"


def _make_ref(index: Index) -> ReleaseRef:
    return ReleaseRef(index.release.model, index.release.version)
