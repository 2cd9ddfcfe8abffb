"""The triggers of the Function App; every function is one call into ``scaler``.

Reading and changing are separate functions, so an operator can hand out a key that only reads. With Entra ID before it
(AUTOSCALER_AUTH=entra) the host asks for no key, and the app for roles. A wake may come by
queue as well as by HTTP, so that whatever can write a message can cause a tick.
"""

from __future__ import annotations

import os

import azure.functions as func

from scaler.web.functions import Entry

# numpy's library starts a thread a core when it is imported: half of what its import takes, and of no use to a tick.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

entry = Entry()
app = func.FunctionApp(http_auth_level=entry.auth_level)


@app.timer_trigger(arg_name="timer", schedule="%AUTOSCALER_TICK_SCHEDULE%", run_on_startup=False)
async def tick(timer: func.TimerRequest) -> None:
    await entry.tick()


@app.queue_trigger(arg_name="message", queue_name="aci-autoscaler-wake", connection="AzureWebJobsStorage")
async def wake(message: func.QueueMessage) -> None:
    await entry.wake(message.get_body())


@app.route(route="services/{*rest}", methods=["GET"])
async def read(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="services/{*rest}", methods=["PUT", "DELETE", "POST", "PATCH"])
async def change(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="alerts", methods=["POST"])
async def alerts(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="events", methods=["POST", "OPTIONS"])
async def events(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="metrics", methods=["GET"])
async def metrics(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="dashboard", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def dashboard(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)


@app.route(route="openapi.json", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def openapi(req: func.HttpRequest) -> func.HttpResponse:
    return await entry.http(req)
