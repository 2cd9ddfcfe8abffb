"""What the API shows."""

from __future__ import annotations

from itertools import pairwise

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from scaler.doctor import Check
from scaler.errors import Unavailable
from scaler.web.app import app
from scaler.web.bodies import iso
from tests.web.day import WEEK, play
from tests.web.doors import Door, problem
from tests.web.doors import door as open_door


async def test_a_service_without_a_tick_says_so(door: Door) -> None:
    told = (await door.call("GET", "services")).json()
    assert [line["service"] for line in told["services"]] == ["digits", "iris"]
    assert {line["because"] for line in told["services"]} == {"There was no tick yet."}
    assert {line["desired"] for line in told["services"]} == {None}


async def test_a_service_shows_what_the_last_tick_decided_and_why(door: Door) -> None:
    reports = await door.tick()
    decision = next(r.decision for r in reports if r.service == "iris")
    assert decision is not None
    told = (await door.call("GET", "services/iris")).json()
    assert told["desired"] == decision.desired
    assert told["because"] == decision.because
    assert [s["name"] for s in told["steps"]] == [s.name for s in decision.steps]
    assert told["at"] == iso(door.world.clock())
    assert told["observation"]["ready"] == 0


async def test_a_service_tells_why_not_one_fewer_and_not_one_more(door: Door) -> None:
    await door.tick()
    told = (await door.call("GET", "services/iris")).json()
    counts = [a["replicas"] for a in told["alternatives"]]
    assert counts == [n for n in (told["desired"] - 1, told["desired"] + 1) if n >= 0]
    then = (await door.call("GET", "services/iris/explain")).json()["decision"]
    assert then["alternatives"] == told["alternatives"]


async def test_a_forecast_is_a_band_where_there_is_one_and_a_sentence_where_not() -> None:
    async with open_door(WEEK) as door:
        assert "not known" in problem(await door.call("GET", "services/iris/forecast"), 404, "no-forecast")
        await play(door.world, door.scaler, hours=2.0)
        told = (await door.call("GET", "services/iris/forecast")).json()
        bands = list(zip(told["low"], told["mid"], told["high"], strict=True))
        assert len(bands) * told["bin_s"] >= 1800 - told["bin_s"]
        assert all(0 <= low <= mid <= high for low, mid, high in bands)
        assert 'class="area expected"' in (await door.call("GET", "services/iris/chart?minutes=60")).text
        off = problem(await door.call("GET", "services/digits/forecast"), 404, "no-forecast")
        assert "forecast: true" in off


async def test_an_unknown_service_names_those_there_are(door: Door) -> None:
    for path in ("services/nope", "services/nope/pin", "services/nope/decisions", "services/nope/schedule"):
        assert "digits, iris" in problem(await door.call("GET", path), 404, "unknown-service")


async def test_decisions_come_newest_first_and_page_by_page_without_a_gap(door: Door) -> None:
    await door.tick(times=7)
    whole = (await door.call("GET", "services/iris/decisions?limit=100")).json()
    assert len(whole["decisions"]) == 7
    assert whole["next"] is None
    assert whole["decisions"] == sorted(whole["decisions"], key=lambda d: str(d["at"]), reverse=True)
    paged, cursor = [], ""
    for _ in range(4):
        page = (await door.call("GET", f"services/iris/decisions?limit=2{cursor}")).json()
        paged += page["decisions"]
        cursor = f"&cursor={page['next']}"
    assert page["next"] is None
    assert paged == whole["decisions"]


async def test_pages_are_whole_though_many_ticks_share_a_millisecond(door: Door) -> None:
    await door.tick(times=9, every_s=0.0)
    seen, cursor = [], ""
    for _ in range(9):
        page = (await door.call("GET", f"services/iris/decisions?limit=1{cursor}")).json()
        seen += [d["tick"] for d in page["decisions"]]
        cursor = f"&cursor={page['next']}"
    assert len(set(seen)) == 9
    assert page["next"] is None


async def test_decisions_since_a_time_leave_out_older_ones(door: Door) -> None:
    await door.tick(times=4)
    since = iso(door.world.clock() - 20)
    told = (await door.call("GET", "services/iris/decisions", params={"since": since})).json()
    assert len(told["decisions"]) == 2


async def test_explain_tells_the_decision_in_force_then_and_the_one_before(door: Door) -> None:
    await door.tick(times=3)
    at = door.world.clock() - 5
    told = (await door.call("GET", "services/iris/explain", params={"at": iso(at)})).json()
    assert told["decision"]["at"] == iso(door.world.clock() - 15)
    assert told["before"]["at"] == iso(door.world.clock() - 30)
    assert told["decision"]["steps"]
    assert told["decision"]["observation"]["at"] == door.world.clock() - 15


async def test_explain_before_the_first_decision_is_a_404_that_says_so(door: Door) -> None:
    await door.tick()
    answer = await door.call("GET", "services/iris/explain?at=2001-01-01T00:00:00Z")
    assert "2001-01-01" in problem(answer, 404, "no-decision")


