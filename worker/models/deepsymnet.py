"""DeepSymNet as a TensorFlow graph: two hemispheres through one encoder, their absolute difference through a decoder.

Giancardo et al., NeuroImage: Clinical 2023;37:103362; Sheth et al., Stroke 2019. The functions take the weights as a mapping, so
that the same lines serve inference (constants) and training (variables), for any number of filters.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from corewatch.errors import ConfigurationError
from worker.models.hemispheres import HEMISPHERE_SHAPE
from worker.models.weights import FINAL_NORM, NORM_EPSILON, DeepSymNetWeights, conv_name, norm_name

ENCODER_BLOCKS: Final = (0, 1, 2)
DECODER_BLOCKS: Final = (3, 4)
CONVS_PER_BLOCK: Final = 3

_ORDER: Final = (1, 0, 2)
"""Order of a hemisphere's axes during inference: A, from the midline outwards, S. The kernels are transposed likewise, so the
result is the same. With oneDNN rows of 73 x 133 take 0.91 of the time of 182 x 133, measured with 256-bit instructions."""

Tensor = Any
"""A `tf.Tensor`; TensorFlow has no type annotations."""


def pooled(x: Tensor, weights: Mapping[str, Any], number: int) -> Tensor:
    """Three convolutions with ReLU, then max pooling by 2 (odd sizes are rounded up: 73 -> 37)."""
    for i in range(CONVS_PER_BLOCK * number, CONVS_PER_BLOCK * (number + 1)):
        name = conv_name(i)
        x = tf.nn.conv3d(x, weights[f"{name}/kernel"], strides=[1] * 5, padding="SAME")
        x = tf.nn.relu(tf.nn.bias_add(x, weights[f"{name}/bias"]))
    return tf.nn.max_pool3d(x, ksize=2, strides=2, padding="SAME")


def block(x: Tensor, weights: Mapping[str, Any], number: int) -> Tensor:
    """One block of the network: `pooled`, then batch normalisation."""
    return normalised(pooled(x, weights, number), weights, norm_name(number))


def normalised(x: Tensor, weights: Mapping[str, Any], name: str) -> Tensor:
    """Batch normalisation as in inference; with constant weights TensorFlow folds it into one scale and one shift."""
    scale = weights[f"{name}/gamma"] * tf.math.rsqrt(weights[f"{name}/moving_variance"] + NORM_EPSILON)
    return x * scale + (weights[f"{name}/beta"] - weights[f"{name}/moving_mean"] * scale)


def encode(hemispheres: Tensor, weights: Mapping[str, Any]) -> Tensor:
    """Encoder: hemispheres (n, 73, 182, 133, 1) -> (n, 10, 23, 17, filters)."""
    for number in ENCODER_BLOCKS:
        hemispheres = block(hemispheres, weights, number)
    return hemispheres


def decoder_features(difference: Tensor, weights: Mapping[str, Any]) -> Tensor:
    """Absolute difference of the encoder's outputs, (b, 10, 23, 17, filters) -> (b, 3, 6, 5, filters)."""
    for number in DECODER_BLOCKS:
        difference = block(difference, weights, number)
    return normalised(difference, weights, FINAL_NORM)


def volume(features: Tensor, weights: Mapping[str, Any]) -> Tensor:
    """The decoder's features -> core volumes (b,) in mL, not yet clipped at 0."""
    x = tf.reduce_mean(features, axis=[1, 2, 3])
    x = tf.nn.relu(tf.matmul(x, weights["core_dense/kernel"]) + weights["core_dense/bias"])
    return tf.squeeze(tf.matmul(x, weights["core_output/kernel"]) + weights["core_output/bias"], axis=-1)


def decode(left: Tensor, right: Tensor, weights: Mapping[str, Any]) -> Tensor:
    """Encoder outputs of both sides, (b, 10, 23, 17, filters) each -> core volumes (b,) in mL, not yet clipped at 0."""
    return volume(decoder_features(tf.abs(left - right), weights), weights)


