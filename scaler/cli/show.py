"""Tables for people, and JSON for programs, from what the API answers."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

Json = dict[str, Any]
GRADES = {"error": "red", "warning": "yellow", "info": "cyan"}
PLAIN_WIDTH = 200  # into a file or a pipe nothing is folded at 80


@cache
def console() -> Console:
    from rich.console import Console  # noqa: PLC0415 - `decide` does without

    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def told(body: Any, *, as_json: bool, view: RenderableType | None = None) -> None:
    """The body as JSON, or its view."""
    if as_json:
        print(json.dumps(body, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False), flush=True)
    else:
        console().print(view)


def table(*columns: str, title: str | None = None) -> Table:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        name, _, justify = column.partition(":")
        made.add_column(name, justify="right" if justify == "r" else "left", overflow="fold")
    return made


def services(body: Json) -> Table:
    """The list of services."""
    made = table("service", "desired:r", "ready:r", "starting:r", "draining:r", "bounds", "pin", "ticked", "why")
    for s in body["services"]:
        counts = s["replicas"]
        made.add_row(
            plain(s["service"]),
            _or_dash(s["desired"]),
            _coloured(counts["ready"], "green"),
            _coloured(counts["starting"], "yellow"),
            _coloured(counts["draining"], "magenta"),
            f"{s['bounds']['min']}-{s['bounds']['max']}",
            pin(s["pin"]),
            _age(s["at"], body["at"]),
            plain(
                ("[off] " if s["off"] else "")
                + s["because"]
                + (f" ({s['conditions']} conditions)" if s["conditions"] else "")
            ),
        )
    return made


def service(body: Json) -> RenderableType:
    """One service: the decision with its steps, its replicas, its conditions."""
    from rich.console import Group  # noqa: PLC0415

    counts = body["replicas"]
    parts: list[RenderableType] = [
        f"[bold]{plain(body['service'])}[/]: {_or_dash(body['desired'])} desired, {counts['ready']} ready, "
        f"{counts['starting']} starting, {counts['draining']} draining; pin: {pin(body['pin'])}",
        plain(body["because"]),
    ]
    parts += why_not(body["alternatives"])
    if body["steps"]:
        parts.append(steps(body["steps"]))
    if body["fleet"]:
        fleet = table("replica", "phase", "since", "region", "address", "why")
        for r in body["fleet"]:
            fleet.add_row(
                plain(r["name"]),
                r["phase"],
                local(r["phase_at"]),
                r["region"],
                _or_dash(r["address"]),
                plain(r["because"]),
            )
        parts.append(fleet)
    if body["cost"]:
        parts.append(cost(body["cost"]))
    if body["starts"]["count"]:
        parts.append(starts(body["starts"]))
    if body["conditions"]:
        parts.append(conditions(body["conditions"]))
    return Group(*parts)


def starts(s: Json) -> str:
    """Where the time of a start goes, in one line."""
    named = {name.removesuffix("_s"): value for name, value in s["median"].items()}
    known = " → ".join(f"{name} {v:.1f} s" for name, v in named.items() if v is not None and name != "total")
    whole = f"a start takes {named['total']:.0f} s (median of {s['count']})"
    return f"{whole}: asked → {known}" if known else whole


def cost(c: Json) -> str:
    """What the replicas cost, against the budget."""
    parts = [f"{c['today']:.2f} today" + (f" of {c['daily']:.2f}" if c["daily"] is not None else "")]
    parts.append(f"{c['month']:.2f} this month" + (f" of {c['monthly']:.2f}" if c["monthly"] is not None else ""))
    parts.append(f"forecast {c['month_forecast']:.2f}")
    return f"cost in {plain(c['currency'])}: {', '.join(parts)} (a replica: {c['replica_hour']:.4g} an hour)"


def conditions(rows: list[Json]) -> Table:
    """What an operator should know, the gravest first, and what to do about it."""
    made = table("condition", "since", "what is the matter", "what to do")
    grades = list(GRADES)
    for c in sorted(rows, key=lambda c: grades.index(c["severity"])):
        name = f"[{GRADES[c['severity']]}]{plain(c['name'])}[/]"
        made.add_row(name, local(c["since"]), plain(c["message"]), plain(c["remedy"]))
    return made


def why_not(rows: list[Json]) -> list[RenderableType]:
    """Why not one fewer, and why not one more."""
    return [f"[dim]why not {a['replicas']}?[/] {plain(a['because'])}" for a in rows]


def changes(body: Json) -> Table:
    """Decisions, newest first."""
    made = table("when", "desired:r", "ready:r", "by", "because", title=plain(body["service"]))
    for d in body["decisions"]:
        made.add_row(
            local(d["at"]), str(d["desired"]), str(d["replicas"]["ready"]), plain(d["cause"]), plain(d["because"])
        )
    return made


def forecast(body: Json, rows: int = 12) -> Table:
    """The band of the arrivals expected, with a bar from low to high."""
    made = table("at", "1 in 10:r", "middle:r", "9 in 10:r", "", title=f"{plain(body['service'])}: requests a second")
    most = max(body["high"], default=0.0) or 1.0
    each = max(1, len(body["mid"]) // rows)
    began = datetime.fromisoformat(body["at"])
    for i in range(0, len(body["mid"]), each):
        low, mid, high = (body[key][i] for key in ("low", "mid", "high"))
        a, b, c = (round(24 * value / most) for value in (low, mid, high))
        bar = f"{'█' * a}{'▓' * (b - a)}{'░' * (c - b)}"
        at = (began + timedelta(seconds=i * body["bin_s"])).isoformat()
        made.add_row(local(at), f"{low:.1f}", f"{mid:.1f}", f"{high:.1f}", f"[magenta]{bar}[/]")
    return made


def steps(rows: list[Json]) -> Table:
    """What led from the demand to the count."""
    made = table("step", "before:r", "after:r", "because")
    for step in rows:
        changed = step["before"] != step["after"]
        after = f"[bold]{step['after']}[/]" if changed else str(step["after"])
        made.add_row(plain(step["name"]), str(step["before"]), after, plain(step["because"]))
    return made


def explanation(body: Json) -> RenderableType:
    """A decision of the past with its steps."""
    from rich.console import Group  # noqa: PLC0415

    decision, before = body["decision"], body["before"]
    change = ""
    if before is not None:
        same = before["desired"] == decision["desired"]
        change = " (as before)" if same else f" (before: {before['desired']}, {plain(before['because'])})"
    head = f"[bold]{plain(body['service'])}[/] at {local(decision['at'])}: {decision['desired']} desired{change}"
    parts: list[RenderableType] = [head, plain(decision["because"])]
    parts += why_not(decision["alternatives"])
    if decision["steps"]:
        parts.append(steps(decision["steps"]))
    parts += [f"instead {plain(one['because'])}" for one in decision["beside"]]
    if decision["shadow"]:
        wanted = decision["shadow"]
        parts.append(f"the shadow policy wanted {wanted['desired']}: {plain(wanted['because'])}")
    parts += [f"did: {plain(str(action))}" for action in decision["actions"]]
    if decision["reproduced"] is not None:
        parts.append(
            "made again from the record: " + ("the same" if decision["reproduced"] else "[red]not the same[/]")
        )
    return Group(*parts)


def schedule(body: Json) -> Table:
    """The calendar of the next days."""
    made = table("from", "to", "least:r", "most:r", "", title=f"{body['service']}, {body['timezone']}")
    for p in body["periods"]:
        state = ("off, a request wakes it" if p["wakes"] else "off") if p["off"] else plain(p["rule"] or "")
        made.add_row(_minute(p["from"]), _minute(p["to"]), str(p["min"]), _or_dash(p["max"]), state)
    return made


def rollout(body: Json) -> RenderableType:
    """The versions of a service, newest first, and how far a rollout is."""
    from rich.console import Group  # noqa: PLC0415

    because = f" ({plain(body['because'])})" if body["because"] else ""
    head = f"[bold]{plain(body['service'])}[/]: {body['phase']}{because}; {plain(body['progress'])}"
    made = table("version", "image", "replicas:r", "ready:r", "first seen", "ran well since", "")
    for v in body["versions"]:
        marks = [word for word in ("target", "good", "configured") if body[word] == v["version"]]
        told = ", ".join([*marks, *([plain(v["ended"])] if v["ended"] else [])])
        row = (plain(v["version"]), plain(v["image"]), str(v["replicas"]), str(v["ready"]))
        made.add_row(*row, local(v["at"]), local(v["good_at"]), told)
    return Group(head, made)


def effect(body: Json) -> str:
    """What a change led to."""
    happened, name = body["effect"], f"[bold]{plain(body['service'])}[/]"
    if happened["outcome"] == "preview":
        desired = "not known before the first tick" if happened["desired"] is None else f"{happened['desired']} desired"
        return f"{name} would have: {desired}. {plain(happened['because'] or '')} Nothing was changed."
    if happened["outcome"] == "saved":
        return f"{name}: {_or_dash(happened['desired'])} desired. {plain(happened['because'] or '')}"
    if happened["outcome"] == "lost":
        return f"{name}: another tick has the turn just now; it takes this into account."
    return f"{name}: written, but its tick could not run: {plain(happened['outcome'])}"


def pin(body: Json | None) -> str:
    if body is None:
        return "-"
    count = str(body["min"]) if body["min"] == body["max"] else f"{body['min']}-{body['max']}"
    return f"{count} until {local(body['until'])}" if body["until"] else count


def plain(text: str) -> str:
    """Text of others, with nothing in it that rich would read as markup."""
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


def local(text: str | None) -> str:
    """An instant in this machine's time zone; with its day where that is not today."""
    if text is None:
        return "-"
    at = datetime.fromisoformat(text).astimezone()
    today = datetime.now().astimezone().date() == at.date()
    return at.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def _minute(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%a %Y-%m-%d %H:%M")


def _age(at: str | None, now: str) -> str:
    if at is None:
        return "never"
    return f"{(datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds():.0f} s ago"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _coloured(count: int, colour: str) -> str:
    return f"[{colour}]{count}[/]" if count else "0"
