from collections.abc import Iterator

import pytest
import torch

from inverters.devices import exact_float32, find_device, has_fast_bfloat16
from inverters.errors import InverterError


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int = 0, mps: bool = False) -> None:
    """A machine with so many NVIDIA GPUs, and with or without Apple's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("gpus", "mps", "best"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda"), (1, True, "cuda")]
)
def test_auto_is_the_best_available_device(monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool, best: str) -> None:
    pretend(monkeypatch, gpus, mps)
    assert find_device("auto") == torch.device(best)
    assert find_device("cpu") == torch.device("cpu")


def test_a_device_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    for name in ("cuda:2", "mps", "gpu", ""):
        with pytest.raises(InverterError) as error:
            find_device(name)
        assert str(error.value) == f"no device {name!r} on this machine. Valid: auto, cuda, cuda:0, cuda:1, cpu"
    pretend(monkeypatch)
    with pytest.raises(InverterError) as error:
        find_device("cuda")
    assert str(error.value) == "no device 'cuda' on this machine. Valid: auto, cpu"


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_on_a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert has_fast_bfloat16(torch.device("cuda")) is fast


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_on_a_processor(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    assert isinstance(has_fast_bfloat16(torch.device("cpu")), bool)  # torch still has the function
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    assert has_fast_bfloat16(torch.device("cpu")) is fast
    assert not has_fast_bfloat16(torch.device("mps"))


OPERATORS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)


@pytest.fixture
def tf32() -> Iterator[None]:
    """TF32 turned on."""
    before = [operator.fp32_precision for operator in OPERATORS]
    for operator in OPERATORS:
        operator.fp32_precision = "tf32"
    yield
    for operator, precision in zip(OPERATORS, before, strict=True):
        operator.fp32_precision = precision


@pytest.mark.usefixtures("tf32")
def test_exact_float32_turns_off_tf32_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with pytest.raises(KeyboardInterrupt), exact_float32():
        assert [operator.fp32_precision for operator in OPERATORS] == ["ieee", "ieee"]
        assert torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.deterministic
        raise KeyboardInterrupt
    assert [operator.fp32_precision for operator in OPERATORS] == ["tf32", "tf32"]
