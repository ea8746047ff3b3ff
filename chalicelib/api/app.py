"""The app: every route, the schedule and the cloud's events. Lambda's app.py and the laptop serve the same one."""

from __future__ import annotations

from collections.abc import Callable

from chalice.app import Chalice

from chalicelib.api import access, machines, problems, triggers
from chalicelib.api.admin_keys import admin_keys
from chalicelib.api.audit import audit
from chalicelib.api.backups import backups
from chalicelib.api.boot import boot
from chalicelib.api.costs import costs
from chalicelib.api.edge import edge
from chalicelib.api.intake import intake
from chalicelib.api.keys import keys
from chalicelib.api.leftovers import leftovers
from chalicelib.api.meta import meta
from chalicelib.api.metrics import metrics
from chalicelib.api.replicas import replicas
from chalicelib.api.secrets import secrets
from chalicelib.api.services import services
from chalicelib.api.trusts import trusts
from chalicelib.api.webhooks import webhooks
from chalicelib.ports import Runtime


def create_app(runtime: Callable[[], Runtime]) -> Chalice:
    """The app around a runtime, which is asked for at the first request or event and not before.

    A Chalice app keeps the current request on itself: a server with threads makes one for each of them.
    """
    # An environment of its own: Chalice adds its name to AWS_EXECUTION_ENV each time an app is made.
    app = Chalice("sailplane", configure_logs=False, env={})
    app.register_middleware(access.logged, "http")
    app.register_middleware(problems.as_problem, "http")
    app.register_blueprint(meta(runtime, app))
    app.register_blueprint(services(runtime))
    app.register_blueprint(replicas(runtime))
    app.register_blueprint(leftovers(runtime))
    app.register_blueprint(intake(runtime))
    app.register_blueprint(costs(runtime))
    app.register_blueprint(backups(runtime))
    app.register_blueprint(metrics(runtime))
    app.register_blueprint(keys(runtime))
    app.register_blueprint(admin_keys(runtime))
    app.register_blueprint(audit(runtime))
    app.register_blueprint(edge(runtime))
    app.register_blueprint(boot(runtime))
    app.register_blueprint(secrets(runtime))
    app.register_blueprint(webhooks(runtime))
    app.register_blueprint(trusts(runtime))
    app.schedule(triggers.EVERY_MINUTE, name="tick")(triggers.on_schedule(runtime))
    app.on_cw_event(triggers.EC2_EVENTS, name="interrupt")(triggers.on_ec2_event(runtime))
    app.on_sqs_message(triggers.RELAY, name="relay", batch_size=1, maximum_concurrency=2)(triggers.on_relay(runtime))
    app.lambda_function(name="machines")(machines.on_function_url(app))
    return app
