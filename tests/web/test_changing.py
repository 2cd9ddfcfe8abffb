"""What the API changes: pins that end, and ticks asked for from outside."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaler.errors import Unavailable
from scaler.web.access import Access
from scaler.web.bodies import iso
from tests.web.doors import Door, problem
from tests.web.doors import door as open_door

SUNDAY = 1_790_510_400.0  # 2026-09-27, iris is off


async def test_a_pin_is_in_force_with_the_answer(door: Door) -> None:
    await door.tick()
    answer = await door.call("PUT", "services/iris/pin", json={"replicas": 5, "for": "2h30m", "reason": "launch"})
    assert answer.status_code == 200
    told = answer.json()
    assert told["effect"]["outcome"] == "saved"
    assert told["effect"]["desired"] == 5
    assert told["pin"] == {
        "min": 5,
        "max": 5,
        "since": iso(door.world.clock()),
        "until": iso(door.world.clock() + 9000),
        "actor": "key",
        "reason": "launch",
    }
    assert (await door.call("GET", "services/iris")).json()["desired"] == 5


async def test_a_pin_ends_by_itself_even_where_no_end_was_asked_for(door: Door) -> None:
    await door.call("PUT", "services/iris/pin", json={"replicas": 5})
    door.world.clock.advance(24 * 3600 - 1)
    assert (await door.call("GET", "services/iris/pin")).status_code == 200
    door.world.clock.advance(1)
    problem(await door.call("GET", "services/iris/pin"), 404, "no-pin")
    assert (await door.call("GET", "services/iris")).json()["pin"] is None


async def test_a_pin_taken_away_has_no_effect_any_more_and_taking_it_twice_is_no_fault(door: Door) -> None:
    await door.call("PUT", "services/iris/pin", json={"replicas": 5})
    first = (await door.call("DELETE", "services/iris/pin")).json()
    again = (await door.call("DELETE", "services/iris/pin", json={"reason": "to be sure"})).json()
    assert (first["removed"], again["removed"]) == (True, False)
    problem(await door.call("GET", "services/iris/pin"), 404, "no-pin")


async def test_a_pin_opens_an_off_period(door: Door) -> None:
    door.world.clock.at = SUNDAY
    await door.tick()
    assert (await door.call("GET", "services/iris")).json()["off"] is True
    answer = await door.call("PUT", "services/iris/pin", json={"replicas": 1})
    assert answer.json()["effect"]["desired"] == 1


async def test_a_pin_above_max_is_refused_and_names_max(door: Door) -> None:
    told = problem(await door.call("PUT", "services/iris/pin", json={"replicas": 7}), 422, "pin-above-max")
    assert "7 is above 6" in told
    assert (await door.world.store.load("iris")).pin is None


@pytest.mark.parametrize(
    ("body", "name", "word"),
    [
        ({"replicas": -1}, "bad-pin", "below 0"),
        ({"min": 4, "max": 2}, "bad-pin", "above max"),
        ({"replicas": 2, "min": 1}, "bad-pin", "either"),
        ({}, "bad-pin", "missing"),
        ({"replicas": "3"}, "bad-value", "pin.replicas: expected `int | null`"),
        ({"replicas": True}, "bad-value", "pin.replicas"),
        ({"replicas": 2.5}, "bad-value", "pin.replicas"),
        ({"replica": 3}, "bad-value", "unknown field `replica`"),
        ([3], "bad-value", "pin"),
        ({"replicas": 2, "until": "2020-01-01T00:00:00Z"}, "pin-ended", "past"),
        ({"replicas": 2, "until": "2026-09-27T10:00:00"}, "bad-time", "offset"),
        ({"replicas": 2, "until": "2027-12-01T00:00:00Z"}, "pin-too-long", "366 days"),
        ({"replicas": 2, "for": "2 hours"}, "bad-duration", "2h30m"),
        ({"replicas": 2, "for": "٣m"}, "bad-duration", "2h30m"),
        ({"replicas": 2, "for": ""}, "bad-duration", "2h30m"),
        ({"replicas": 2, "for": "0s"}, "pin-ended", "past"),
        ({"replicas": 2, "for": "1h", "until": "2026-09-27T10:00:00Z"}, "bad-pin", "either"),
        ({"replicas": 2, "reason": "x" * 301}, "bad-value", "300"),
        ({"replicas": 2, "reason": "a\nb"}, "bad-value", "printable"),
        ({"replicas": 2, "actor": "\u0000"}, "bad-value", "printable"),
        ({"replicas": 10**30}, "bad-value", "pin.replicas"),
    ],
)
async def test_a_pin_that_cannot_be_is_refused_in_a_sentence(door: Door, body: Any, name: str, word: str) -> None:
    answer = await door.call("PUT", "services/iris/pin", json=body)
    assert word in problem(answer, 422, name)
    assert (await door.world.store.load("iris")).pin is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"replicas": 3', "not JSON"),
        (b'{"replicas": NaN}', "NaN"),
        (b'{"replicas": Infinity}', "Infinity"),
        (b'{"replicas": 1e999}', "too large"),
        (b'{"replicas": 1, "replicas": 2}', "twice"),
        (b"\xff\xfe", "not JSON"),
        (b'{"reason": "\\ud800"}', "not JSON"),
        (b"[" * 60_000, "deeply"),
        (b"1" * 5000, "not JSON"),
    ],
)
async def test_what_is_not_json_is_refused(door: Door, body: bytes, word: str) -> None:
    answer = await door.call("PUT", "services/iris/pin", content=body, headers={"content-type": "application/json"})
    assert word in problem(answer, 400, "bad-json")


async def test_a_form_is_no_json(door: Door) -> None:
    problem(await door.call("PUT", "services/iris/pin", data={"replicas": "3"}), 415, "not-json")


async def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(door: Door) -> None:
    async def chunks() -> Any:
        for _ in range(65):
            yield b" " * 1024

    for content in (b" " * 65_537, chunks()):
        answer = await door.call("PUT", "services/iris/pin", content=content)
        assert "64 KiB" in problem(answer, 413, "body-too-large")


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["replicas", "min", "max", "until", "for", "reason", "actor"]) | st.text(max_size=5),
                inner,
            )
        ),
        max_leaves=8,
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_as_a_pin_is_a_pin_within_bounds_or_a_problem(body: Any) -> None:
    async def send() -> None:
        async with open_door() as door:
            answer = await door.call("PUT", "services/iris/pin", content=json.dumps(body).encode())
            pin = (await door.world.store.load("iris")).pin
            assert answer.status_code in (200, 400, 422), answer.text
            assert (pin is not None) == (answer.status_code == 200)
            if pin is not None:
                assert 0 <= pin.min <= pin.max <= 6
                assert pin.until is not None
                assert pin.until > door.world.clock()

    asyncio.run(send())


async def test_of_two_operators_who_read_the_same_pin_only_one_changes_it(door: Door) -> None:
    first = await door.call("PUT", "services/iris/pin", json={"replicas": 2})
    etag = first.headers["etag"]
    assert etag == (await door.call("GET", "services/iris/pin")).headers["etag"]
    won = await door.call("PUT", "services/iris/pin", json={"replicas": 3}, headers={"if-match": etag})
    lost = await door.call("PUT", "services/iris/pin", json={"replicas": 4}, headers={"if-match": etag})
    assert won.status_code == 200
    problem(lost, 412, "changed-meanwhile")
    problem(await door.call("DELETE", "services/iris/pin", headers={"if-match": etag}), 412, "changed-meanwhile")
    assert (await door.call("GET", "services/iris/pin")).json()["pin"]["max"] == 3


async def test_if_none_match_pins_only_where_no_pin_is_in_force(door: Door) -> None:
    star = {"if-none-match": "*"}
    body = {"replicas": 2, "for": "1h"}
    assert (await door.call("PUT", "services/iris/pin", json=body, headers=star)).status_code == 200
    problem(await door.call("PUT", "services/iris/pin", json=body, headers=star), 412, "pin-exists")
    door.world.clock.advance(3600)
    assert (await door.call("PUT", "services/iris/pin", json=body, headers=star)).status_code == 200


async def test_a_pin_read_again_unchanged_costs_no_body(door: Door) -> None:
    etag = (await door.call("PUT", "services/iris/pin", json={"replicas": 2})).headers["etag"]
    answer = await door.call("GET", "services/iris/pin", headers={"if-none-match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


async def test_who_pinned_is_the_key_and_the_name_that_the_caller_claims(door: Door) -> None:
    await door.call("PUT", "services/iris/pin", json={"replicas": 2, "actor": "anna"}, headers={"x-actor": "bert"})
    assert (await door.call("GET", "services/iris/pin")).json()["pin"]["actor"] == "key (anna)"
    await door.call("PUT", "services/iris/pin", json={"replicas": 2}, headers={"x-actor": "bert"})
    assert (await door.call("GET", "services/iris/pin")).json()["pin"]["actor"] == "key (bert)"


async def test_the_name_of_the_platform_counts_only_where_the_platform_checks_it() -> None:
    claimed = {"x-ms-client-principal-name": "boss@contoso.com"}
    for platform, actor in ((False, "key"), (True, "boss@contoso.com")):
        async with open_door(access=Access(platform=platform)) as door:
            await door.call("PUT", "services/iris/pin", json={"replicas": 2}, headers=claimed)
            assert (await door.call("GET", "services/iris/pin")).json()["pin"]["actor"] == actor


async def test_a_pin_is_kept_though_its_tick_could_not_run(door: Door) -> None:
    door.world.faults.add("save", Unavailable("the table gives no answer"))
    answer = await door.call("PUT", "services/iris/pin", json={"replicas": 2})
    assert answer.status_code == 202
    assert answer.json()["effect"]["outcome"].startswith("unavailable")
    assert (await door.call("GET", "services/iris/pin")).status_code == 200


async def test_a_tick_asked_for_ticks_this_service_alone(door: Door) -> None:
    answer = await door.call("POST", "services/iris/tick")
    assert answer.status_code == 200
    assert answer.json()["effect"]["outcome"] == "saved"
    assert {r.service for r in door.world.store.recorded.values()} == {"iris"}
    assert {r.cause for r in door.world.store.recorded.values()} == {"admin"}


async def test_a_tick_that_learned_nothing_is_a_503(door: Door) -> None:
    door.world.faults.add("save", Unavailable("the table gives no answer"))
    problem(await door.call("POST", "services/iris/tick"), 503, "unavailable")


async def test_a_wake_is_a_tick_with_its_own_cause(door: Door) -> None:
    assert (await door.call("POST", "services/digits/wake", json={})).status_code == 200
    assert [(r.service, r.cause) for r in door.world.store.recorded.values()] == [("digits", "wake")]


def alert(condition: str = "Fired", **essentials: Any) -> dict[str, Any]:
    told = {"alertId": "/x", "alertRule": "cpu", "severity": "Sev2", "monitorCondition": condition, **essentials}
    return {"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": told, "alertContext": {}}}


GROUP = "/subscriptions/s/resourcegroups/rg/providers/microsoft.containerinstance/containergroups/iris-7f3a"


@pytest.mark.parametrize("condition", ["Fired", "Resolved"])
async def test_an_alert_only_causes_a_tick(door: Door, condition: str) -> None:
    answer = await door.call("POST", "alerts", json=alert(condition))
    assert answer.status_code == 202
    assert answer.json() == {
        "cause": "alert",
        "what": condition.lower(),
        "outcomes": {"digits": "saved", "iris": "saved"},
    }
    assert {r.cause for r in door.world.store.recorded.values()} == {"alert"}


async def test_an_alert_about_one_replica_ticks_its_service_alone(door: Door) -> None:
    answer = await door.call("POST", "alerts", json=alert(alertTargetIDs=[GROUP]))
    assert answer.json()["outcomes"] == {"iris": "saved"}
    named = alert() | {"customProperties": {"service": "digits"}}
    assert (await door.call("POST", "alerts", json=named)).json()["outcomes"] == {"digits": "saved"}


async def test_an_alert_of_another_schema_is_refused(door: Door) -> None:
    problem(await door.call("POST", "alerts", json={"schemaId": "x", "data": {}}), 422, "bad-value")
    problem(await door.call("POST", "alerts", json=alert() | {"schemaId": "other"}), 422, "bad-alert")
    problem(await door.call("POST", "alerts"), 422, "bad-value")
    assert not door.world.store.recorded


async def test_event_grid_may_subscribe_by_either_handshake(door: Door) -> None:
    kind = "Microsoft.EventGrid.SubscriptionValidationEvent"
    event = {"id": "1", "subject": "", "eventType": kind, "data": {"validationCode": "512d38b6"}}
    answer = await door.call("POST", "events", json=[event])
    assert answer.json() == {"validationResponse": "512d38b6"}
    answer = await door.call("OPTIONS", "events", headers={"webhook-request-origin": "eventgrid.azure.net"})
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert not door.world.store.recorded


async def test_events_only_cause_a_tick_of_the_services_they_mention(door: Door) -> None:
    event = {"id": "1", "eventType": "Microsoft.Resources.ResourceDeleteSuccess", "subject": GROUP, "data": {}}
    assert (await door.call("POST", "events", json=[event])).json()["outcomes"] == {"iris": "saved"}
    cloud = {"specversion": "1.0", "type": "Microsoft.Resources.ResourceWriteSuccess", "source": "/s", "id": "2"}
    headers = {"content-type": "application/cloudevents+json"}
    answer = await door.call("POST", "events", content=json.dumps(cloud).encode(), headers=headers)
    assert set(answer.json()["outcomes"]) == {"iris", "digits"}


async def test_what_is_no_event_is_refused(door: Door) -> None:
    problem(await door.call("POST", "events", json=[]), 422, "bad-event")
    problem(await door.call("POST", "events", json=[{"subject": "x"}]), 422, "bad-event")
    problem(await door.call("POST", "events", json="x"), 422, "bad-value")
    problem(await door.call("OPTIONS", "events"), 400, "bad-handshake")
