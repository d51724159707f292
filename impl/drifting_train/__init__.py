"""A trainer of drifting models that shows the loss at work: ``drifting-train``.

Points in the plane (``toy2d``), small digits of ten classes (``digits``) and the paper's generator
on folders of images or latents (``images``), with the losses of ``drifting_torch``. What it shows
while it trains, how good the samples are, and how a run goes on after it was cut short is the same
for all of them.
"""
