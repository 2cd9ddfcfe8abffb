"""Which function answers a path: templates, precedence, methods, decoding."""

from __future__ import annotations

import pytest

from infra.local.functions.errors import StartError
from infra.local.functions.routing import Route, Router, parse_route, split_path


def route(function: str, template: str, *methods: str, prefix: str = "api") -> Route:
    return parse_route(function, prefix, template, methods)


def answer(router: Router, path: str, method: str = "GET") -> tuple[str, dict[str, str]] | None:
    found = router.match(method, path)
    return None if found is None else (found[0].function, found[1])


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("plain", "/api/plain", {}),
        ("plain", "/API/Plain/", {}),
        ("plain", "/api/plain/more", None),
        ("plain", "/plain", None),
        ("/slashed/", "/api/slashed", {}),
        ("a/{x}", "/api/a/1", {"x": "1"}),
        ("a/{x}", "/api/a", None),
        ("a/{x}", "/api/a//", None),
        ("a/{x?}", "/api/a", {}),
        ("a/{x?}", "/api/a/1", {"x": "1"}),
        ("a/{x=7}", "/api/a", {"x": "7"}),
        ("a/{x:int}", "/api/a/-12", {"x": "-12"}),
        ("a/{x:int}", "/api/a/twelve", None),
        ("a/{x:int}", "/api/a/3000000000", None),
        ("a/{x:int?}", "/api/a", {}),
        ("a/{x:length(2,3)}", "/api/a/ab", {"x": "ab"}),
        ("a/{x:length(2,3)}", "/api/a/abcd", None),
        ("a/{x:alpha:minlength(2)}", "/api/a/b", None),
        ("a/{x:guid}", "/api/a/7c9e6679-7425-40de-944b-e07fc1f90ae7", {"x": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}),
        ("a/{x:guid}", "/api/a/7c9e", None),
        ("a/{*rest}", "/api/a", {}),
        ("a/{*rest}", "/api/a/", {}),
        ("a/{*rest}", "/api/a/b/c%20d", {"rest": "b/c d"}),
        ("{*rest}", "/api", {}),
        ("a/{x}", "/api/a/b%2Fc", {"x": "b%2Fc"}),
        ("a/{x}", "/api/a/%C3%A4", {"x": "ä"}),
        ("a/{x}", "/api/b/../a/1", {"x": "1"}),
        ("a/{x}", "/api/./a/1", {"x": "1"}),
    ],
)
def test_a_template_matches_as_on_azure(template: str, path: str, expected: dict[str, str] | None) -> None:
    found = answer(Router([route("f", template)]), path)

    assert found == (None if expected is None else ("f", expected))


def test_the_more_specific_route_answers_whatever_the_order() -> None:
    routes = [
        route("rest", "s/{*rest}"),
        route("any", "s/{x}"),
        route("number", "s/{z:int}"),
        route("literal", "s/list"),
        route("deep", "s/{x}/pin"),
    ]

    for order in (routes, routes[::-1]):
        router = Router(order)
        answers = [answer(router, f"/api/s{path}") for path in ("", "/list", "/7", "/seven", "/seven/pin", "/a/b")]
        assert [a and a[0] for a in answers] == ["rest", "literal", "number", "any", "deep", "rest"]


def test_a_method_that_the_specific_route_lacks_falls_to_the_next_route() -> None:
    router = Router([route("read", "s/list", "GET"), route("all", "s/{*rest}")])

    assert answer(router, "/api/s/list", "DELETE") == ("all", {"rest": "list"})


def test_one_template_with_different_methods_belongs_to_different_functions() -> None:
    router = Router([route("read", "s/{*rest}", "GET"), route("change", "S/{*rest}", "PUT", "DELETE")])

    assert answer(router, "/api/s/a", "GET") == ("read", {"rest": "a"})
    assert answer(router, "/api/s/a", "PUT") == ("change", {"rest": "a"})
    assert answer(router, "/api/s/a", "POST") is None


def test_one_template_and_method_twice_is_refused() -> None:
    with pytest.raises(StartError, match=r"function two: its route 'api/X' is that of one too"):
        Router([route("one", "x", "GET"), route("two", "X", "GET", "PUT")])


@pytest.mark.parametrize("prefix", ["", "v1", "v1/deep"])
def test_the_prefix_of_host_json_comes_first(prefix: str) -> None:
    assert answer(Router([route("f", "x", prefix=prefix)]), f"/{prefix}/x" if prefix else "/x") == ("f", {})


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("admin/x", "begins like Azure's own /admin"),
        ("Runtime", "begins like Azure's own /admin"),
        ("a/{x", "the segment '{x' of its route cannot be read"),
        ("a/b{x}", "the segment 'b{x}' of its route cannot be read"),
        ("{x:colour}", "unknown constraint 'colour'"),
        ("{x:length}", "the constraint 'length' of its route has wrong arguments"),
        ("{x?}/b", "only the last segment may be optional or a catch-all"),
        ("{*x}/b", "only the last segment may be optional or a catch-all"),
        ("{x}/{X}", "names a parameter twice"),
    ],
)
def test_a_template_that_cannot_be_read_is_a_sentence(template: str, problem: str) -> None:
    with pytest.raises(StartError, match=r"^function f: ") as caught:
        route("f", template)

    assert problem in str(caught.value)


def test_routes_that_azure_would_resolve_by_name_are_named() -> None:
    routes = [route("details", "p/{id}"), route("list", "p/list"), route("zoo", "p/{*rest}"), route("other", "q")]
    routes += [route("able", "r/{id}", "PUT"), route("baker", "r/list", "GET")]
    router = Router(routes)

    assert router.ambiguities() == [("list", "details")]


def test_parts_of_a_path_cannot_leave_the_root() -> None:
    assert split_path("/../../etc/passwd") == ["etc", "passwd"]
