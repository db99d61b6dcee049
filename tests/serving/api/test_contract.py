"""Every answer is as the schema declares, whatever is asked within it; no answer is a fault of ours."""

from contextlib import closing

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from resources.signal_store.stores import LocalStore
from tests.serving.api.conftest import PAGE, made
from tests.support.signals import record

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    app, header = made(folder)
    with closing(LocalStore(folder / "signals")) as store:
        store.put([record(PAGE)])
    loaded = schemathesis.openapi.from_asgi("/openapi.json", app)
    loaded.key = header()
    return loaded


@pytest.mark.parametrize("operation", ["GET /v1/signals", "POST /v1/signals/lookup", "GET /readyz"])
def test_every_answer_is_as_declared(schema, operation):
    method, path = operation.split()

    @given(case=schema[path][method].as_strategy())
    @settings(max_examples=20, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    def asked(case):
        case.call_and_validate(headers=schema.key, checks=CHECKS)

    asked()


def test_every_path_is_in_the_schema(schema):
    assert {one.ok().path for one in schema.get_all_operations()} >= {"/v1/signals", "/v1/classify", "/metrics"}
