"""The loop that makes what serves be what the environment's signed index says.

Once a second one cheap call asks for the releases repository's head; everything else happens only
when the head or the local policy changed. A refusal changes nothing but the state: the models that
were verified before go on serving.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from flows.service.models.admit import Admission
from flows.service.models.offer import Offer, Source
from flows.service.models.refusals import Refusal, RefusalOutbox
from flows.service.models.state import LoadedIndex, ServingState
from storage.errors import NotFound, StorageError, Unavailable

PERIOD_S = 1.0
# What was refused may become right without a new index: a clock, a timestamp, a key file.
RETRY_S = 30.0

log = logging.getLogger(__name__)


class IndexFollower:
    """One environment's loop. `prepare` gets a loaded index before it may answer requests."""

    def __init__(
        self,
        source: Source,
        admission: Admission,
        serving: ServingState,
        refusals: RefusalOutbox,
        *,
        prepare: Callable[[LoadedIndex], None],
    ) -> None:
        self._source, self._admission, self._serving = source, admission, serving
        self._refusals, self._prepare = refusals, prepare
        self._settled: tuple[object, ...] | None = None
        self._accepted: tuple[object, ...] | None = None
        self._retry_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follow index", daemon=True)

    def start(self) -> None:
        """Begin; the first round restores what should serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round that runs."""
        self._stop.set()

    def run_round(self) -> None:
        """Ask the lake once and act on a change."""
        try:
            head = self._source.head()
            self._serving.checked = datetime.now(UTC)
            seen = (head, self._admission.policy_stamp())
            if seen == self._settled and time.monotonic() < self._retry_at:
                self._note_lake("")
                return
            offer = self._source.newest(head)
            settled = self._admit_offer(offer)
            self._settled = seen
            self._retry_at = float("inf") if settled else time.monotonic() + RETRY_S
            self._note_lake("")
        except NotFound as error:
            self._serving.waiting = str(error)
            self._note_lake("")
        except StorageError as error:
            self._note_lake(str(error))

    def _run(self) -> None:
        while True:
            try:
                self.run_round()
                self._refusals.hand_in()
            # The loop must outlive any fault: what serves keeps serving, and says what happened.
            except Exception as error:
                log.exception("following the index failed")
                self._note_lake(f"following the index failed: {error}")
            if self._stop.wait(PERIOD_S):
                return

    def _admit_offer(self, offer: Offer | None) -> bool:
        """Admit the offer; False if it was refused."""
        if offer is None:
            return self._note_absent_index()
        asked = (offer.envelope, offer.timestamp, offer.policy, self._admission.policy_stamp())
        if asked == self._accepted:
            return True
        try:
            admitted = self._admission.admit(self._source, offer)
            self._prepare(admitted.loaded)
        except Unavailable:
            raise
        # Whatever a library raised, the release is not loaded.
        except Exception as error:
            self._refuse(offer.number, self._admission.step, error)
            return False
        self._serving.fresh_until, self._serving.stale = admitted.fresh_until, admitted.stale
        self._serving.refusal, self._serving.waiting = None, ""
        self._swap(admitted.loaded)
        self._accepted = asked
        return True

    def _swap(self, loaded: LoadedIndex) -> None:
        standing = self._serving.loaded
        if standing and standing.index_digest == loaded.index_digest:
            return
        self._serving.swap(loaded)
        log.info(
            "serving %s of index %d, release %s",
            loaded.champion.release,
            loaded.index,
            loaded.champion.digest[:12],
        )

    def _note_absent_index(self) -> bool:
        if self._serving.loaded is None:
            self._serving.waiting = "the environment has no index yet"
            return True
        self._refuse(0, "index", NotFound("the environment has no index any more"))
        return False

    def _refuse(self, index: int, step: str, error: Exception) -> None:
        serving, release = self._serving, self._admission.release
        reason = " ".join(str(error).split()) or type(error).__name__
        refusal = Refusal(release, index, step, reason, datetime.now(UTC))
        known = serving.refusal
        if known and (known.index, known.step, known.reason) == (index, step, reason):
            return
        log.error("refused %s of index %d at %s: %s", release or "it all", index, step, reason)
        serving.refusal, serving.refusals = refusal, serving.refusals + 1
        self._refusals.keep(refusal, error)

    def _note_lake(self, problem: str) -> None:
        if problem and problem != self._serving.lake_problem:
            log.warning("%s", problem)
        self._serving.lake_problem = problem
