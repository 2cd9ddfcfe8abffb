import msgspec
import pytest

from scaler.config import load
from scaler.errors import BadSetting

GOOD = """
services:
  iris:
    template: replica.yaml
    regions: [westeurope]
    replicas: {min: 0, max: 4}
    target: {concurrency: 4}
"""

AZURE = "/subscriptions/s/resourceGroups/g/providers"
POOL = f"{AZURE}/Microsoft.StandbyPool/standbyContainerGroupPools/warm"
PROFILE = f"{AZURE}/Microsoft.ContainerInstance/containerGroupProfiles/iris"


def test_a_good_file_gives_typed_values_and_defaults() -> None:
    service = load(GOOD, "autoscaler.yaml").services["iris"]
    assert (service.replicas.max, service.target.concurrency, service.slo_wait_s) == (4, 4.0, 5.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "f.yaml:2: not readable as YAML"),
        ("", "f.yaml: services: expected a mapping"),
        ("[]", "f.yaml: services: expected a mapping"),
        ("services: {}", "f.yaml: services: expected a mapping"),
        ("{services: {iris: {}}, extra: 1}", "f.yaml: extra: unknown key"),
        ("services: {Iris: {}}", "f.yaml: services.Iris: a service name has"),
        ("services: {a--b: {}}", "f.yaml: services.a--b: a service name has"),
        ("services: {iris: 3}", "f.yaml: services.iris: expected `object`, got `int`"),
        ("services: {iris: {replicas: {max: many}}}", "f.yaml: services.iris.replicas.max: expected `int`, got `str`"),
        ("services: {iris: {replicas: {min: 3, max: 2}}}", "f.yaml: services.iris.replicas: min 3 is above max 2"),
        ("services: {iris: {replicas: {min: -1}}}", "f.yaml: services.iris.replicas.min: expected `int` >= 0"),
        ("services: {iris: {replicas: {min: 100001}}}", "f.yaml: services.iris.replicas.min: expected `int` <= 100000"),
        ("services: {iris: {slo_wait_s: 1500000000}}", "f.yaml: services.iris.slo_wait_s: expected `float` <= 1"),
        ("services: {iris: {target: {cpu: 0}}}", "f.yaml: services.iris.target.cpu: expected `float` > 0.0"),
        (
            "services: {iris: {signals: [{per_replica: 1, storage_queue: q, metric: m}]}}",
            "f.yaml: services.iris.signals[0]: expected exactly one of",
        ),
        ("services: {iris: {replica: 3}}", "f.yaml: services.iris.replica: unknown key"),
        ("services: {iris: {slo_wait_s: .nan}}", "f.yaml: services.iris.slo_wait_s: expected `float` > 0.0"),
        ("services: {iris: {target: {cpu: 70}}}", "f.yaml: services.iris.target.cpu: expected `float` <= 1.0"),
        ("services: {iris: {regions: ['West Europe']}}", "f.yaml: services.iris.regions[0]: 'West Europe' is no Azure"),
        ("services: {iris: {signals: [{per_replica: 1}]}}", "f.yaml: services.iris.signals[0]: expected exactly one"),
        ("services: {iris: {signals: [{storage_queue: q}]}}", "f.yaml: services.iris.signals[0].per_replica: missing"),
        (
            "services: {iris: {schedule: {rules: [{days: mon, from: 5}]}}}",
            "f.yaml: services.iris.schedule.rules[0].from: expected `str | null`, got `int`",
        ),
        (
            "services: {iris: {rollout: {surge: 0}, replicas: {max: 1}}}",
            "f.yaml: services.iris.rollout.surge: with surge 0 and max 1",
        ),
        (
            "services: {iris: {budget: {monthly: 200}}}",
            "f.yaml: services.iris.budget: without a template nobody knows what a replica costs",
        ),
        ("services: {iris: {budget: {daily: 20}}}", "f.yaml: services.iris.budget: without a template"),
        (
            "services: {iris: {standby_pool: {pool: here, profile: there}}}",
            "f.yaml: services.iris.standby_pool.pool: 'here' is no resource id of a Microsoft.StandbyPool",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_path_and_expectation(text: str, says: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(text, "f.yaml")
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("budget", ["{monthly: 200, replica_hour: 0.5}", "{currency: CHF}"])
def test_a_limit_with_a_price_and_a_price_without_a_limit_need_no_template(budget: str) -> None:
    assert load(f"services: {{iris: {{budget: {budget}}}}}", "f.yaml").services["iris"].budget is not None


@pytest.mark.parametrize(
    "written",
    [
        "replicas: {min: 2, max: 2}",
        "replicas: {min: 100000, max: 100000}",
        "slo_wait_s: 1000000000",
        "target: {cpu: 0.5}",
        "{rollout: {surge: 0}, replicas: {max: 2}}",
        "{rollout: {surge: 1}, replicas: {max: 1}}",
        "signals: [{per_replica: 1, storage_queue: q}]",
        "signals: [{per_replica: 1, log_query: q}]",
        "signals: [{per_replica: 1, metric: m}]",
        "schedule: {rules: [{min: 1, max: 3}]}",
    ],
)
def test_what_is_just_within_its_bounds_is_read(written: str) -> None:
    assert load(f"services: {{iris: {written if written[0] == '{' else '{' + written + '}'}}}", "f.yaml").services


def test_what_is_left_out_is_as_the_page_on_settings_says() -> None:
    written = "{budget: {}, schedule: {rules: [{}]}, standby_pool: {pool: " + POOL + ", profile: " + PROFILE + "}}"
    assert msgspec.to_builtins(load(f"services: {{iris: {written}}}", "f.yaml").services["iris"]) == {
        "template": None,
        "regions": [],
        "replicas": {"min": 0, "max": 10},
        "target": dict.fromkeys(("concurrency", "requests_per_second", "cpu", "memory", "gpu")),
        "slo_wait_s": 5.0,
        "lateness_price": 10.0,
        "schedule": {
            "timezone": "UTC",
            "rules": [
                dict.fromkeys(("days", "dates", "holidays", "from", "to", "min", "max")) | {"off": False, "wake": False}
            ],
        },
        "budget": {
            "monthly": None,
            "daily": None,
            "warn_at": 0.8,
            "currency": "EUR",
            "replica_hour": None,
            "vcpu_hour": 0.045,
            "gb_hour": 0.005,
        },
        "signals": [],
        "scale_in": {"window_s": None, "drain_deadline_s": 120.0, "idle_s": 5.0},
        "start": {"deadline_s": 900.0, "expected_s": 90.0},
        "hold_limit_s": 300.0,
        "unhealthy_after_s": 60.0,
        "rollout": {
            "surge": 1,
            "gate_s": 30.0,
            "attempts": 2,
            "error_margin": 0.05,
            "latency_ratio": 2.0,
            "min_requests": 20,
        },
        "standby_pool": {"pool": POOL, "profile": PROFILE, "revision": 1},
        "spares": False,
        "forecast": True,
        "shadow": None,
    }
