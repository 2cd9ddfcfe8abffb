"""The verbs of the command line. Each imports what it needs itself, so that ``decide`` starts at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaler.cli.outcome import BAD_INPUT, NO, complain, ending

if TYPE_CHECKING:
    from scaler.cli.client import Client
    from scaler.settings import Settings

app = typer.Typer(
    name="scaler",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="See and steer the ACI autoscaler. Exit codes: 0 yes, 1 no, 2 bad input, 3 no answer.",
    epilog="AUTOSCALER_URL and AUTOSCALER_KEY say which function app is meant, and may be spoken to.",
)

Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def _names(typed: str) -> list[str]:
    """Services whose names begin so, as the function app tells them; none where it does not answer."""
    from scaler.cli.client import named  # noqa: PLC0415

    return [name for name in named(settings()) if name.startswith(typed)]


Service = Annotated[
    str, typer.Argument(help="Name of a service in autoscaler.yaml.", show_default=False, autocompletion=_names)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would come of it.")]
Config = Annotated[Path, typer.Option("--config", "-c", help="autoscaler.yaml", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; recorded with the change.")]
Actor = Annotated[str, typer.Option("--actor", envvar="USER", help="Who; recorded beside the key.", show_default=False)]


def settings(purpose: str = "cli") -> Settings:
    """The environment, as far as this command needs it. Raises ``BadSetting``."""
    from scaler.settings import Settings  # noqa: PLC0415

    return Settings.read(os.environ, purpose)  # type: ignore[arg-type]


def client() -> Client:
    """The function app that the environment names."""
    from scaler.cli.client import Client  # noqa: PLC0415

    where = settings()
    return Client(where.url, where.key)


@app.command()
@ending
def status(
    service: Annotated[
        str | None, typer.Argument(help="One service, or all.", show_default=False, autocompletion=_names)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 unless ticked of late and without conditions.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What is, and why."""
    from scaler.cli import show  # noqa: PLC0415

    if service is None:
        body = client().get("services")
        show.told(body, as_json=as_json, view=None if as_json else show.services(body))
        healthy = all(s["at"] and not s["conditions"] and s["data"] == "fresh" for s in body["services"])
    else:
        body = client().get("services", service)
        show.told(body, as_json=as_json, view=None if as_json else show.service(body))
        healthy = bool(body["at"]) and not body["conditions"] and body["data"] == "fresh"
    if check and not healthy:
        raise typer.Exit(NO)


@app.command()
@ending
def watch(
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    count: Annotated[int, typer.Option(min=0, help="So many looks; 0 until Ctrl-C.")] = 0,
    as_json: Json = False,
) -> None:
    """The table of services, live; with --json one line a look."""
    from scaler.cli.watching import watch_services  # noqa: PLC0415

    watch_services(client(), every, count, as_json=as_json)


