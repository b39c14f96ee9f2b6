"""The laws that every contract keeps: round trips, unknown fields at every level, and errors that name the field."""

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from edge_component.contracts.codec import from_bytes, to_bytes
from edge_component.contracts.errors import ContractError, MalformedError, UnsupportedVersionError
from tests.contracts.strategies import CONTRACTS

ROOMY = 10_000_000
LAWS = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
each_contract = pytest.mark.parametrize("name", CONTRACTS)

FREE_FORM = {"message": ("body",), "command": ("arguments",), "acknowledgement": ("result",), "bundle": ("lineage",)}
"""Fields whose content is not this contract's own: whatever JSON holds is right there."""
OPTIONAL = {
    "candidate", "serving", "previous", "service", "positive_rate", "nan", "inf", "zero", "out", "needed_bytes",
    "retry_after_ms", "key", "sequence", "routing", "shadow", "batch", "in_flight_max", "queue_max", "thread_id",
    "configuration", "problem",
}  # fmt: skip


@each_contract
@LAWS
@given(st.data())
def test_decode_of_encode_is_the_value(name: str, data: st.DataObject) -> None:
    contract, values = CONTRACTS[name]
    value = data.draw(values)
    assert contract.read(from_bytes(to_bytes(value.to_document()), ROOMY)) == value


@each_contract
@LAWS
@given(st.data())
def test_encode_of_decode_is_the_document_with_unknown_fields_at_every_level(name: str, data: st.DataObject) -> None:
    contract, values = CONTRACTS[name]
    document = json.loads(to_bytes(data.draw(values).to_document()))
    for place in objects(document, name):
        place["from_the_future"] = data.draw(st.sampled_from([None, 1, "x", {"deep": [1, {"er": 2.5}]}]))
    assert to_bytes(contract.read(document).to_document()) == to_bytes(document)


@each_contract
@LAWS
@given(st.data())
def test_a_missing_field_is_named(name: str, data: st.DataObject) -> None:
    contract, values = CONTRACTS[name]
    document = json.loads(to_bytes(data.draw(values).to_document()))
    place, path = data.draw(st.sampled_from(list(paths(document, name))))
    field = data.draw(st.sampled_from(sorted(required(place, path, name))))
    del place[field]
    with pytest.raises(ContractError) as refusal:
        contract.read(document)
    assert refusal.value.field == joined(path, field)
    assert "is missing" in str(refusal.value)


@each_contract
@LAWS
@given(st.data())
def test_a_field_of_the_wrong_type_is_named(name: str, data: st.DataObject) -> None:
    contract, values = CONTRACTS[name]
    document = json.loads(to_bytes(data.draw(values).to_document()))
    place, path = data.draw(st.sampled_from(list(paths(document, name))))
    field = data.draw(st.sampled_from(sorted(required(place, path, name))))
    place[field] = wrong_for(place[field])
    with pytest.raises(ContractError) as refusal:
        contract.read(document)
    assert refusal.value.field == joined(path, field)


@each_contract
@pytest.mark.parametrize("schema", ["edgewright.other/1", "edgewright.{name}/2", "{name}", ""])
@settings(max_examples=1, deadline=None)
@given(st.data())
def test_another_schema_is_refused_as_unsupported(name: str, schema: str, data: st.DataObject) -> None:
    contract, values = CONTRACTS[name]
    document = {**data.draw(values).to_document(), "schema": schema.format(name=name)}
    with pytest.raises(UnsupportedVersionError, match="schema"):
        contract.read(document)


@each_contract
@pytest.mark.parametrize("value", [None, [], "text", 3, True])
def test_what_is_no_object_is_refused(name: str, value: object) -> None:
    with pytest.raises(MalformedError, match="must be an object"):
        CONTRACTS[name][0].read(value)


@each_contract
@LAWS
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_contract_error_or_a_document(name: str, noise: bytes) -> None:
    try:
        CONTRACTS[name][0].read(from_bytes(noise, ROOMY))
    except ContractError:
        return
    pytest.fail("noise was accepted as a message")


@each_contract
@LAWS
@given(st.data())
def test_one_changed_byte_never_escapes_the_tree(name: str, data: st.DataObject) -> None:
    contract, values = CONTRACTS[name]
    encoded = bytearray(to_bytes(data.draw(values).to_document()))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = contract.read(from_bytes(bytes(encoded), ROOMY))
    except ContractError:
        return
    assert contract.read(from_bytes(to_bytes(value.to_document()), ROOMY)) == value  # accepted means writable


@each_contract
@LAWS
@given(st.data())
def test_a_value_can_be_hashed_copied_and_sent_to_a_child(name: str, data: st.DataObject) -> None:
    value = data.draw(CONTRACTS[name][1])
    decoded = CONTRACTS[name][0].read(value.to_document())
    twin = pickle.loads(pickle.dumps(decoded))
    assert twin == decoded == copy.deepcopy(decoded)
    assert hash(twin) == hash(decoded)


# -- where in a document the laws look ---------------------------------------------------------------------------------

TABLES = {"features", "outputs", "files", "opsets", "performance", "errors", "input_bytes", "aliases", "models",
          "configuration"}  # fmt: skip


def paths(value: Any, name: str, path: tuple[str | int, ...] = ()) -> Iterator[tuple[dict[str, Any], tuple]]:
    """Every object of the contract itself with its path: no tables (their keys are free), nothing free-form."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from paths(element, name, (*path, index))
    if not isinstance(value, dict):
        return
    if not is_table(path, name):
        yield value, path
    for key, entry in value.items():
        if key.startswith("future_") or (not path and key in FREE_FORM.get(name, ())):
            continue
        yield from paths(entry, name, (*path, key))


def objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [place for place, _ in paths(document, name)]


def is_table(path: tuple[str | int, ...], name: str) -> bool:
    """A table is an object with free keys; in lists, ``features`` and ``outputs`` are not tables."""
    return bool(path) and path[-1] in TABLES and (len(path) == 1 or path[-2] == "service")


def required(place: dict[str, Any], path: tuple, name: str) -> set[str]:
    return {key for key in place if not key.startswith("future_") and key not in OPTIONAL}


def joined(path: tuple[str | int, ...], field: str) -> str:
    text = ""
    for part in (*path, field):
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def wrong_for(value: object) -> object:
    return {"not": "text"} if isinstance(value, str) else "not a " + type(value).__name__
