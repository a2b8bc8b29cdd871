"""What JTT, EIIL and MAPLE share: a plainly trained reference network, looked at before the actual training."""

from dataclasses import replace

from diga_lib.methods.erm import ERM, require_whole


class TwoStages(ERM):
    """Base of methods that first train a network by ERM and then look at what it says of the training images.

    They take these parameters beside their own, by keyword.

    Parameters
    ----------
    first_epochs : int
        Epochs of the reference, at least 1, with a learning-rate schedule of that length and otherwise the same
        settings and seed. A network that was trained for long makes no errors to learn from.
    reference : ERM, optional
        One that was trained before, so that several runs may share it; `first_epochs` is then not used.
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
