"""The shapes of the admin API, for its OpenAPI document; a test holds real answers against them."""

from __future__ import annotations

from typing import Any

from scaler.conditions import KINDS
from scaler.starts import PHASES
from scaler.web.history import DRAWN
from scaler.web.pins import ONE_LINE, TEXT_LIMIT

Json = dict[str, Any]

TIME = {"type": "string", "format": "date-time"}
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
MONEY = {"type": "number", "minimum": 0}
FLAG = {"type": "boolean"}
NUMBER = {"type": "number"}
ANY_OBJECT = {"type": "object"}


def _or_null(schema: Json) -> Json:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema | {"type": [schema["type"], "null"]}


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Json) -> Json:
    """Every property is required; ``from_`` stands for the key ``from``."""
    named = {key.rstrip("_"): schema for key, schema in properties.items()}
    return {"type": "object", "properties": named, "required": list(named)}


LINE = {"type": "string", "maxLength": TEXT_LIMIT, "pattern": ONE_LINE}
DURATION = r"^(?=.)([0-9]{1,4}d)?([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$"
SPAN = _object(min=COUNT, max=COUNT)

SCHEMAS: Json = {
    "Problem": _object(type=TEXT, title=TEXT, status={"type": "integer"}, detail=TEXT),
    "Step": _object(name=TEXT, before=COUNT, after=COUNT, because=TEXT),
    "Alternative": _object(replicas=COUNT, step=_or_null(TEXT), because=TEXT),
    "Beside": _object(count=COUNT, use=_or_null({"type": "number", "minimum": 0}), because=TEXT),
    "Counts": _object(ready=COUNT, starting=COUNT, draining=COUNT),
    "Condition": _object(
        name={"enum": sorted(KINDS)},
        severity={"enum": ["info", "warning", "error"]},
        about=TEXT,
        message=TEXT,
        remedy=TEXT,
        since=TIME,
    ),
    "Replica": _object(
        name=TEXT,
        phase={"enum": ["intended", "creating", "starting", "ready", "draining", "deleting"]},
        region=TEXT,
        address=_or_null(TEXT),
        template=TEXT,
        intended_at=TIME,
        phase_at=TIME,
        ready_at=_or_null(TIME),
        silent_since=_or_null(TIME),
        data={"enum": ["fresh", "stale", "blind", None]},
        because=TEXT,
    ),
    "Cost": _object(
        currency=TEXT,
        replica_hour=MONEY,
        today=MONEY,
        month=MONEY,
        month_forecast=MONEY,
        daily=_or_null(MONEY),
        monthly=_or_null(MONEY),
        warning=_or_null(TEXT),
    ),
    "Shadow": _object(desired=COUNT, limited_by=_or_null(TEXT), because=TEXT),
    "Pin": _object(min=COUNT, max=COUNT, since=TIME, until=_or_null(TIME), actor=TEXT, reason=TEXT),
    "PinBody": {
        "type": "object",
        "description": "`replicas`, or `min` and `max`; `until` or `for`, or neither: then it ends after a day.",
        "properties": {
            "replicas": COUNT,
            "min": COUNT,
            "max": COUNT,
            "until": TIME | {"description": "When it ends, with an offset."},
            "for": {
                "type": "string",
                "pattern": DURATION,
                "description": "For how long, like `2h30m`.",
                "examples": ["2h", "45m", "3d"],
            },
            "reason": LINE,
            "actor": LINE,
        },
        "additionalProperties": False,
        "oneOf": [{"required": ["replicas"]}, {"anyOf": [{"required": ["min"]}, {"required": ["max"]}]}],
        "not": {"required": ["until", "for"]},
        "examples": [{"replicas": 3, "for": "2h", "reason": "product launch"}],
    },
    "Reasoned": {"type": "object", "properties": {"reason": LINE, "actor": LINE}, "additionalProperties": False},
    "RolloutBody": {
        "type": "object",
        "properties": {
            "action": {"enum": ["undo", "retry"]},
            "to": _or_null(TEXT) | {"description": "The version to go back to; the good one before when not given."},
            "reason": LINE,
            "actor": LINE,
        },
        "required": ["action"],
        "additionalProperties": False,
        "examples": [{"action": "undo", "reason": "wrong labels"}],
    },
    "Version": _object(
        version=TEXT,
        image=TEXT,
        at=TIME,
        good_at=_or_null(TIME),
        ended=TEXT,
        replicas=COUNT,
        ready=COUNT,
    ),
    "Effect": _object(
        outcome=TEXT,
        desired=_or_null(COUNT),
        limited_by=_or_null(TEXT),
        because=_or_null(TEXT),
        steps=_list(_ref("Step")),
    ),
    "PinShown": _object(service=TEXT, pin=_ref("Pin")),
    "PinEffect": _object(service=TEXT, pin=_ref("Pin"), effect=_ref("Effect")),
    "UnpinEffect": _object(service=TEXT, removed=FLAG, effect=_ref("Effect")),
    "Ticked": _object(service=TEXT, effect=_ref("Effect")),
    "Woken": _object(cause=TEXT, what=TEXT, outcomes={"type": "object", "additionalProperties": TEXT}),
    "Handshake": _object(validationResponse=TEXT),
    "Health": _object(
        status={"enum": ["ok", "stale"]},
        services=COUNT,
        late=COUNT,
        oldest_tick_age_s=_or_null({"type": "number"}),
        limit_s={"type": "number"},
    ),
}