class DeepSymNet:
    """The network with its weights on one device, compiled on the first call.

    Parameters
    ----------
    weights
        As read by `worker.models.weights.read_weights`.
    device
        ``gpu`` without a usable GPU raises `ConfigurationError`; there is no silent fallback.
    """

    def __init__(self, weights: DeepSymNetWeights, device: Literal["cpu", "gpu"] = "cpu") -> None:
        self.filters = weights.filters
        self._device = _claim(device)
        # constants made inside the traced function are part of the graph, where TensorFlow can fuse convolution, bias and ReLU
        arrays = {name: _turned(array) for name, array in weights.arrays.items()}
        signature = [tf.TensorSpec((None, 2, *HEMISPHERE_SHAPE), tf.float32)]
        turn = [0, 1, *(2 + axis for axis in _ORDER)]

        def encoded(pairs: Tensor, constants: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
            turned = tf.transpose(pairs, turn)
            left = encode(turned[:, 0][..., tf.newaxis], constants)
            # one hemisphere after the other: as fast on a processor, and the memory of a hemisphere (0.7 GB) is needed once
            with tf.control_dependencies([left]):
                second = tf.identity(turned[:, 1])
            right = encode(second[..., tf.newaxis], constants)
            return left, right

        def forward(pairs: Tensor) -> Tensor:
            constants = {name: tf.constant(array) for name, array in arrays.items()}
            left, right = encoded(pairs, constants)
            return decode(left, right, constants)

        def forward_and_gradients(pairs: Tensor) -> tuple[Tensor, Tensor]:
            constants = {name: tf.constant(array) for name, array in arrays.items()}
            left, right = encoded(pairs, constants)
            with tf.GradientTape() as tape:
                tape.watch((left, right))
                volumes = decode(left, right, constants)
            gradients = tf.stack(tape.gradient(volumes, (left, right)), axis=1)
            return volumes, tf.transpose(gradients, [*np.argsort(turn), len(turn)])

        self._forward = tf.function(forward, input_signature=signature)
        self._forward_and_gradients = tf.function(forward_and_gradients, input_signature=signature)

    def volumes(self, pairs: NDArray[np.float32] | Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Core volumes (b,) in mL, unclipped, of `pairs` (b, 2, 73, 182, 133): per case left and mirrored right hemisphere."""
        with tf.device(self._device):
            result: NDArray[np.float32] = self._forward(tf.constant(np.asarray(pairs, np.float32))).numpy()
        return result

    def volumes_and_gradients(self, pairs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `volumes`; and the gradients of the volumes (b, 2, 10, 23, 17, filters) with respect to the encoder's outputs."""
        with tf.device(self._device):
            volumes, gradients = self._forward_and_gradients(tf.constant(np.asarray(pairs, np.float32)))
        return volumes.numpy(), gradients.numpy()


def _turned(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Kernel of a convolution transposed to `_ORDER`; other weights unchanged."""
    return np.ascontiguousarray(array.transpose(*_ORDER, 3, 4)) if array.ndim == len(_ORDER) + 2 else array


def _claim(device: Literal["cpu", "gpu"]) -> str:
    """Name of the TensorFlow device; for a GPU, sets it up.

    Raises
    ------
    ConfigurationError
        There is no GPU.
    """
    if device == "cpu":
        return "/CPU:0"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise ConfigurationError(
            "model.device is gpu, but TensorFlow finds no GPU: install the driver and corewatch[cuda], or set model.device: cpu"
        )
    # One process uses one device; the others are for other workers. Another program may use the same card, so memory grows as
    # needed. Both calls raise once this process has used the GPU: then they were made before.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices(gpus[:1], "GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)
    # TF32 keeps 10 bits of each factor, which can change a volume by more than 0.01 mL
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return "/GPU:0"
