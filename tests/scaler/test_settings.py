"""The environment: what is read from it, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from scaler.errors import BadSetting
from scaler.settings import CONFIG_FILE, NEEDED, Settings

SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
TABLE = "https://127.0.0.1:10002/devstoreaccount1"
ENV = {
    "AUTOSCALER_DEPLOYMENT_ID": "demo",
    "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
    "AUTOSCALER_RESOURCE_GROUP": "rg-demo",
    "AUTOSCALER_TABLE_ENDPOINT": TABLE,
}


def test_the_four_names_that_a_function_app_needs_are_enough() -> None:
    settings = Settings.read(ENV)
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.config_file == CONFIG_FILE
    assert settings.tick_schedule == "*/15 * * * * *"
    assert (settings.client_id, settings.replica_token, settings.managed_identity) == ("", "", False)


@pytest.mark.parametrize("name", NEEDED["function"])
def test_a_missing_name_is_said_with_its_meaning(name: str) -> None:
    for env in ({k: v for k, v in ENV.items() if k != name}, {**ENV, name: "  "}):
        with pytest.raises(BadSetting, match=f"^environment: {name}: not set; give it the "):
            Settings.read(env)


def test_discovery_needs_the_table_and_the_command_line_nothing() -> None:
    assert Settings.read({"AUTOSCALER_TABLE_ENDPOINT": TABLE}, "discovery").table_endpoint == TABLE
    assert Settings.read({}, "cli").url == ""
    with pytest.raises(BadSetting, match="AUTOSCALER_TABLE_ENDPOINT"):
        Settings.read({}, "discovery")


def test_the_queue_of_the_function_host_serves_where_no_other_is_given() -> None:
    host = {"AzureWebJobsStorage__queueServiceUri": "https://host.queue.core.windows.net/"}
    assert Settings.read(ENV | host).queue_endpoint == "https://host.queue.core.windows.net"
    own = {"AUTOSCALER_QUEUE_ENDPOINT": "https://own.queue.core.windows.net"}
    assert Settings.read(ENV | host | own).queue_endpoint == "https://own.queue.core.windows.net"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AZURE_SUBSCRIPTION_ID", "my subscription", "is not a GUID"),
        ("AZURE_CLIENT_ID", "id-app", "is not the client id"),
        ("AUTOSCALER_RESOURCE_GROUP", "rg/other", "is not the name of a resource group"),
        ("AUTOSCALER_RESOURCE_GROUP", "ends-with-dot.", "is not the name of a resource group"),
        ("AUTOSCALER_DEPLOYMENT_ID", "a b", "is not up to 63"),
        ("AUTOSCALER_TABLE_ENDPOINT", "http://127.0.0.1:10002/x", "expected https://"),
        ("AUTOSCALER_ARM_ENDPOINT", "management.azure.com", "expected https://"),
        ("AUTOSCALER_ARM_ENDPOINT", "https://[::1", "is no address"),
        ("AUTOSCALER_ARM_ENDPOINT", "https://host:99999", "is no address"),
        ("AUTOSCALER_ARM_ENDPOINT", "https://user:hush-hush@host", "the address alone"),
        ("AUTOSCALER_URL", "ftp://host", "expected http://host"),
        ("AUTOSCALER_CONFIG", "a\nb", "control character"),
        ("AUTOSCALER_TICK_SCHEDULE", "*/15 * * * *", "no schedule of six fields"),
        ("AUTOSCALER_TICK_SCHEDULE", "* * * * * ;", "no schedule of six fields"),
        ("DISCOVERY_PORT", "http", "is no port"),
        ("DISCOVERY_PORT", "65536", "is no port"),
        ("REPLICA_TOKEN", "short", "8 to 512"),
        ("REPLICA_TOKEN", "with a blank in it", "8 to 512"),
        ("AUTOSCALER_KEY", "ünprintable", "8 to 512"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_it(name: str, value: str, expected: str) -> None:
    with pytest.raises(BadSetting) as raised:
        Settings.read(ENV | {name: value})
    said = str(raised.value)
    assert said.startswith(f"environment: {name}: ")
    assert expected in said
    assert "\n" not in said
    assert "hush" not in said
    if name in ("REPLICA_TOKEN", "AUTOSCALER_KEY"):
        assert value not in said


def test_no_secret_shows() -> None:
    settings = Settings.read(ENV | {"REPLICA_TOKEN": "hush-hush-1", "AUTOSCALER_KEY": "hush-hush-2"})
    assert settings.replica_token == "hush-hush-1"
    for shown in (repr(settings), str(settings), f"{settings}", repr(settings.__rich_repr__())):
        assert "hush" not in shown
        assert "***" in shown


def test_the_authority_is_one_secret_or_several_hard_to_guess_and_never_shown() -> None:
    for given in ("planted-secret", "planted-secret planted-before"):
        settings = Settings.read({**ENV, "REPLICA_AUTHORITY": given})
        assert settings.replica_authority == given
        assert "planted" not in repr(settings)
    wrong = {"planted": "of 12 to 512", "planted-secret planted": "of 12 to 512", "@Microsoft.KeyVault(x)": "resolved"}
    for given, said in wrong.items():
        with pytest.raises(BadSetting, match=said) as raised:
            Settings.read({**ENV, "REPLICA_AUTHORITY": given})
        assert "planted" not in str(raised.value)


def test_tls_is_switched_off_by_that_word_alone() -> None:
    switched = {given: Settings.read({**ENV, "REPLICA_TLS": given}).replica_tls for given in ("", "true", "False")}
    assert switched == {"": True, "true": True, "False": False}
    with pytest.raises(BadSetting, match="REPLICA_TLS: 'no' is not true or false"):
        Settings.read({**ENV, "REPLICA_TLS": "no"})


def test_template_values_are_read_by_their_prefix_and_never_shown() -> None:
    settings = Settings.read({**ENV, "TEMPLATE_PASSWORD": "planted", "TEMPLATE_EMPTY": " ", "OTHER": "no"})
    assert settings.template_values == {"PASSWORD": "planted"}
    assert "planted" not in repr(settings)


def test_a_certificate_is_a_key_and_a_chain_and_is_never_shown() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nx\n"
    settings = Settings.read({**ENV, "FRONT_CERTIFICATE": pem})
    assert settings.front.certificate.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert "planted" not in repr(settings)
    for value, said in (("planted", "expected a PEM"), ("@Microsoft.KeyVault(SecretUri=x)", "was not resolved")):
        with pytest.raises(BadSetting, match=said) as raised:
            Settings.read({**ENV, "FRONT_CERTIFICATE": value})
        assert "planted" not in str(raised.value)
