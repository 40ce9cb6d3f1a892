"""Opening a store: made once by several processes; one that cannot be used is named with the remedy."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient

from pipelines.tracking.connection.store import HTTP_DEFAULTS, TrackingError
from pipelines.tracking.tracker import Tracker


def test_two_processes_may_make_the_same_experiment_at_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Tracker(uri, "together")
    look, blind = MlflowClient.get_experiment_by_name, [True]
    # The other process looked before this one had made it.
    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", lambda *a: None if blind and blind.pop() else look(*a))
    assert Tracker(uri, "together").experiment_id == first.experiment_id and not blind


def test_a_login_in_the_address_of_a_server_is_refused() -> None:
    with pytest.raises(TrackingError, match=r"http://\*\*\*@host:5000.*MLFLOW_TRACKING_PASSWORD") as caught:
        Tracker("http://me:secret@host:5000", "x")
    assert "secret" not in str(caught.value)


def test_a_store_of_files_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"expected a usable MLflow store at .*Use sqlite:///"):
        Tracker((tmp_path / "mlruns").as_uri(), "x")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="expected a usable MLflow store at sqlite:.*file"):
        Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", "x")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, r"got .*Who are you\?.*Put user and password into MLFLOW_TRACKING_USERNAME"),
        (503, r"got too many 503 error responses\. Start it"),
        (None, r"got .*refused\. Start it"),
    ],
)
def test_a_server_that_cannot_be_used_is_named_at_once(
    status: int | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status or 200)
            self.end_headers()
            self.wfile.write(b"Who are you?")

        def log_message(self, format: str, *args: object) -> None:
            pass

    for name, value in HTTP_DEFAULTS.items():  # set here, so that they are taken back after the test
        monkeypatch.setenv(name, value)
    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    if status is None:
        server.shutdown()
        server.server_close()
    with pytest.raises(TrackingError, match=f"usable MLflow store at http://127.0.0.1:{server.server_port}, {text}"):
        Tracker(f"http://127.0.0.1:{server.server_port}", "x")
    server.shutdown()
    server.server_close()


def test_a_deleted_experiment_is_named(tracker: Tracker) -> None:
    MlflowClient(tracker.uri).delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore --experiment-id"):
        Tracker(tracker.uri, tracker.experiment)
