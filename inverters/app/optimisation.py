"""Optimisation that starts from a decoder's picture, step by step, and can be stopped."""

from collections.abc import Iterator
from dataclasses import replace
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import NamedTuple

from torch import Tensor

from inverters.errors import InverterError
from inverters.inversion.inverter import Inverter
from inverters.inversion.methods import Decode, Optimize, Reconstruction

PATIENCE = 60  # seconds that an optimisation waits for somebody to take its next step
SILENCE = 600  # seconds that a step may take


class Step(NamedTuple):
    """The number of iterations that are done, and the objective."""

    done: int
    objective: float


def optimise(image: Tensor, inverter: Inverter, layer: str, iterations: int, stop: Event) -> Iterator[Step | Tensor]:
    """Yield the steps of L-BFGS from the decoder's picture, and at last the best image, 1×3×H×W.

    Args:
        image: 3×H×W in [0, 1]; the optimisation sees its features only.
        inverter: its encoder, and the decoder of the layer.
        layer: one of its layers.
        iterations: at most.
        stop: ends the optimisation when it is set. It also ends if the generator is closed, or nobody takes its steps.

    Raises:
        InverterError: the image is too large.
    """
    method = Optimize(iterations=iterations, init=Decode(inverter))
    size = (image.shape[1], image.shape[2])
    method.check_size(size)
    steps: Queue[Step | Tensor | Exception] = Queue(maxsize=1)

    def report(_: int, done: int, objective: float) -> None:
        if stop.is_set():
            raise KeyboardInterrupt  # as Ctrl-C: the best image so far is kept
        steps.put(Step(done, objective), timeout=PATIENCE)

    def work() -> None:
        try:
            features = inverter.encode(image[None], [layer], exact=True)[layer]
            encoder = inverter.encoder
            result: Reconstruction = replace(method, progress=report)(features, encoder, encoder.layers[layer], size)
            steps.put(result.images, timeout=PATIENCE)
        except Full:
            pass  # nobody is there any more
        except Exception as error:
            steps.put(error)

    Thread(target=work, daemon=True).start()
    try:
        while True:
            try:
                step = steps.get(timeout=SILENCE)
            except Empty:
                raise InverterError("the optimisation does not answer: ask again") from None
            if isinstance(step, Exception):
                raise step
            yield step
            if isinstance(step, Tensor):
                return
    finally:
        stop.set()
