"""The loss over an encoder's features of images, with guidance, and its gradient."""

import torch

from drifting_torch import (
    FeatureDriftingConfig,
    MAEResNetEncoder,
    cfg_alpha_to_weight,
    extract_features,
    feature_space_drifting_loss,
)

encoder = MAEResNetEncoder(8, in_channels=3, blocks=(1, 1)).eval().requires_grad_(False)
config = FeatureDriftingConfig()  # the paper; .release() is the authors' code

# Images of 2 labels; sides of 16 and maps of 16 and 8: the vectors of A.5 want multiples of 4.
generated = torch.randn(2, 8, 3, 16, 16, requires_grad=True)
real, others = torch.randn(2, 6, 3, 16, 16), torch.randn(2, 4, 3, 16, 16)


def features(images):  # [labels, samples, ...] → vectors [labels, samples, vectors, channels]
    flat = extract_features(encoder, images.flatten(0, 1), config.vectorization)
    return {key: each.unflatten(0, images.shape[:2]) for key, each in flat.items()}


out = feature_space_drifting_loss(
    features(generated), features(real), features(others),
    cfg_alpha_to_weight(torch.tensor([1.0, 2.5]), 8, 4),  # guidance scales α of the labels
    generated_samples=generated, positive_samples=real, unconditional_samples=others,
    config=config,
)  # fmt: skip
out.loss.backward()
print(
    f"{len(out.terms)} features, loss {out.loss.item():.1f}, gradient {generated.grad.norm():.2g}"
)
