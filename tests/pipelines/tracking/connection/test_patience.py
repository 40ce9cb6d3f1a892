"""A store that is away is waited for, told of once, and given up at last."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException

from pipelines.tracking.connection import patience
from pipelines.tracking.connection.patience import Patience, is_away
from pipelines.tracking.connection.store import TrackingError, reason

Sleeps = list[float]


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """Waits made, in seconds; no time passes but by them."""
    made: Sleeps = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    monkeypatch.setattr(patience.time, "monotonic", lambda: sum(made))
    return made


def refused() -> MlflowException:
    """What MLflow raises when nobody listens: it wraps the HTTP library's error, which wraps the system's."""
    try:
        try:
            raise requests.ConnectionError("HTTPConnectionPool(host='h'): Max retries exceeded") from OSError("refused")
        except requests.ConnectionError as error:
            raise MlflowException(f"API request to http://h failed with exception {error}") from error
    except MlflowException as error:
        return error


def failing(times: int, error: Exception | None = None) -> Callable[[], str]:
    """An operation that fails so often and then says "done"."""
    left = [error or refused()] * times

    def operation() -> str:
        if left:
            raise left.pop()
        return "done"

    return operation


def test_an_outage_is_waited_for_with_one_warning(sleeps: Sleeps, caplog: pytest.LogCaptureFixture) -> None:
    patient = Patience("http://h", 600)
    assert patient(failing(10)) == "done"
    assert patient(failing(0)) == "done"
    assert sleeps[0] == 0.2 and max(sleeps) == 5.0
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "MLflow at http://h does not answer (refused); the run waits for it, up to 10 minutes",
        f"MLflow answers again after {sum(sleeps):.0f} s",
    ]


def test_a_dropped_connection_is_not_worth_a_word(sleeps: Sleeps, caplog: pytest.LogCaptureFixture) -> None:
    assert Patience("x", 600)(failing(1)) == "done"
    assert caplog.records == []


def test_it_gives_up_with_the_remedy_and_the_next_ones_try_once(sleeps: Sleeps) -> None:
    patient = Patience("http://h", 60)
    with pytest.raises(TrackingError, match=r"expected MLflow at http://h to answer, got refused; waited 6\d s.*same"):
        patient(failing(1000))
    waited = len(sleeps)
    with pytest.raises(TrackingError, match="waited 0 s"):
        patient(failing(1))
    assert len(sleeps) == waited
    patient(failing(0))
    assert patient(failing(3)) == "done", "it answered in between, so the next outage is waited for again"


def test_in_a_hurry_the_error_is_raised_after_one_repetition(sleeps: Sleeps, caplog: pytest.LogCaptureFixture) -> None:
    patient = Patience("http://h", 600)
    with patient.at_once():
        assert patient(failing(1)) == "done"
        with pytest.raises(MlflowException, match="API request"):
            patient(failing(2))
    assert sleeps == [0.2, 0.2] and caplog.records == []
    assert patient(failing(2)) == "done"


def test_ctrl_c_ends_the_waiting_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    patient = Patience("http://h", 600)
    monkeypatch.setattr(patience.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        patient(failing(5))
    with pytest.raises(TrackingError, match="to answer"):  # closing the runs: tried, not waited for
        patient(failing(5))


def test_a_refusal_is_no_outage(sleeps: Sleeps) -> None:
    with pytest.raises(RestException, match="no such run"):
        Patience("x", 600)(
            failing(1, RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}))
        )
    with pytest.raises(FileNotFoundError):
        Patience("x", 600)(failing(1, FileNotFoundError("figure.png")))
    assert sleeps == []


def test_an_inner_operation_belongs_to_the_outer_one(sleeps: Sleeps) -> None:
    patient, steps = Patience("x", 600), []

    def outer() -> str:
        steps.append("outer")
        return patient(inner)

    inner = failing(2)
    assert patient(outer) == "done"
    assert steps == ["outer"] * 3


def answered(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status}", response=response)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (refused(), True),
        (requests.Timeout("timed out"), True),
        (answered(500), True),
        (answered(503), True),
        (answered(429), True),
        (answered(401), False),
        (RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}), True),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "no"}), False),
        (MlflowException("a model without signature"), False),
        (OSError("disk full"), False),
    ],
    ids=str,
)
def test_what_an_outage_is(error: Exception, away: bool) -> None:
    assert is_away(error) is away


def test_the_reason_holds_no_credentials() -> None:
    assert reason(OSError("cannot reach http://me:secret@host/x")) == "cannot reach http://***@host/x"


@pytest.mark.parametrize(
    "text", ["(psycopg.errors.UniqueViolation) duplicate key", "(sqlite3.IntegrityError) UNIQUE constraint failed: d"]
)
def test_a_row_that_another_run_made_first_is_looked_for_again(
    sleeps: Sleeps, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    error = RestException({"error_code": "BAD_REQUEST", "message": text})
    assert Patience("http://h", 600)(failing(2, error)) == "done"
    assert sum(sleeps) < 1 and not caplog.records
    with pytest.raises(RestException, match="BAD_REQUEST"):
        Patience("http://h", 600)(failing(100, error))
    assert sum(sleeps) < 10
