"""`Studio`: computes what the page shows, for any number of users."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from threading import Event, Lock
from typing import NamedTuple

from torch import Tensor

from inverters.app.edited import Changes, Edited, edit, edits_of
from inverters.app.networks import OBJECTIVES, Network
from inverters.app.optimisation import Step, optimise
from inverters.app.panes import Pane, empty_pane, fill, filled, seen_in
from inverters.errors import unknown_name
from inverters.inversion.inverter import Inverter

KEPT_RESULTS = 8  # finished panes, a few megabytes each
KEPT_INVERTERS = 4  # a few hundred megabytes each
ITERATIONS = 50  # of an optimisation


class Choice(NamedTuple):
    """What to reconstruct with.

    Attributes:
        network: `Network.label`.
        objective: one of `OBJECTIVES`.
        corrections: whether decoders apply theirs.
    """

    network: str
    objective: str = "closest"
    corrections: bool = True


class Studio:
    """Reconstructs images in the networks that can be chosen.

    Results are kept by the content of the image, so that asking again costs nothing, and nobody can ask for an image
    that they do not have.

    Args:
        networks: those that can be chosen.
        size: pixels to which the shorter side of images is shrunk.
        device: see `find_device`.
    """

    networks: dict[str, Network]
    size: int
    device: str
    inverter: Callable[[Choice], Inverter]

    def __init__(self, networks: list[Network], size: int, device: str) -> None:
        self.networks = {network.label: network for network in networks}
        self.size, self.device = size, device
        self.inverter = lru_cache(KEPT_INVERTERS)(self._load)
        self._stops: dict[str, Event] = {}
        self._results: OrderedDict[tuple[str, Choice], Pane] = OrderedDict()
        self._lock = Lock()

    def _load(self, choice: Choice) -> Inverter:
        corrections = None if choice.corrections else 0
        return self.network(choice).load(OBJECTIVES[choice.objective], corrections, self.device)

    def network(self, choice: Choice) -> Network:
        """The network of this label.

        Raises:
            UnknownNameError: there is no such network or objective.
        """
        if choice.network not in self.networks:
            raise unknown_name("network", choice.network, self.networks)
        if choice.objective not in OBJECTIVES:
            raise unknown_name("objective", choice.objective, OBJECTIVES)
        return self.networks[choice.network]

    def empty(self, image: Tensor, choice: Choice) -> Pane:
        """A pane that shows `image`, 3×H×W, or its middle, without reconstructions; it loads no network."""
        network = self.network(choice)
        objectives = network.objectives(OBJECTIVES[choice.objective])
        return empty_pane(network.fit(image), network, objectives, choice.objective, choice.corrections, self.size)

    def reconstruct(self, image: Tensor, choice: Choice) -> Iterator[Pane]:
        """Yield the pane of `image`, 3×H×W, first empty and then after each depth; at once if the result is known.

        Raises:
            InverterError: there is no such network, or it cannot be loaded.
        """
        key = f"{tuple(image.shape)} {hashlib.sha256(image.numpy().data).hexdigest()}", choice
        with self._lock:
            known = self._results.get(key)
        if known:
            yield known
            return
        pane = self.empty(image, choice)
        yield {**pane, "note": f"0 of {len(pane['depths'])} depths"}
        for more in fill(pane, self.network(choice).fit(image), self.inverter(choice)):
            yield (pane := more)
        with self._lock:
            self._results[key] = pane
            while len(self._results) > KEPT_RESULTS:
                self._results.popitem(last=False)

    def finished(self, image: Tensor, choice: Choice) -> Pane:
        """The pane of `image` with all depths; see `reconstruct`."""
        *_, pane = self.reconstruct(image, choice)
        return pane

    def optimise(self, image: Tensor, choice: Choice, layer: str, session: str) -> Iterator[Pane]:
        """Yield a pane of `image`, 3×H×W, after each step of an optimisation at one layer, with its picture at the end.

        Args:
            session: what `stop` knows the optimisation by.

        Raises:
            InverterError: there is no such network or layer, or it cannot be loaded.
        """
        pane: Pane = {**self.empty(image, choice), "iterations": ITERATIONS}
        layers = [depth["layer"] for depth in pane["depths"]]
        if layer not in layers:
            raise unknown_name("layer", layer, layers)
        yield {**pane, "note": "optimisation starts"}
        image, inverter, number = self.network(choice).fit(image), self.inverter(choice), layers.index(layer)
        stop = self._stops[session] = Event()
        try:
            for step in optimise(image, inverter, layer, ITERATIONS, stop):
                if isinstance(step, Step):
                    note = f"optimisation: {step.done} of {ITERATIONS} iterations, objective {step.objective:.2g}"
                    yield {**pane, "note": note}
                else:
                    features = inverter.encode(image[None], [layer])[layer]
                    original = seen_in(image[None], inverter)
                    depths = [*pane["depths"]]
                    depths[number] = filled(depths[number], step, image, features, inverter, original)
                    yield {**pane, "label": original and str(original), "depths": depths}
        finally:
            stop.set()
            if self._stops.get(session) is stop:  # and not that of a later one
                del self._stops[session]

    def edit(
        self, image: Tensor, choice: Choice, layer: str, changes: Changes, other: Tensor | None, mix: float
    ) -> Edited:
        """Reconstruct `image`, 3×H×W, from the features of one layer, plain and changed; see `edited.edit`.

        Raises:
            InverterError: there is no such network or layer, it cannot be loaded, or a change does not fit it.
        """
        pane = self.empty(image, choice)
        depths = {depth["layer"]: depth for depth in pane["depths"]}
        if layer not in depths:
            raise unknown_name("layer", layer, depths)
        result = edit(self.network(choice).fit(image), self.inverter(choice), layer, edits_of(changes), other, mix)
        if depths[layer]["objective"] != "pixel":
            result["options"]["objective"] = depths[layer]["objective"]
        return {**result, "options": pane["options"] | result["options"]}

    def stop(self, session: str) -> None:
        """Stop the optimisation of this session, which ends with its best image so far."""
        if session in self._stops:
            self._stops[session].set()

    def close(self) -> None:
        """Stop all optimisations."""
        for stop in [*self._stops.values()]:
            stop.set()