_PHASES = {f"{name}_s": _or_null({"type": "number"}) for name in (*PHASES, "total")}
SCHEMAS["Starts"] = _object(
    count=COUNT,
    median=_object(**_PHASES),
    last=_list(_object(replica=TEXT, region=TEXT, template=TEXT, at=TIME, pooled=FLAG, **_PHASES)),
)
_ROLLOUT: dict[str, Json] = {
    "service": TEXT,
    "phase": {"enum": ["steady", "rolling", "returning"]},
    "since": _or_null(TIME),
    "configured": _or_null(TEXT),
    "target": _or_null(TEXT),
    "good": _or_null(TEXT),
    "proven": FLAG,
    "because": TEXT,
    "progress": TEXT,
    "versions": _list(_ref("Version")),
}
SCHEMAS["Rollout"] = _object(**_ROLLOUT)
SCHEMAS["RolloutEffect"] = _object(**_ROLLOUT, effect=_ref("Effect"))

_SUMMARY: dict[str, Json] = {
    "service": TEXT,
    "at": _or_null(TIME),
    "desired": _or_null(COUNT),
    "limited_by": _or_null(TEXT),
    "because": TEXT,
    "bounds": SPAN,
    "replicas": _ref("Counts"),
    "pin": _or_null(_ref("Pin")),
    "off": FLAG,
    "opens_at": _or_null(TIME),
    "data": {"enum": ["fresh", "partial", "stale", "blind", None]},
}
_DECISION: dict[str, Json] = {
    "at": TIME,
    "tick": TEXT,
    "cause": TEXT,
    "desired": COUNT,
    "limited_by": _or_null(TEXT),
    "because": TEXT,
    "replicas": {"type": "object", "additionalProperties": COUNT},
    "actions": _list({}),
    "seconds": {"type": "number", "minimum": 0},
    "calls": {"type": "object", "additionalProperties": COUNT},
}

SCHEMAS |= {
    "ServiceLine": _object(**_SUMMARY, conditions=COUNT),
    "Services": _object(at=TIME, services=_list(_ref("ServiceLine"))),
    "Service": _object(
        **_SUMMARY,
        steps=_list(_ref("Step")),
        alternatives=_list(_ref("Alternative")),
        fleet=_list(_ref("Replica")),
        observation=_or_null(ANY_OBJECT),
        front=_or_null(ANY_OBJECT),
        starts=_ref("Starts"),
        conditions=_list(_ref("Condition")),
        beside=_list(_ref("Beside")),
        cost=_or_null(_ref("Cost")),
        schedule=_object(timezone=TEXT, rules=COUNT),
    ),
    "Decision": _object(**_DECISION),
    "Explained": _object(
        **_DECISION,
        steps=_list(_ref("Step")),
        alternatives=_list(_ref("Alternative")),
        off=_or_null(FLAG),
        opens_at=_or_null(TIME),
        observation=_or_null(ANY_OBJECT),
        conditions=_list(ANY_OBJECT),
        beside=_list(_ref("Beside")),
        cost=_or_null(_ref("Cost")),
        shadow=_or_null(_ref("Shadow")),
        reproduced=_or_null(FLAG),
    ),
    "Decisions": _object(service=TEXT, since=TIME, decisions=_list(_ref("Decision")), next=_or_null(TEXT)),
    "Explanation": _object(
        service=TEXT, asked_at=TIME, decision=_ref("Explained"), before={"anyOf": [_ref("Decision"), {"type": "null"}]}
    ),
    "Examination": _object(
        service=TEXT, ok=FLAG, checks=_list(_object(name=TEXT, ok=_or_null(FLAG), detail=TEXT, remedy=TEXT))
    ),
    "Schedule": _object(
        service=TEXT,
        timezone=TEXT,
        days=COUNT,
        periods=_list(
            _object(from_=TIME, to=TIME, min=COUNT, max=_or_null(COUNT), off=FLAG, wakes=FLAG, rule=_or_null(TEXT))
        ),
    ),
    "History": _object(
        service=TEXT,
        since=TIME,
        until=TIME,
        step_s={"type": "number"},
        points=_object(
            **{name: _list(_or_null({"type": "number"})) for name in DRAWN if name != "off"}, off=_list(FLAG)
        ),
        starts=_or_null(_object(count=COUNT, p50_s=NUMBER, p90_s=NUMBER, bounds_s=_list(NUMBER), counts=_list(COUNT))),
    ),
    "Forecast": _object(service=TEXT, at=TIME, bin_s=NUMBER, low=_list(NUMBER), mid=_list(NUMBER), high=_list(NUMBER)),
    "Alert": {
        "type": "object",
        "properties": {
            "schemaId": {"const": "azureMonitorCommonAlertSchema"},
            "data": {
                "type": "object",
                "properties": {
                    "essentials": {
                        "type": "object",
                        "properties": {
                            "monitorCondition": TEXT,
                            "alertTargetIDs": _list(TEXT),
                        },
                        "required": ["monitorCondition"],
                    }
                },
                "required": ["essentials"],
            },
        },
        "required": ["schemaId", "data"],
    },
    "Event": {
        "type": "object",
        "properties": {"subject": TEXT, "eventType": TEXT, "type": TEXT},
        "anyOf": [{"required": ["eventType"]}, {"required": ["type"]}],
    },
    "Events": {"anyOf": [_list(_ref("Event")) | {"minItems": 1}, _ref("Event")]},
}
