"""Loading function_app.py and host.json: what is indexed, and a sentence for each thing that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local.functions.app import App, HttpTrigger, QueueTrigger, TimerTrigger, load_app
from infra.local.functions.errors import StartError
from infra.local.functions.host import prepare
from infra.local.functions.keys import Level
from infra.local.functions.settings import load_host_settings
from tests.infra.functions.serving import write_app

ENV = {"SCHEDULE": "0 */5 * * * *", "QUEUE": "Jobs", "VERB": "say"}


def load(folder: Path, source: str, env: dict[str, str] = ENV) -> App:
    write_app(folder, source)
    return load_app(folder, load_host_settings(folder, env), env, 0.0)


def test_functions_are_indexed_with_their_triggers(tmp_path: Path) -> None:
    app = load(
        tmp_path,
        """
        @app.route(route="%VERB%/{name}", methods=["GET", "POST"], auth_level=func.AuthLevel.ADMIN)
        def hello(req: func.HttpRequest, context: func.Context) -> func.HttpResponse: ...

        @app.timer_trigger(arg_name="t", schedule="%SCHEDULE%", run_on_startup=True)
        async def tick(t: func.TimerRequest) -> None: ...

        @app.function_name("listen")
        @app.queue_trigger(arg_name="m", queue_name="%QUEUE%", connection="Store")
        @app.queue_output(arg_name="out", queue_name="next", connection="Store")
        def on_message(m: func.QueueMessage, out: func.Out[str]) -> None: ...
        """,
    )

    hello, tick, listen = app.functions
    assert isinstance(hello.trigger, HttpTrigger)
    assert (hello.trigger.route.template, hello.trigger.level) == ("api/say/{name}", Level.ADMIN)
    assert hello.trigger.route.methods == {"GET", "POST"}
    assert (hello.is_async, hello.wants_context, tick.is_async) == (False, True, True)
    assert isinstance(tick.trigger, TimerTrigger)
    assert tick.trigger.schedule.next_after(0.0) == 300.0
    assert (tick.trigger.run_on_startup, tick.trigger.is_monitored) == (True, True)
    assert listen.name == "listen"
    assert listen.trigger == QueueTrigger(queue="jobs", connection="Store")
    assert [(output.name, output.queue) for output in listen.outputs] == [("out", "next")]


def test_blueprints_and_annotations_as_text_are_read(tmp_path: Path) -> None:
    (tmp_path / "part_of_it.py").write_text(
        "from __future__ import annotations\nimport azure.functions as func\nbp = func.Blueprint()\n"
        '@bp.route(route="b")\ndef b(req: func.HttpRequest) -> func.HttpResponse: ...\n'
    )

    app = load(tmp_path, "from part_of_it import bp\napp.register_functions(bp)")

    assert [function.name for function in app.functions] == ["b"]


HTTP = "@app.route(route='x')\n"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import no_such_module", "function_app.py line 5: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "function_app.py line 5: SyntaxError: "),
        ("raise RuntimeError('no\\nluck')", "function_app.py line 5: RuntimeError: no luck"),
        ("func.FunctionApp('secret')", "function_app.py line 5: KeyError: 'secret'"),
        ("raise SystemExit(3)", "function_app.py line 5: SystemExit: 3"),
        ("", "defines no function"),
        ("app = None", "has no FunctionApp at its top level"),
        ("other = func.FunctionApp()", "has more than one FunctionApp at its top level"),
        (HTTP + "def f(request): ...", "function f: the parameters request belong to no binding"),
        (HTTP + "def f(): ...", "function f: the bindings req have no parameter of that name"),
        (HTTP + "def f(req, context: int): ...", "function f: the parameter context must be annotated"),
        (HTTP + "def f(req: int): ...", "function f: a httpTrigger gives no int, as req is annotated"),
        (HTTP + "def f(req: 'Missing'): ...", "function f: its annotations cannot be read: NameError"),
        (HTTP + "def f(req) -> int: ...", "function f: the output $return of type http cannot be annotated"),
        ("@app.route(route='{x')\ndef f(req): ...", "function f: the segment '{x' of its route cannot be read"),
        (
            "@app.route(route='%NO%')\ndef f(req): ...",
            "function f: the setting NO is missing; set it in the environment",
        ),
        ("@app.timer_trigger(arg_name='t', schedule='61 * * * * *')\ndef f(t): ...", "function f: its schedule cannot"),
        (
            "@app.blob_trigger(arg_name='b', path='p', connection='C')\ndef f(b): ...",
            "does not serve bindings of type blob",
        ),
        (
            HTTP + "def f(req): ...\n@app.function_name('f')\n@app.route(route='y')\ndef g(req): ...",
            "function_app.py cannot be indexed: ValueError: Function f does not have a unique function name",
        ),
        (
            "@app.function_name('f')\ndef f(): ...",
            "function_app.py cannot be indexed: ValueError: Function f does not have",
        ),
        (
            "@app.timer_trigger(arg_name='t', schedule='00:01:00')\n"
            "@app.queue_output(arg_name='o', queue_name='q', connection='C')\ndef f(t, o: str): ...",
            "function f: the parameter o is an output; annotate it azure.functions.Out",
        ),
    ],
)
def test_an_app_that_is_wrong_is_a_sentence(tmp_path: Path, source: str, problem: str) -> None:
    with pytest.raises(StartError) as caught:
        load(tmp_path, source)

    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "host.json is missing"),
        ("{", "host.json line 1: not JSON"),
        ("[]", "host.json: the file: expected an object"),
        ("{}", 'host.json: version: expected "2.0"'),
        ('{"version": "2.0", "functionTimeout": "soon"}', 'host.json: functionTimeout: expected "hh:mm:ss"'),
        (
            '{"version": "2.0", "extensions": {"queues": {"maxDequeueCount": 0}}}',
            "host.json: extensions.queues.maxDequeueCount: expected a whole number from 1 to 100000, got 0",
        ),
        ('{"version": "2.0", "extensions": {"http": 5}}', "host.json: extensions.http: expected an object"),
        (
            '{"version": "2.0", "extensions": {"queues": {"maxPollingInterval": "2"}, "http": {"routePrefix": 1}}}',
            "host.json: extensions.http.routePrefix: expected a string, got 1",
        ),
    ],
)
def test_a_host_json_that_is_wrong_is_a_sentence(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "host.json").write_text(text)

    with pytest.raises(StartError) as caught:
        load_host_settings(tmp_path, {})

    assert problem in str(caught.value)


def test_host_json_is_read_with_the_defaults_of_azure(tmp_path: Path) -> None:
    write_app(
        tmp_path, "", {"functionTimeout": "-1", "extensions": {"queues": {"batchSize": 5}, "http": {"routePrefix": ""}}}
    )

    settings = load_host_settings(tmp_path, {"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "1000"})

    assert (settings.function_timeout_s, settings.route_prefix, settings.max_body_bytes) == (None, "", 1000)
    queues = settings.queues
    assert (queues.batch_size, queues.new_batch_threshold, queues.max_dequeue_count) == (5, 2, 5)
    assert (queues.max_polling_interval_s, queues.is_base64) == (2.0, True)


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({}, "function f: the connection Store is not set; set Store__queueServiceUri"),
        ({"Store__queueServiceUri": "http://127.0.0.1:1/a"}, "Store__queueServiceUri must be an https address"),
    ],
)
def test_a_queue_without_a_usable_connection_is_a_sentence(tmp_path: Path, env: dict[str, str], problem: str) -> None:
    write_app(
        tmp_path,
        """
        @app.queue_trigger(arg_name="m", queue_name="q", connection="Store")
        def f(m: func.QueueMessage) -> None: ...
        """,
    )

    with pytest.raises(StartError) as caught:
        prepare(tmp_path, tmp_path / "keys.json", env)

    assert problem in str(caught.value)
    assert not (tmp_path / "keys.json").exists()


def test_a_folder_without_an_app_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')

    with pytest.raises(StartError, match=r"there is no function_app\.py in .*; name the folder of the app with --app"):
        prepare(tmp_path, tmp_path / "keys.json", {})
