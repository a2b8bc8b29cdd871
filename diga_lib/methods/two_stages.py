"""What JTT, EIIL and MAPLE share: a plainly trained reference network, looked at before the actual training."""

from dataclasses import replace

from diga_lib.methods.erm import ERM, require_whole


class TwoStages(ERM):
    """Base of methods that first train a network by ERM and then look at what it says of the training images.

    Beside their own parameters they take `first_epochs`, at least 1, of the reference, which has the same settings and
    seed (trained for long, it makes no errors to learn from); or a `reference` that was trained before.
    """

    def __init__(self, first_epochs=1, reference=None, **changes):
        super().__init__(**changes)
        require_whole("first_epochs", first_epochs)
        if reference is not None and reference.network is None:
            raise ValueError("The reference has not been trained; call its fit first.")
        self.first_epochs, self.reference = first_epochs, reference

    def trained_reference(self, train):
        """Return the reference that was given, or train one on `train` with the seed of this run."""
        if self.reference is not None:
            return self.reference
        return ERM(replace(self.settings, epochs=self.first_epochs)).fit(train, seed=self.rng.initial_seed())
