"""The lake: one folder with the graph, the blobs and the parts of unfinished uploads."""

from pathlib import Path

from storage.embedded.bytes.blobs import Blobs
from storage.embedded.bytes.folder_locks import hold_folder
from storage.embedded.disk import Health, make_durable_folder
from storage.embedded.graph.version_graph import VersionGraph
from storage.embedded.sqlite import check_sqlite

GRAPH = "graph.sqlite"
SUSPECT = "suspect"


class EmbeddedLake(VersionGraph):
    """Opens `root`, which it holds alone until `close`: a version graph with its objects' bytes.

    Raises: Unavailable if another process holds it, Damaged if the graph is not sound, OSError
    if the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        check_sqlite()
        make_durable_folder(root)
        self.root = root
        self._lock = hold_folder(root)
        self.health = Health(root / SUSPECT)
        try:
            self.blobs = Blobs(root, self.health)
            super().__init__(root / GRAPH, self.health)
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Finish what was queued and let go of the folder."""
        super().close()
        self._lock.close()
