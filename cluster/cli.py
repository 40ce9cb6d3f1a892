"""The `nullspace` command: the pipeline's own commands, and those for jobs on a cluster."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster import submitting
from cluster.errors import JobError
from pipelines.commands.arguments import AsJson, ConfigArgument, Overrides, print_json
from pipelines.commands.cli import app
from pipelines.commands.command_line import run_command_line
from pipelines.engine.failure import FAULT
from pipelines.local_options import WORKDIR, here

Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ray's dashboard, http://HEAD:8265; default RAY_ADDRESS when it is one, else http://127.0.0.1:8265.",
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job; `nullspace jobs` lists them.")]


@app.command()
def submit(
    config: ConfigArgument,
    set_: Overrides = None,
    address: Address = None,
    workdir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            callback=here("--workdir", WORKDIR),
            help="Work folder: an absolute path that every node sees. The same folder again resumes the run.",
        ),
    ] = None,
    upload: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=here("--upload"),
            help="Upload this folder, except what its .nullspaceignore names; the job runs in it.",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Further attempts after a failure that is not caused by the input.")
    ] = 2,
    wait: Annotated[
        bool, typer.Option(help="Follow the job to its end, or only start it (then without retries).")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list everything; nothing is sent.")] = False,
    upload_limit: Annotated[float, typer.Option(metavar="MIB", help="Refuse to upload more than this.")] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run or --no-wait: print JSON.")] = False,
) -> None:
    """Run the pipeline as a job of a Ray cluster: `nullspace run` there, its log and its exit code here.

    Relative paths of weights, logo and labels refer to this machine, and the files are uploaded; absolute paths and
    URIs refer to the cluster, as the images always do. nullspace must be installed on the nodes. Ctrl-C stops
    following, not the job.

    Example: `nullspace submit deit_tiny --set source.path=/shared/images --set models.0.weights=deit.safetensors
    --workdir /shared/runs/deit --address http://127.0.0.1:8265` (and `--dry-run` first, to see what would be sent)
    """
    if as_json and wait and not dry_run:
        raise JobError("--json belongs to --dry-run or --no-wait: with --wait the job's log is printed")
    order = submitting.prepare(config, set_, workdir=workdir, folder=upload, limit_mib=upload_limit)
    if dry_run:
        _show(order.to_dict() if as_json else submitting.plan(order, upload_limit), as_json)
        return
    job = submitting.send(order, address, retries=retries, wait=wait, limit_mib=upload_limit, quiet=as_json)
    if as_json:
        _show(job.to_dict(), as_json)
    raise typer.Exit(job.code if wait else 0)


@app.command()
def jobs(address: Address = None, as_json: AsJson = False) -> None:
    """The cluster's nullspace jobs, oldest first: id, state, exit code, start, duration, work folder.

    Example: `nullspace jobs --address http://127.0.0.1:8265`
    """
    found = submitting.server(address).jobs()
    _show([job.to_dict() for job in found] if as_json else submitting.table(found), as_json)


@app.command()
def logs(
    job: JobArgument,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the job is over.")] = False,
) -> None:
    """Print the log of a job; with --follow also what it prints from now on, then exit with its exit code.

    Example: `nullspace logs nullspace-demo-1a2b3c4d --follow`
    """
    raise typer.Exit(submitting.show_log(address, job, follow=follow))


@app.command()
def stop(job: JobArgument, address: Address = None) -> None:
    """Stop a job and wait for its end: its runs in MLflow are closed, finished stages are kept.

    Example: `nullspace stop nullspace-demo-1a2b3c4d`
    """
    submitting.stop(address, job)


def _show(content: Any, as_json: bool) -> None:
    if as_json:
        print_json(content)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in content))


def main() -> None:
    """Run the command line; the entry point of the package."""
    try:
        run_command_line(app)
    except Exception:  # noqa: BLE001  a fault of the program: with traceback, and another exit code than bad input
        traceback.print_exc()
        sys.exit(FAULT)
