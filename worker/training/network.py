"""Trainable DeepSymNet: variables, initial values, and the loss of a batch.

The encoder is set by hand, not learned. Its first block smooths the image and applies a few HU windows (`WINDOWS`); the other two
pass on local means. So the decoder receives the difference in tissue between the two sides, in cells of 8 mm. The encoder works at
full resolution and would take 99 percent of a training step. As it is fixed, each head is encoded once, and the decoder learns in
minutes.

The statistics of the normalisations are measured once before training, layer by layer, and then kept, so that the trained graph is
the graph used for inference, whatever the batch size. Gamma and beta of the decoder are learned.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.models.deepsymnet import (
    CONVS_PER_BLOCK,
    DECODER_BLOCKS,
    ENCODER_BLOCKS,
    Tensor,
    decoder_features,
    encode,
    normalised,
    pooled,
    volume,
)
from worker.models.weights import FINAL_NORM, conv_name, expected_shapes, norm_name

UNITS: Final = 15
OUTPUT_UNIT_ML: Final = 20.0
"""Unit of the output layer while it learns, in mL, so that its weights are of the same size as the others."""

ERROR_SCALE_ML: Final = 10.0
"""Error in mL from which the loss is linear (Huber)."""

SHARE_WEIGHT: Final = 4.0
PLACE_WEIGHT: Final = 2.0


WINDOWS: Final = ((1.0, 0.0), (-1.0, 0.15), (-1.0, 0.25), (-1.0, 0.33), (-1.0, 0.42), (1.0, -0.55))
"""Slope and offset of each filter of the first block, applied to the smoothed HU / 100: the whole range, four windows of tissue
that is darker than a value between CSF and grey matter, and one of vessels and bone."""

FILTERS: Final = len(WINDOWS)
FIRST_CONVS: Final = frozenset(conv_name(i) for i in range(CONVS_PER_BLOCK))
ENCODER_CONVS: Final = frozenset(conv_name(i) for i in range(CONVS_PER_BLOCK * len(ENCODER_BLOCKS)))
ENCODER_LAYERS: Final = ENCODER_CONVS | {norm_name(i) for i in ENCODER_BLOCKS}


class TrainableNetwork:
    """Variables of DeepSymNet, and of two auxiliary probes that are discarded after training.

    The probes predict the share of core in each cell from the difference between the hemispheres and from the decoder's last
    features. So each cell contributes to the loss, not only the volume of the head.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.variables: dict[str, Any] = {
            name: tf.Variable(_start(name, shape, rng), name=name) for name, shape in expected_shapes(FILTERS, UNITS).items()
        }
        self.probes: dict[str, Any] = {
            f"{place}/{part}": tf.Variable(np.zeros(shape, np.float32), name=f"probe_{place}_{part}")
            for place in ("difference", "features")
            for part, shape in (("kernel", (FILTERS, 1)), ("bias", (1,)))
        }
        self._encode = tf.function(lambda pair: encode(pair, self.variables))

    @property
    def learning(self) -> list[Any]:
        """The variables that are learned: the decoder's and the probes'."""
        decoder = [v for name, v in self.variables.items() if name.split("/")[0] not in ENCODER_LAYERS and "moving" not in name]
        return [*decoder, *self.probes.values()]

    def calibrate_encoder(self, pairs: NDArray[np.float32]) -> None:
        """Set the statistics of the encoder's normalisations, one after the other, from pairs (n, 2, 73, 182, 133).

        They only scale: the channels are local means and must stay above 0 to pass the next ReLU. The last one scales by the usual
        difference between the sides, which is the decoder's only input.
        """
        x = tf.concat([pairs[:, 0], pairs[:, 1]], axis=0)[..., tf.newaxis]
        for number in ENCODER_BLOCKS:
            x = pooled(x, self.variables, number)
            seen = x
            if number == ENCODER_BLOCKS[-1]:
                left, right = tf.split(x, 2)
                seen = left - right
            self._set(norm_name(number), tf.zeros(FILTERS), tf.reduce_mean(seen**2, axis=[0, 1, 2, 3]))
            x = normalised(x, self.variables, norm_name(number))

    def calibrate_decoder(self, encoded: NDArray[np.float32]) -> None:
        """Set the statistics of the decoder's normalisations from the encoder's outputs (n, 2, 10, 23, 17, filters)."""
        x = tf.constant(np.abs(encoded[:, 0] - encoded[:, 1]))
        for number in DECODER_BLOCKS:
            x = pooled(x, self.variables, number)
            self._set(norm_name(number), *tf.nn.moments(x, axes=[0, 1, 2, 3]))
            x = normalised(x, self.variables, norm_name(number))
        self._set(FINAL_NORM, *tf.nn.moments(x, axes=[0, 1, 2, 3]))

    def _set(self, name: str, mean: Tensor, variance: Tensor) -> None:
        self.variables[f"{name}/moving_mean"].assign(mean)
        self.variables[f"{name}/moving_variance"].assign(variance)

    def encoded(self, pair: NDArray[np.float32]) -> NDArray[np.float32]:
        """Output of the encoder for one head (2, 73, 182, 133): (2, 10, 23, 17, filters)."""
        outputs: NDArray[np.float32] = self._encode(tf.constant(pair[..., np.newaxis])).numpy()
        return outputs

    def effective(self) -> dict[str, Any]:
        """The weights as the network uses them, the output layer in mL."""
        return self.variables | {name: self.variables[name] * OUTPUT_UNIT_ML for name in ("core_output/kernel", "core_output/bias")}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights for `worker.models.weights.write_weights`."""
        return {name: np.asarray(value, np.float32) for name, value in self.effective().items()}

    def losses(self, encoded: Tensor, core_ml: Tensor, core_share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss, estimated volumes (n,) in mL, and the shares (n,) of the gradient that fall on the core.

        Parameters
        ----------
        encoded
            (n, 2, 10, 23, 17, filters).
        core_ml
            (n,).
        core_share
            (n, 10, 23, 17).
        """
        weights = self.effective()
        difference = tf.abs(encoded[:, 0] - encoded[:, 1])
        with tf.GradientTape() as tape:
            tape.watch(difference)
            last = decoder_features(difference, weights)
            estimate = volume(last, weights)
        gradient = tf.abs(tape.gradient(estimate, difference))

        # Below 0 counts as 0 later, so a head without a core may be estimated anywhere below.
        error = tf.where(core_ml > 0, estimate - core_ml, tf.nn.relu(estimate)) / ERROR_SCALE_ML
        size = tf.where(tf.abs(error) < 1, 0.5 * error**2, tf.abs(error) - 0.5)

        share = core_share[..., tf.newaxis]
        near = tf.nn.avg_pool3d(tf.pad(share, [[0, 0], [0, 2], [0, 1], [0, 3], [0, 0]]), 4, 4, "VALID")
        probed = self._probe("difference", difference, share) + self._probe("features", last, near)

        # The core map is made of this gradient: it has to lie where the core is.
        core = tf.cast(share > 0, tf.float32)
        on_core = tf.reduce_sum(gradient * core, axis=[1, 2, 3, 4]) / (tf.reduce_sum(gradient, axis=[1, 2, 3, 4]) + 1e-6)
        misplaced = tf.where(core_ml > 0, 1 - on_core, 0.0)
        return tf.reduce_mean(size + PLACE_WEIGHT * misplaced) + SHARE_WEIGHT * probed, estimate, on_core

    def _probe(self, place: str, x: Tensor, share: Tensor) -> Tensor:
        guess = tf.tensordot(x, self.probes[f"{place}/kernel"], 1) + self.probes[f"{place}/bias"]
        return tf.reduce_mean((guess - share) ** 2) * 10.0


def _start(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Initial value of a weight; the final value in the first block."""
    layer, part = name.split("/")
    if part in ("gamma", "moving_variance"):
        return np.ones(shape, np.float32)
    if layer in FIRST_CONVS:
        return _window_start(layer, part, shape)
    if part != "kernel":
        return np.zeros(shape, np.float32)
    # Encoder: each channel is passed on, smoothed. Decoder: He initialisation, and a share passed on, so that no channel is dead.
    kernel = np.zeros(shape) if layer in ENCODER_CONVS else rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    if len(shape) == 5:
        kernel *= 0.5
        for channel in range(FILTERS):
            kernel[..., channel, channel] += 1 / 27
    return kernel.astype(np.float32)


def _window_start(layer: str, part: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """First block: three times the mean of 27 voxels, and the windows in the last convolution."""
    last = layer == conv_name(CONVS_PER_BLOCK - 1)
    values = np.zeros(shape, np.float32)
    for channel, (slope, offset) in enumerate(WINDOWS):
        if part == "bias":
            values[channel] = offset if last else 0.0
        else:
            values[..., channel % shape[-2], channel] = (slope if last else 1.0) / 27
    return values
