"""The doors themselves: what the wire shows beyond the answers of the model."""

import json
import socket
import ssl
import statistics
import time
import urllib.error
import urllib.request
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from infra.local.arm.arm import RECORDED
from tests.infra.arm.standin import StandIn, path_of, serving, until

FAULTS = "/stand-in/faults"


def test_an_answer_that_never_comes_leaves_the_effect(standin: StandIn) -> None:
    standin.put("silent")
    standin.running("silent")
    standin.call("POST", FAULTS, {"fault": "hang", "method": "DELETE", "name": "silent", "seconds": 30})
    with pytest.raises((TimeoutError, urllib.error.URLError)):
        standin.call("DELETE", path_of("silent"), timeout_s=0.3)
    assert standin.call("GET", path_of("silent"))[0] == 404
    assert standin.complaints() == ""


def test_an_unanswered_request_ends_as_the_gateways_timeout(standin: StandIn) -> None:
    standin.call("POST", FAULTS, {"fault": "hang", "method": "GET", "name": "nobody", "seconds": 0.2})
    standin.put("nobody")
    status, _, body = standin.call("GET", path_of("nobody"))
    assert (status, body["error"]["code"]) == (504, "GatewayTimeout")
    until(lambda: standin.call("DELETE", path_of("nobody"))[0] == 200, "the deletion")


def test_faults_are_listed_cleared_and_checked(standin: StandIn) -> None:
    assert standin.call("POST", FAULTS, {"fault": "quota", "times": 2})[0] == 201
    listed = standin.call("GET", FAULTS)[2]["value"]
    assert [(f["fault"], f["times"]) for f in listed] == [("quota", 2)]
    assert standin.call("DELETE", FAULTS)[0] == 204
    assert standin.call("GET", FAULTS)[2] == {"value": []}
    unknown: list[object] = [{"fault": "earthquake"}, {"fault": "quota", "typo": 1}, {}, []]
    for bad in unknown:
        status, _, body = standin.call("POST", FAULTS, bad)
        assert (status, body["error"]["code"]) == (400, "InvalidFault")


def test_a_repair_takes_the_real_process_away_and_brings_another(standin: StandIn) -> None:
    standin.put("host")
    pid = standin.said("host")["pid"]
    assert standin.call("POST", FAULTS, {"fault": "repairing", "name": "host", "seconds": 0.5})[2]["groups"] == 1
    assert standin.properties("host")["provisioningState"] == "Repairing"
    assert standin.said("host")["pid"] != pid


def test_without_being_asked_for_there_is_no_door_for_faults(tmp_path: Path, tls: Path) -> None:
    closed = StandIn(tmp_path, tls)
    closed.start()
    try:
        assert closed.call("POST", FAULTS, {"fault": "quota"})[0] in (400, 404)
        assert closed.put("fine")[0] == 201
    finally:
        closed.close()


def test_a_body_that_is_too_large_is_refused(standin: StandIn) -> None:
    status, _, body = standin.call("PUT", path_of("large"), {"tags": {"a": "x" * (5 * 1024 * 1024)}})
    assert (status, body["error"]["code"]) == (413, "RequestContentTooLarge")


def test_the_log_of_a_group_begins_with_the_group(standin: StandIn) -> None:
    for _ in range(2):
        standin.put("diary")
        standin.said("diary")
        assert standin.logs("diary").count("hello from") == 1
        standin.call("DELETE", path_of("diary"))


def test_requests_of_one_connection_do_not_wait_for_each_other(standin: StandIn) -> None:
    # Without TCP_NODELAY on the accepted socket each of them costs 40 ms.
    connection = HTTPSConnection(
        "127.0.0.1", standin.port, context=ssl.create_default_context(cafile=str(standin.ca)), timeout=10
    )
    path = f"/subscriptions/{RECORDED}/providers/Microsoft.ContainerInstance/locations/westus/usages"
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        connection.request("GET", f"{path}?api-version=2023-05-01", headers={"authorization": "Bearer x"})
        assert json.loads(connection.getresponse().read())["value"]
        seconds.append(time.perf_counter() - began)
    connection.close()
    assert statistics.median(seconds) < 0.03


def test_plain_http_gets_nowhere_at_the_door_for_tokens(standin: StandIn) -> None:
    with socket.create_connection(("127.0.0.1", standin.port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n")
        assert b"200" not in plain.recv(1000)


def test_the_identity_door_wants_its_header_and_an_audience(standin: StandIn) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url, header = standin.identity["IDENTITY_ENDPOINT"], {"X-IDENTITY-HEADER": standin.identity["IDENTITY_HEADER"]}
    asked = "?api-version=2019-08-01&resource=https://management.azure.com"
    for query, headers, status in ((asked, {}, 401), ("?api-version=2019-08-01", header, 400)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            opener.open(urllib.request.Request(url + query, headers=headers), timeout=5)
        refused.value.close()
        assert refused.value.code == status
    with opener.open(urllib.request.Request(url + asked, headers=header), timeout=5) as answer:
        body = json.loads(answer.read())
    assert (body["token_type"], body["resource"]) == ("Bearer", "https://management.azure.com")
    assert int(body["expires_on"]) > time.time()


def test_pages_lead_through_the_door(tmp_path: Path, tls: Path) -> None:
    with serving(tmp_path, tls, "--page-size", "2") as standin:
        for i in range(3):
            standin.put(f"page-{i}", "idle")
        first = standin.call("GET", path_of("")[:-1])[2]
        assert first["nextLink"].startswith(standin.base)
        rest = standin.call("GET", first["nextLink"].removeprefix(standin.base), api=None)[2]
        assert [g["name"] for g in first["value"] + rest["value"]] == ["page-0", "page-1", "page-2"]


def test_a_role_from_a_file_is_kept_over_the_wire(tmp_path: Path, tls: Path) -> None:
    role = tmp_path / "role.yaml"
    role.write_text("actions: ['Microsoft.ContainerInstance/containerGroups/read']\n")
    with serving(tmp_path, tls, "--authorization", str(role)) as standin:
        assert standin.call("GET", path_of("")[:-1])[0] == 200
        status, body = standin.put("forbidden")
        assert (status, body["error"]["code"]) == (403, "AuthorizationFailed")
