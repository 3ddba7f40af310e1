"""Images of a data set."""

import datasets

from inverters.data.sources import cell_name, open_images, read_cell
from inverters.prediction.inputs import LoadedImage


class ImageRows:
    """The images in a column of a data set, with results named by their row.

    Args:
        data, split, column: see `open_images`.
        progress: whether `datasets` shows how far it has read the data set.

    Raises:
        DataError: see `open_images`.
    """

    def __init__(self, data: str, split: str = "validation", column: str = "image", progress: bool = False) -> None:
        if not progress:
            datasets.disable_progress_bars()
        self.data = data
        self.rows: datasets.Dataset = open_images([data], split, column)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return f"{index:08d}"

    def source(self, index: int) -> str:
        return f"{self.data} row {index}"

    def load(self, index: int) -> LoadedImage:
        row = self.rows[index]
        return LoadedImage.decode(read_cell(row), cell_name(row))

    def encoded(self, index: int) -> bytes:
        return read_cell(self.rows[index])
