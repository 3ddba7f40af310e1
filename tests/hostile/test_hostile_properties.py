"""What holds for any bytes and any text, with Hypothesis."""

import unicodedata
from pathlib import Path
from random import Random

import pytest
import typer
import yaml
from hostile_images import MUTATIONS, encoded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inverters.cli.layer_arguments import join_layers
from inverters.cli.options import MAX_SIZE, check_size
from inverters.data.decoding import decode
from inverters.decoders.card import CARD_FILE, read_card
from inverters.errors import CheckpointError, ConfigError, ImageError, InverterError, printable
from inverters.inversion.edit_names import parse_edit
from inverters.training.config_file import load_config

quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@quick
@given(st.randoms(use_true_random=False), st.sampled_from(MUTATIONS))
def test_bytes_are_an_image_or_an_error(random: Random, mutation: object) -> None:
    assert callable(mutation)
    try:
        image = decode(mutation(encoded(random), random), "name")
    except ImageError as error:
        assert str(error).startswith("cannot read name: ") or "name" in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert image.shape[0] == 3
        assert image.isfinite().all()
        assert image.min() >= 0
        assert image.max() <= 1


@quick
@given(st.text(max_size=200) | json.map(lambda value: yaml.safe_dump(value, allow_unicode=True)))
def test_text_is_a_configuration_or_lines(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert len(str(error.value)) < 10_000


@quick
@given(st.binary(max_size=200) | json.map(lambda value: yaml.safe_dump(value).encode()))
def test_bytes_are_no_card(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD_FILE).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_card(tmp_path)
    assert len(str(error.value)) < 5000


@quick
@given(st.text())
def test_what_is_printed_has_no_control_characters(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(one) in ("Cc", "Cs") for one in shown)
    assert shown.encode().decode() == shown


@quick
@given(st.text(max_size=30) | st.integers().map(str))
def test_sizes(text: str) -> None:
    try:
        assert check_size(text) == "full" or 0 < int(text) <= MAX_SIZE
    except typer.BadParameter:
        assert text != "full"


@quick
@given(st.text(max_size=40) | st.from_regex(r"(drop|noise|top|mix|erase|shift)=[-+.e0-9:,]{0,20}", fullmatch=True))
def test_edits_are_parsed_or_refused(text: str) -> None:
    try:
        parse_edit(text)
    except InverterError as error:
        assert len(str(error)) < 2000


@quick
@given(st.lists(st.sampled_from(["--layers", "--layer=", "relu1_1", ",", "--", "-o", "x", "é", "a,b", ""]), max_size=8))
def test_lists_of_layers_are_joined_once(arguments: list[str]) -> None:
    try:
        joined = join_layers(arguments)
    except InverterError:
        return
    assert join_layers(joined) == joined
