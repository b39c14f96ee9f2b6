"""What several commands take, and how errors are shown."""

import pytest

from cloud.cli.arguments import chosen, compile_extra, name_value_pairs
from cloud.cli.output import OutputFormat, print_error, print_fields, print_rows
from cloud.errors import ConflictError, InvalidInputError


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert name_value_pairs(["a=1", "b=x=y", "a=2"], "--p") == {"a": "2", "b": "x=y"}
    assert name_value_pairs(None, "--p") == {}


@pytest.mark.parametrize("entry", ["alpha", "=1", ""])
def test_what_is_no_pair_is_named(entry: str) -> None:
    with pytest.raises(InvalidInputError, match=f"--p '{entry}' is not name=value"):
        name_value_pairs(["a=1", entry], "--p")


def test_a_choice_is_of_what_is_allowed_each_once() -> None:
    assert chosen(None, ("a", "b"), "--p") == ("a", "b")
    assert chosen(["b", "b"], ("a", "b"), "--p") == ("b",)
    with pytest.raises(InvalidInputError, match="--p 'c' is none of a, b"):
        chosen(["c"], ("a", "b"), "--p")


def test_a_missing_module_names_the_extra_that_brings_it() -> None:
    with pytest.raises(InvalidInputError, match="needs onnxslim") as caught, compile_extra():
        raise ModuleNotFoundError("No module named 'onnxslim'", name="onnxslim")
    assert "edgewright[compile]" in caught.value.remedy


def test_an_error_keeps_its_code_its_brackets_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"s3://bucket/{'long/' * 30}file"
    print_error(ConflictError(f"{uri} [bold] exists", "Try [another]."))
    assert capsys.readouterr().err == f"error[conflict]: {uri} [bold] exists\nremedy: Try [another].\n"


HOSTILE = "gone\x1b]0;owned\x07\x1b[2J\x9b31m\rok\x7f"


def test_what_a_device_says_moves_no_cursor_of_the_operators(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason or a message is a device's own text: an escape sequence in it is shown, never obeyed."""
    print_rows([{"reason": HOSTILE, "all": [HOSTILE]}], ["reason", "all"], OutputFormat.TABLE)
    print_fields({"reason": HOSTILE}, OutputFormat.TABLE)
    print_error(InvalidInputError(f"first line\n{HOSTILE}", HOSTILE))
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "owned" in text
        assert not any(character in text for character in "\x1b\x07\x9b\r\x7f")
    assert len(said.err.splitlines()) == 3, "lines stay lines"


def test_a_table_has_no_room_for_microseconds_nor_for_json(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "at": "2026-11-28T05:22:44.429000Z",
        "models": [{"model_name": "a", "since_at": "2026-11-28T05:22:44.4Z", "none": None}],
    }
    print_rows([row], ["at", "models"], OutputFormat.TABLE)
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == [
        "2026-11-28T05:22:44Z", "model name: a; since at: 2026-11-28T05:22:44Z",
    ]  # fmt: skip
    print_rows([row], ["at", "models"], OutputFormat.JSON)
    assert "05:22:44.429000Z" in capsys.readouterr().out