async def test_times_and_numbers_that_are_none_are_refused_by_name(door: Door) -> None:
    for query in ("at=yesterday", "at=2026-01-01T00:00:00", "at=9e99", "at=-5", "at=20260101", f"at={'9' * 400}"):
        assert "at: " in problem(await door.call("GET", f"services/iris/explain?{query}"), 422, "bad-time")
    for query in ("limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=1e3", "limit=%D9%A3"):
        assert "limit: " in problem(await door.call("GET", f"services/iris/decisions?{query}"), 422, "bad-query")
    for query in ("cursor=x", "cursor=%00", "cursor=1-t", "cursor="):
        assert "cursor: " in problem(await door.call("GET", f"services/iris/decisions?{query}"), 422, "bad-query")


async def test_the_schedule_is_shown_without_gaps_in_local_time(door: Door) -> None:
    told = (await door.call("GET", "services/iris/schedule?days=7")).json()
    periods = told["periods"]
    assert told["timezone"] == "Europe/Berlin"
    assert all(a["to"] == b["from"] for a, b in pairwise(periods))
    assert any(p["off"] for p in periods)
    assert any(p["min"] == 2 and "T07:30:00+0" in p["from"] for p in periods)


async def test_there_is_no_forecast_and_it_says_so(door: Door) -> None:
    problem(await door.call("GET", "services/iris/forecast"), 404, "no-forecast")


async def test_an_examination_is_told_check_by_check_and_refused_where_there_is_no_azure(door: Door) -> None:
    problem(await door.call("GET", "services/iris/doctor"), 404, "not-here")

    async def examine(service: str) -> list[Check]:
        return [Check(name="clock", ok=True, detail=service), Check(name="subnet", ok=None, detail="-", remedy="x")]

    served = app(lambda: door.scaler, door.world.clock, examine=examine)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://app") as client:
        told = (await client.get("/api/services/iris/doctor")).json()
        assert (told["service"], told["ok"], [c["ok"] for c in told["checks"]]) == ("iris", True, [True, None])
        assert (await client.get("/api/services/nobody/doctor")).status_code == 404


async def test_health_is_lost_when_ticks_stay_away_and_found_again(door: Door) -> None:
    assert (await door.call("GET", "health")).status_code == 503
    await door.tick()
    assert (await door.call("GET", "health")).status_code == 200
    door.world.clock.advance(121)
    answer = await door.call("GET", "health")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "stale",
        "services": 2,
        "late": 2,
        "oldest_tick_age_s": 121.0,
        "limit_s": 120.0,
    }


async def test_a_table_without_an_answer_is_a_503_with_a_time_to_come_back(door: Door) -> None:
    door.world.faults.add("load", Unavailable("the table gives no answer.", retry_after_s=7), times=None)
    for path in ("services", "services/iris", "services/iris/pin", "metrics", "health"):
        answer = await door.call("GET", path)
        problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "7"


async def test_metrics_are_openmetrics_with_a_gap_for_what_is_not_known(door: Door) -> None:
    before = await door.call("GET", "metrics")
    assert before.headers["content-type"].startswith("application/openmetrics-text")
    assert "aci_autoscaler_desired_replicas{" not in before.text
    await door.tick()
    text = (await door.call("GET", "metrics")).text
    assert 'aci_autoscaler_bound_replicas{bound="max",service="iris"} 6.0' in text
    assert 'aci_autoscaler_desired_replicas{service="iris"} ' in text
    assert text.endswith("# EOF\n")


async def test_counters_grow_tick_by_tick_with_reasons_and_outcomes(door: Door) -> None:
    door.world.faults.add("list", Unavailable("no answer"))
    await door.tick(times=3)
    families = {f.name: f for f in text_string_to_metric_families((await door.call("GET", "metrics")).text)}  # type: ignore[no-untyped-call]
    ticks = {s.labels["service"]: s.value for s in families["aci_autoscaler_ticks"].samples}
    assert ticks == {"digits": 3, "iris": 3}
    reasons = [s for s in families["aci_autoscaler_decisions"].samples if s.labels["service"] == "iris"]
    assert sum(s.value for s in reasons) == 3
    assert {s.labels["reason"] for s in reasons} <= {"demand", "schedule_min", "blind", "min", "stabilization"}
    calls = {(s.labels["kind"], s.labels["outcome"]): s.value for s in families["aci_autoscaler_api_calls"].samples}
    assert calls["list", "failed"] == 1
    assert families["aci_autoscaler_cold_start_seconds"].type == "histogram"


async def test_the_dashboard_is_a_page_without_data_that_lets_nothing_foreign_run(door: Door) -> None:
    await door.tick()
    answer = await door.call("GET", "dashboard")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "iris" not in answer.text
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "storage" not in answer.text.replace("not in storage", "").lower()


async def test_unknown_routes_and_methods_are_problems_too(door: Door) -> None:
    problem(await door.call("GET", "nothing/here"), 404, "unknown-route")
    problem(await door.call("GET", "services/iris/"), 404, "unknown-route")
    answer = await door.call("POST", "services")
    assert "GET" in problem(answer, 405, "method-not-allowed")
    told = problem(await door.call("PATCH", "services/iris/pin"), 405, "method-not-allowed")
    assert all(method in told for method in ("GET", "PUT", "DELETE"))