@app.command()
@ending
def pin(  # noqa: PLR0913 - each is a word of the sentence the operator says
    service: Service,
    replicas: Annotated[int | None, typer.Argument(help="The count to hold.", show_default=False)] = None,
    *,
    least: Annotated[int | None, typer.Option("--min", help="Or: at least so many.", show_default=False)] = None,
    most: Annotated[int | None, typer.Option("--max", help="Or: at most so many.", show_default=False)] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="2h30m; a day if not given.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="2026-12-24T18:00:00+01:00", show_default=False)] = None,
    reason: Reason = "",
    actor: Actor = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Hold a count, or keep it within a span; it ends by itself."""
    from scaler.cli import show  # noqa: PLC0415

    asked = {"replicas": replicas, "min": least, "max": most, "for": duration, "until": until}
    body: dict[str, Any] = {k: v for k, v in asked.items() if v is not None}
    body |= {"reason": reason, "actor": actor}
    told = client().call("PUT", "services", service, "pin", body=body, query=_dry(dry_run))
    show.told(told, as_json=as_json, view=None if as_json else f"pin {show.pin(told['pin'])}; {show.effect(told)}")


@app.command()
@ending
def unpin(
    service: Service, reason: Reason = "", actor: Actor = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Take the pin away; exit 1 if there was none."""
    from scaler.cli import show  # noqa: PLC0415

    body = {"reason": reason, "actor": actor}
    told = client().call("DELETE", "services", service, "pin", body=body, query=_dry(dry_run))
    gone = "the pin is gone" if told["removed"] else "there was no pin"
    if dry_run:
        gone = "there is a pin" if told["removed"] else "there is no pin"
    show.told(told, as_json=as_json, view=None if as_json else f"{gone}; {show.effect(told)}")
    if not told["removed"]:
        raise typer.Exit(NO)


@app.command()
@ending
def explain(
    service: Service,
    at: Annotated[str | None, typer.Option(help="2026-03-01T14:05:00+01:00, or HH:MM of today.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Exit 1 unless its record gives it again.")] = False,
    as_json: Json = False,
) -> None:
    """Why so many, now or at a time: every step, and what was observed."""
    from scaler.cli import show  # noqa: PLC0415
    from scaler.cli.times import instant_text  # noqa: PLC0415

    body = client().get("services", service, "explain", at=None if at is None else instant_text(at))
    show.told(body, as_json=as_json, view=None if as_json else show.explanation(body))
    if verify and not body["decision"]["reproduced"]:
        raise typer.Exit(NO)


@app.command()
@ending
def decisions(
    service: Service,
    since: Annotated[str | None, typer.Option(help="2026-03-01T14:05:00+01:00, or HH:MM of today.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    every: Annotated[bool, typer.Option("--every", help="Every tick, not only those that changed the count.")] = False,
    as_json: Json = False,
) -> None:
    """What was decided, newest first: by default only what changed the count."""
    from scaler.cli import show  # noqa: PLC0415
    from scaler.cli.history import recorded  # noqa: PLC0415
    from scaler.cli.times import instant_text  # noqa: PLC0415

    start = None if since is None else instant_text(since)
    body = recorded(client(), service, since=start, limit=limit, changes=not every)
    show.told(body, as_json=as_json, view=None if as_json else show.changes(body))


@app.command()
@ending
def forecast(service: Service, as_json: Json = False) -> None:
    """The arrivals expected in the next half hour; exit 1 if there is no forecast."""
    from scaler.cli import show  # noqa: PLC0415

    body = client().get("services", service, "forecast")
    show.told(body, as_json=as_json, view=None if as_json else show.forecast(body))


@app.command()
@ending
def schedule(
    service: Service,
    days: Annotated[int, typer.Option(min=1, max=366)] = 14,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="From this file, without asking anybody.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What the calendar asks for in the next days."""
    from scaler.cli import show  # noqa: PLC0415

    if config is None:
        body = client().get("services", service, "schedule", days=str(days))
    else:
        from scaler.cli.checks import schedule_of  # noqa: PLC0415

        body = schedule_of(config, service, days)
    show.told(body, as_json=as_json, view=None if as_json else show.schedule(body))


@app.command()
@ending
def rollout(
    service: Service,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Back to the version before.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="The version of the template file once more.")] = False,
    to: Annotated[str | None, typer.Option(help="With --undo: back to this version.", show_default=False)] = None,
    reason: Reason = "",
    actor: Actor = "",
    as_json: Json = False,
) -> None:
    """Which version of the template runs and which should; go back, or try again."""
    from scaler.cli import show  # noqa: PLC0415

    if undo and retry:
        complain("rollout: give --undo or --retry, not both")
        raise typer.Exit(BAD_INPUT)
    if to is not None and not undo:
        complain("rollout: --to goes with --undo")
        raise typer.Exit(BAD_INPUT)
    if undo or retry:
        asked = {"action": "undo" if undo else "retry", "reason": reason, "actor": actor}
        body = client().call("POST", "services", service, "rollout", body=asked | ({"to": to} if to else {}))
    else:
        body = client().get("services", service, "rollout")
    show.told(body, as_json=as_json, view=None if as_json else show.rollout(body))


@app.command()
@ending
def tick(
    service: Service, reason: Reason = "", actor: Actor = "", dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Tick a service now."""
    _post(service, "tick", {"reason": reason, "actor": actor}, dry_run=dry_run, as_json=as_json)


@app.command()
@ending
def wake(service: Service, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Say that a request waits for this service."""
    _post(service, "wake", {}, dry_run=dry_run, as_json=as_json)


def _dry(dry_run: bool) -> dict[str, str | None]:
    return {"dry_run": "true" if dry_run else None}


def _post(service: str, verb: str, body: dict[str, str], *, dry_run: bool, as_json: bool) -> None:
    from scaler.cli import show  # noqa: PLC0415

    told = client().call("POST", "services", service, verb, body=body, query=_dry(dry_run))
    show.told(told, as_json=as_json, view=None if as_json else show.effect(told))


@app.command()
@ending
def validate(
    file: Annotated[Path | None, typer.Argument(help="autoscaler.yaml", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Whether a configuration can be used: settings, schedules, templates; exit 2 with a sentence if not."""
    from scaler.cli import show  # noqa: PLC0415
    from scaler.cli.checks import validate_file, validated  # noqa: PLC0415

    body = validate_file(file or Path(settings().config_file))
    show.told(body, as_json=as_json, view=None if as_json else validated(body))


@app.command()
@ending
def adopt(
    source: Annotated[str, typer.Argument(help="What `az container export` wrote, or the name of a group.")],
    service: Annotated[str | None, typer.Option(help="What it will be called; else as the file.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="autoscaler.yaml; made if missing", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """A container group that exists becomes a scaled service; its secrets are not copied, but named."""
    from scaler.cli import show  # noqa: PLC0415
    from scaler.cli.adopting import adopt_into, shown  # noqa: PLC0415

    body = adopt_into(source, service, config or Path(settings().config_file))
    show.told(body, as_json=as_json, view=None if as_json else shown(body))


@app.command()
@ending
def doctor(as_json: Json = False) -> None:
    """Whether every part can be reached and used, and what to do where not; exit 1 if something is wrong."""
    from scaler.cli import show  # noqa: PLC0415
    from scaler.cli.doctoring import examine, examined  # noqa: PLC0415

    body = examine(os.environ)
    show.told(body, as_json=as_json, view=None if as_json else examined(body))
    if not body["ok"]:
        raise typer.Exit(NO)


@app.command()
@ending
def decide(config: Config, service: Annotated[str, typer.Option("--service", "-s", help="Which.")]) -> None:
    """One JSON observation per line in, one JSON decision per line out."""
    from scaler.cli.deciding import decide_lines  # noqa: PLC0415

    decide_lines(config, service, sys.stdin.buffer, sys.stdout.buffer)


@app.command()
@ending
def discovery() -> None:
    """Endpoints for Envoy, and the wake at zero; until Ctrl-C."""
    from scaler.cli.fronting import serve_discovery  # noqa: PLC0415

    serve_discovery(settings("discovery"))


@app.command()
@ending
def envoy(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="autoscaler.yaml", show_default=False)] = None,
    listen: Annotated[str, typer.Option(help="Where requests arrive.")] = "127.0.0.1:8080",
    discovery_at: Annotated[str, typer.Option("--discovery", help="Where discovery listens.")] = "127.0.0.1:8081",
    admin: Annotated[str, typer.Option(help="Envoy's own admin port, loopback only.")] = "127.0.0.1:9901",
) -> None:
    """Envoy's bootstrap for these services, as JSON."""
    from scaler.cli.fronting import envoy_bootstrap  # noqa: PLC0415

    file = config or Path(settings().config_file)
    print(envoy_bootstrap(file, listen=listen, discovery=discovery_at, admin=admin))


@app.command()
@ending
def replay(  # noqa: PLR0913 - each names one thing of the world that is played
    trace: Annotated[Path | None, typer.Argument(help="A file of lines t_s,requests.", show_default=False)] = None,
    *,
    config: Config,
    recorded: Annotated[bool, typer.Option("--recorded", help="The service's own record in Table Storage.")] = False,
    service: Annotated[str | None, typer.Option("--service", "-s", help="Which, if there are several.")] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another file, shadow, hpa, keda, keda-load, kpa, ray, skyserve (hpa:0.6, hpa:best), fixed:N."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.01, max=62, help="So much of it; of a record the last 7.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals within a bin and of cold starts.")] = 7,
    rate: Annotated[float | None, typer.Option(min=1e-6, help="Requests per second one replica serves.")] = None,
    request_s: Annotated[float | None, typer.Option(min=1e-6, max=3600, help="Seconds of work in a request.")] = None,
    cold_start_s: Annotated[float | None, typer.Option(min=0.1, max=3600, help="Median cold start.")] = None,
    patience_s: Annotated[float, typer.Option(min=1, max=86_400, help="Who waited longer is lost.")] = 60.0,
    leaving_s: Annotated[int, typer.Option(min=0, max=3600, help="Billed so long after being told to go.")] = 15,
    tick_s: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between two ticks.")] = 15,
    begins: Annotated[str | None, typer.Option(help="When the trace begins: 2026-03-02T00:00.")] = None,
    replica_hour: Annotated[float | None, typer.Option(min=0, help="What a replica costs an hour.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture to this .svg file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """What a trace, or the recorded weeks, would have cost under this policy and others, and who would have waited."""
    from scaler.cli import replaying  # noqa: PLC0415
    from scaler.cli.replay_input import Options  # noqa: PLC0415

    options = Options(
        config=config, service=service, against=tuple(against or ()), days=days, seed=seed, rate=rate,
        request_s=request_s, cold_start_s=cold_start_s, patience_s=patience_s, leaving_s=leaving_s, tick_s=tick_s,
        begins=begins, replica_hour=replica_hour,
    )  # fmt: skip
    replaying.answer(options, trace, plot, recorded=recorded, as_json=as_json)


@app.command()
@ending
def shadow(
    service: Service,
    config: Config,
    days: Annotated[float, typer.Option(min=0.01, max=62, help="So much of the record.")] = 7.0,
    as_json: Json = False,
) -> None:
    """The shadow policy beside the live one, on the live record: where they differ, and what each would come to."""
    from scaler.cli import shadowing  # noqa: PLC0415
    from scaler.cli.replay_input import Options  # noqa: PLC0415

    shadowing.answer(Options(config=config, service=service, days=days), as_json=as_json)


def main() -> None:
    """Run the command line."""
    app()
