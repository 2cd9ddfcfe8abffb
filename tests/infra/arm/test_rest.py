"""What Resource Manager answers: shapes, errors, versions, pages, secrets, limits."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from infra.local.arm.arm import RECORDED, Settings
from infra.local.arm.limits import Limits
from infra.local.arm.roles import Role
from infra.local.arm.tokens import issue
from tests.infra.arm.world import START_S, World, container, group, group_path

GROUPS = group_path("")[:-1]
LIMIT = "x-ms-ratelimit-remaining-subscription-resource-requests"


def code_of(world: World, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
    answer = world.call(method, path, body, **options)
    return answer.status, answer.body["error"]["code"]


def test_lists_have_no_run_state_but_the_address() -> None:
    world = World()
    world.started("iris-1")
    for path in (GROUPS, "providers/Microsoft.ContainerInstance/containerGroups"):
        listed = world.call("GET", path).body["value"]
        assert [g["name"] for g in listed] == ["iris-1"]
        assert "instanceView" not in json.dumps(listed)
        assert listed[0]["properties"]["ipAddress"]["ip"] == "127.64.0.1"
        assert listed[0]["tags"] == {"service": "iris"}


def test_a_long_list_comes_in_pages_that_lead_to_each_other() -> None:
    world = World(settings=Settings(page_size=2))
    for i in range(5):
        world.put(f"iris-{i}")
    names: list[str] = []
    query: dict[str, str] = {}
    pages = 0
    while True:
        body = world.call("GET", GROUPS, query=query).body
        names += [g["name"] for g in body["value"]]
        pages += 1
        if "nextLink" not in body:
            break
        url = urlsplit(body["nextLink"])
        assert url.path == f"/subscriptions/{RECORDED}/{GROUPS}"
        query = dict(parse_qsl(url.query))
    assert names == [f"iris-{i}" for i in range(5)]
    assert pages == 3


def test_secrets_never_come_back_by_any_way() -> None:
    world = World()
    variables = [{"name": "PLAIN", "value": "shown"}, {"name": "HIDDEN", "secureValue": "secret-variable"}]
    world.started(
        "iris-1",
        containers=[container(environmentVariables=variables)],
        imageRegistryCredentials=[{"server": "example.azurecr.io", "username": "u", "password": "secret-registry"}],
        volumes=[
            {"name": "files", "secret": {"file": "secret-volume"}},
            {
                "name": "share",
                "azureFile": {"shareName": "s", "storageAccountName": "a", "storageAccountKey": "secret-k"},
            },
        ],
        diagnostics={"logAnalytics": {"workspaceId": "w", "workspaceKey": "secret-workspace"}},
    )
    answers = [
        world.put("iris-2", containers=[container(environmentVariables=variables)]),
        world.get("iris-1"),
        world.get("iris-1", api="2025-09-01"),
        world.call("GET", GROUPS),
        world.call("PATCH", group_path("iris-1"), {"tags": {}}),
        world.call("DELETE", group_path("iris-1")),
    ]
    assert not [a.body for a in answers if "secret-" in json.dumps(a.body)]
    shown = answers[1].body["properties"]
    assert shown["containers"][0]["properties"]["environmentVariables"] == [
        {"name": "PLAIN", "value": "shown"},
        {"name": "HIDDEN"},
    ]
    assert shown["volumes"][0] == {"name": "files", "secret": {}}
    assert "secret-" in json.dumps(world.arm.groups.keep().groups[0].properties)  # it is there, for a restart


def test_azure_adds_its_fields_by_version() -> None:
    world = World()
    world.started("iris-1")
    recent, old = world.get("iris-1").body["properties"], world.get("iris-1", api="2021-09-01").body["properties"]
    new = world.get("iris-1", api="2025-09-01").body["properties"]
    assert (recent["sku"], recent["provisioningTimeoutInSeconds"], recent["initContainers"]) == ("Standard", 1800, [])
    assert not {"sku", "initContainers"} & old.keys()
    assert new["isCreatedFromStandbyPool"] is False
    assert new["containers"][0]["properties"]["configMap"] == {"keyValuePairs": {}}
    assert isinstance(recent["containers"][0]["properties"]["resources"]["requests"]["cpu"], float)


def test_a_private_group_shows_its_address_only_when_it_runs() -> None:
    world = World()
    ports = [{"port": 8000, "protocol": "TCP"}]
    answer = world.put("iris-1", ipAddress={"type": "Private", "ports": ports})
    assert "ipAddress" not in answer.body["properties"]
    world.wait(START_S)
    assert world.properties("iris-1")["ipAddress"]["ip"].startswith("127.64.")


def test_identities_get_their_ids() -> None:
    world = World()
    name = f"/subscriptions/{RECORDED}/resourceGroups/work/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"
    body = group() | {"identity": {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {name: {}}}}
    shown = world.put("iris-1", body).body["identity"]
    assert shown["principalId"]
    assert shown["tenantId"]
    assert set(shown["userAssignedIdentities"][name]) == {"principalId", "clientId"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "InvalidRequestContent"),
        (b"[]", 400, "InvalidRequestContent"),
        ({"properties": group()["properties"]}, 400, "LocationRequired"),
        (group(location="atlantis"), 400, "LocationNotAvailableForResourceType"),
        ({"location": "westeurope"}, 400, "InvalidRequestContent"),
        (group(osType=None), 400, "InvalidOsType"),
        (group(restartPolicy="Sometimes"), 400, "InvalidRestartPolicy"),
        (group(containers=[]), 400, "InvalidRequestContent"),
        (group(containers=[container(), container()]), 400, "InvalidRequestContent"),
        (group(containers=[container(image="")]), 400, "InvalidContainerImage"),
        (group(containers=[container("No_Name")]), 400, "InvalidContainerName"),
        (group(containers=[container(resources={})]), 400, "ResourceRequestsNotSpecified"),
        (
            group(containers=[container(resources={"requests": {"cpu": 1}})]),
            400,
            "ResourceSomeRequestsNotSpecified",
        ),
        (group(ipAddress={"type": "Public", "ports": []}), 400, "MissingIpAddressPorts"),
        (
            group(containers=[container(resources={"requests": {"cpu": 1, "memoryInGB": 1, "gpu": {"count": 1}}})]),
            409,
            "ServiceUnavailable",
        ),
    ],
)
def test_a_put_that_azure_would_refuse_is_refused(body: Any, status: int, code: str) -> None:
    world = World()
    assert code_of(world, "PUT", group_path("iris-1"), body) == (status, code)
    assert world.get("iris-1").status == 404


def test_nulls_mean_that_nothing_was_said() -> None:
    world = World()
    assert (
        world.put("iris-1", volumes=None, containers=[container(command=None, environmentVariables=None)]).status == 201
    )


def test_a_dns_label_belongs_to_one_group_of_a_region() -> None:
    world = World()
    address = {"type": "Public", "ports": [{"port": 80}], "dnsNameLabel": "iris"}
    first = world.put("iris-1", ipAddress=address)
    assert first.body["properties"]["ipAddress"]["fqdn"] == "iris.westeurope.azurecontainer.io"
    assert code_of(world, "PUT", group_path("iris-2"), group(ipAddress=address)) == (400, "DnsNameLabelNotAvailable")


def test_unknown_routes_are_refused_as_azure_refuses_them() -> None:
    world = World()
    nowhere = f"/subscriptions/{RECORDED}/resourceGroups/work/providers"
    assert code_of(world, "GET", f"{nowhere}/Microsoft.Unknown/things/x") == (404, "InvalidResourceNamespace")
    assert code_of(world, "GET", f"{nowhere}/Microsoft.ContainerInstance/nGroups/x") == (404, "InvalidResourceType")
    assert code_of(world, "GET", "/somewhere") == (404, "NotFound")
    assert code_of(world, "POST", group_path("iris-1"))[0] == 405
    assert code_of(world, "GET", "/subscriptions/11111111-1111-1111-1111-111111111111") == (404, "SubscriptionNotFound")


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (None, "MissingApiVersionParameter"),
        ("1999-01-01", "InvalidApiVersionParameter"),
        ("x", "InvalidApiVersionParameter"),
    ],
)
def test_the_version_must_be_one_of_azures(api: str | None, code: str) -> None:
    world = World()
    world.put("iris-1")
    assert code_of(world, "GET", group_path("iris-1"), api=api) == (400, code)


def test_case_and_repeated_slashes_do_not_matter() -> None:
    world = World()
    world.put("iris-1")
    path = (
        f"/subscriptions/{RECORDED}//resourcegroups/WORK/providers/Microsoft.ContainerInstance//containergroups/IRIS-1"
    )
    answer = world.call("GET", path)
    assert (answer.status, answer.body["name"]) == (200, "iris-1")
    assert "/resourceGroups/work/" in answer.body["id"]


def test_only_the_resource_groups_that_exist_exist() -> None:
    mine = "00000000-0000-4000-8000-00000000acda"
    world = World(settings=Settings(subscriptions=(mine,), resource_groups=frozenset({"work"})))
    groups = f"/subscriptions/{mine}/resourceGroups/{{}}/providers/Microsoft.ContainerInstance/containerGroups"
    assert world.call("GET", groups.format("Work")).status == 200
    assert code_of(world, "GET", groups.format("other")) == (404, "ResourceGroupNotFound")
    assert code_of(world, "PUT", f"{groups.format('other')}/x", group()) == (404, "ResourceGroupNotFound")
    assert world.call("GET", f"/subscriptions/{mine}/resourcegroups/work").body["name"] == "work"
    assert world.call("GET", "resourceGroups/clitest/" + GROUPS.split("/", 2)[2]).status == 200  # of the recordings


def test_logs_come_from_the_container_once_it_ran() -> None:
    world = World()
    world.put("iris-1")
    path = group_path("iris-1", "containers/main/logs")
    assert code_of(world, "GET", path) == (409, "ContainerGroupTransitioning")
    world.wait(START_S)
    assert world.call("GET", path).body == {"content": "iris-1 main\nsecond\n"}
    assert world.call("GET", path, query={"tail": "1"}).body == {"content": "second\n"}
    assert code_of(world, "GET", group_path("iris-1", "containers/other/logs")) == (404, "ContainerNotFound")


def test_exec_has_the_shape_of_an_answer() -> None:
    world = World()
    world.started("iris-1")
    answer = world.call("POST", group_path("iris-1", "containers/main/exec"), {"command": "ls"})
    assert answer.status == 200
    assert answer.body["webSocketUri"].startswith("wss://")
    assert answer.body["password"]


def test_usage_counts_groups_and_cores_of_the_region() -> None:
    world = World()
    world.put("iris-1", containers=[container(resources={"requests": {"cpu": 4, "memoryInGB": 8}})])
    world.put("iris-2", group(location="northeurope"))
    path = "providers/Microsoft.ContainerInstance/locations/westeurope/usages"
    usage = {u["name"]["value"]: (u["currentValue"], u["limit"]) for u in world.call("GET", path).body["value"]}
    assert usage == {"ContainerGroups": (1, 100), "StandardCores": (4, 100)}


def test_a_quota_is_kept() -> None:
    world = World(limits=Limits(groups=3, cores=5))
    world.put("iris-1", containers=[container(resources={"requests": {"cpu": 4, "memoryInGB": 8}})])
    answer = world.put("iris-2", containers=[container(resources={"requests": {"cpu": 2, "memoryInGB": 8}})])
    assert (answer.status, answer.body["error"]["code"]) == (400, "ContainerGroupQuotaReached")
    assert "'StandardCores' exceeded in region 'westeurope'. Limit: '5', Usage: '4' Requested: '2'" in str(answer.body)
    half = [container(resources={"requests": {"cpu": 0.25, "memoryInGB": 1}})]
    assert [world.put(f"small-{i}", containers=half).status for i in range(2)] == [201, 201]
    assert "'ContainerGroups' exceeded" in str(world.put("small-3", containers=half).body)
    assert world.put("elsewhere", group(location="northeurope")).status == 201


def test_creations_are_counted_down_and_refused_with_the_time_to_wait() -> None:
    world = World(limits=Limits(changes_per_5_minutes=2, changes_per_hour=3))
    left = [world.put(f"iris-{i}").headers for i in range(2)]
    assert [(h[f"{LIMIT}-pt5m"], h[f"{LIMIT}-pt1h"]) for h in left] == [("1", "2"), ("0", "1")]
    refused = world.put("iris-2")
    assert (refused.status, refused.headers["retry-after"]) == (429, "300")
    deleted = world.call("DELETE", group_path("iris-0"))
    assert (deleted.status, deleted.headers[f"{LIMIT}-pt5m"]) == (200, "1")  # deletions have their own
    world.wait(300)
    assert world.put("iris-2").status == 201
    assert world.put("iris-3").headers["retry-after"] == "3300"
    assert f"{LIMIT}-pt5m" not in world.get("iris-1").headers


def test_resource_manager_throttles_reads_and_says_for_how_long() -> None:
    world = World(limits=Limits(reads=3, reads_per_s=0.5))
    world.put("iris-1")
    answers = [world.get("iris-1") for _ in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert answers[0].headers["x-ms-ratelimit-remaining-subscription-reads"] == "2"
    assert answers[3].body["error"]["code"] == "SubscriptionRequestsThrottled"
    assert answers[3].headers["retry-after"] == "2"
    world.wait(2)
    assert world.get("iris-1").status == 200


def test_operation_addresses_are_long_signed_and_to_be_followed_to_the_letter() -> None:
    world = World()
    answer = world.put("iris-1")
    url = urlsplit(answer.headers["azure-asyncoperation"])
    query = dict(parse_qsl(url.query))
    assert len(url.geturl()) > 2900
    assert query["api-version"] == "2018-06-01"
    assert answer.headers["x-ms-request-id"] == f"westeurope:{url.path.rpartition('/')[2]}"
    bare = {k: v for k, v in query.items() if k != "api-version"}
    assert world.call("GET", url.path, query=bare, api="2023-05-01").status == 200
    cut = bare | {"s": bare["s"][:-10]}
    assert code_of(world, "GET", url.path, query=cut, api="2018-06-01") == (400, "InvalidAsyncOperationUrl")


def test_a_role_limits_what_may_be_done() -> None:
    role = Role(actions=["Microsoft.ContainerInstance/containerGroups/*"], not_actions=["*/exec/action"])
    world = World(settings=Settings(role=role))
    assert world.put("iris-1").status == 201
    path = "providers/Microsoft.ContainerInstance/locations/westeurope/usages"
    answer = world.call("GET", path)
    assert (answer.status, answer.body["error"]["code"]) == (403, "AuthorizationFailed")
    assert "Microsoft.ContainerInstance/locations/usages/read" in answer.body["error"]["message"]
    assert code_of(world, "POST", group_path("iris-1", "containers/main/exec"))[0] == 403


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "AuthenticationFailed"),
        ("Basic x", "AuthenticationFailedInvalidHeader"),
        ("Bearer ", "AuthenticationFailedInvalidHeader"),
        ("old", "ExpiredAuthenticationToken"),
        ("foreign", "InvalidAuthenticationTokenAudience"),
    ],
)
def test_a_call_without_a_good_token_gets_401(header: str | None, code: str) -> None:
    world = World()
    made = {
        "old": lambda: "Bearer " + issue("https://management.azure.com", "c", world.now - 90_000)[0],
        "foreign": lambda: "Bearer " + issue("https://storage.azure.com", "c", world.now)[0],
    }
    if header in made:
        header = made[header]()
    answer = world.call("GET", GROUPS, headers={"authorization": header} if header else {})
    assert (answer.status, answer.body["error"]["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("audience", ["https://management.azure.com", "https://management.core.windows.net/"])
def test_a_token_for_resource_manager_is_taken(audience: str) -> None:
    world = World()
    token = issue(audience, "c", world.now)[0]
    assert world.call("GET", GROUPS, headers={"authorization": f"Bearer {token}"}).status == 200


def test_the_cloud_describes_itself_in_one_object() -> None:
    answer = World().call("GET", "/metadata/endpoints", headers={}, api="2022-09-01")
    assert answer.status == 200
    assert answer.body["resourceManager"] == "https://management.azure.com"
    assert answer.body["authentication"]["audiences"]


def test_subscriptions_and_the_provider_are_there() -> None:
    world = World()
    assert world.call("GET", "/subscriptions").body["value"][0]["subscriptionId"] == RECORDED
    assert world.call("GET", "/tenants").body["value"]
    assert world.call("GET", "locations").body["value"]
    assert world.call("GET", "providers/Microsoft.ContainerInstance").body["registrationState"] == "Registered"
    assert world.call("GET", "/providers/Microsoft.ContainerInstance/operations").body["value"]
    assert world.call("HEAD", "resourcegroups/work").status == 204
    place = "providers/Microsoft.ContainerInstance/locations/westeurope"
    assert world.call("GET", f"{place}/capabilities").body["value"][0]["capabilities"]["maxGpuCount"] == 0
    assert world.call("GET", f"{place}/cachedImages").body == {"value": []}
