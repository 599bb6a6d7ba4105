"""The same app in several processes, by Ray Serve, which replaces those that die."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

from fastapi import FastAPI

from photophone.core.command import on_signals
from photophone.core.cores import usable_cores
from photophone.core.limits import SERVER_CONNECTIONS
from photophone.server.app import Settings, build_app, load_pipelines
from photophone.server.run import PAGE_SECONDS

NAME = "photophone"
HEALTH_SECONDS = 2
"""Between two looks at a replica."""


def app_of_replica(settings: Settings) -> Callable[[], FastAPI]:
    """What builds the app of a replica in its process: what it counts bears its name.

    A function in the narrow sense: Ray takes any other callable for an app.
    """
    def build() -> FastAPI:
        from ray import serve

        return build_app(replace(settings, replica=serve.get_replica_context().replica_id.unique_id))

    return build


def start_ray() -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, else start one on this computer.

    Ray would tell its makers how it is used, and would offer a page that runs code; neither is wanted here. Its
    processes listen on all addresses for each other, and know each other by a token that it keeps in the user's home.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray starts a cluster
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=usable_cores().count,
                 _node_ip_address="127.0.0.1")


class Replicas:
    """A running app of Ray Serve.

    Args:
        settings: of each replica.
        host, port: to listen on.
        count: of replicas. Each has one core to itself, and on a GPU one GPU.

    Raises:
        ValueError: a pipeline cannot be loaded, or there are fewer cores than replicas.
    """

    def __init__(self, settings: Settings, host: str, port: int, count: int) -> None:
        cores = usable_cores().count
        if not os.environ.get("RAY_ADDRESS") and count > cores:
            raise ValueError(f"{count} replicas on {cores} cores: each needs one; give --replicas at most {cores}, or "
                             "a cluster by the variable RAY_ADDRESS")
        load_pipelines(settings)  # what cannot be loaded is refused here; a replica would try it again and again
        start_ray()
        from ray import serve

        serve.start(http_options={"host": host, "port": port})
        resources: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(settings.device != "cpu")}
        deployment = serve.deployment(serve.ingress(app_of_replica(settings))()).options(
            name=NAME, num_replicas=count, ray_actor_options=resources, max_ongoing_requests=SERVER_CONNECTIONS,
            health_check_period_s=HEALTH_SECONDS, graceful_shutdown_timeout_s=settings.seconds + PAGE_SECONDS)
        serve.run(deployment.bind(), name=NAME)

    def close(self) -> None:
        """Take up nothing new, finish what was accepted, and end the cluster if it was started here."""
        import ray
        from ray import serve

        serve.delete(NAME)
        serve.shutdown()
        ray.shutdown()


def serve_replicas(running: Replicas) -> None:
    """Serve until a signal ends it.

    Raises:
        SystemExit: with 128 and the number of that signal.
    """
    ended, numbers = threading.Event(), []

    def end(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        ended.set()

    with on_signals(end):
        while not ended.wait(1):  # a signal is seen between two waits
            pass
        running.close()
    raise SystemExit(128 + numbers[0])
