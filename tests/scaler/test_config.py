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
