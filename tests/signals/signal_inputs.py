"""Signals of one channel and differing lengths: what a network of them reads, and who makes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from tlx.data.inputs import plain_of, replaced
from tlx.data.items import Pool
from tlx.data.splits import Padding, Unreadable


@dataclass(frozen=True)
class SignalSpec:
    """What a network of signals reads."""

    modality: ClassVar[str] = "signal"
    made_by: ClassVar[str] = "signal_inputs.SIGNALS"
    scale: float = 1.0

    def plain(self):
        return plain_of(self)

    def kept(self, plain):
        return replaced(self, plain)


@dataclass(frozen=True)
class SignalEncoder:
    """Scales a signal."""

    scale: float
    random: bool = False

    def __call__(self, sample):
        return {**sample, "input": sample["input"] * self.scale}

    def facts(self):
        return {"scale": self.scale}


@dataclass(frozen=True)
class Waves:
    """A fitted split of signals that are read from files when they are asked for."""

    raw: Pool
    lengths: list[int]

    @property
    def ids(self):
        return self.raw.ids

    @property
    def targets(self):
        return self.raw.targets

    @property
    def keys(self):
        return self.raw.keys

    def __len__(self):
        return len(self.raw)

    def __getitem__(self, index):
        sample = self.raw[index]
        text = Path(sample["input"]).read_text() if Path(sample["input"]).is_file() else ""
        if not text:
            raise Unreadable("is no signal")
        return {**sample, "input": torch.tensor([float(line) for line in text.split()])}


class SignalInputs:
    """See tlx.data.splits.Inputs."""

    modality = "signal"

    def learn(self, spec, corpus):
        return spec

    def fit(self, spec, splits):
        return splits

    def encoder(self, spec, augmentations, *, train):
        return SignalEncoder(spec.scale)

    def collate(self, spec, inputs):
        lengths = torch.tensor([len(each) for each in inputs])
        signal = pad_sequence(list(inputs), batch_first=True)
        return {"signal": signal, "real": torch.arange(signal.shape[1]) < lengths[:, None]}

    def padding(self, spec):
        def at_length(inputs, length):
            more = (0, length - inputs["signal"].shape[1])
            return {name: pad(value, more) for name, value in inputs.items()}

        def lengths(split):
            found = getattr(split, "lengths", None)
            return found or [len(split[i]["input"]) for i in range(len(split))]

        return Padding(lengths=lengths, pad=at_length, mask=lambda inputs: inputs["real"])

    def example(self, spec, *, items, device):
        signal = torch.zeros(items, 4, device=device)
        return {"signal": signal, "real": torch.ones_like(signal, dtype=torch.bool)}

    def read(self, spec, given, *, dataset, folder):
        paths = [str(each) for each in given]
        pool = Pool(paths, [None] * len(paths), [""] * len(paths), paths)
        return Waves(pool, [0] * len(paths))

    def shown(self, raw):
        return f"{len(raw)} samples"

    def columns(self, raw):
        return {"file": Path(raw).name}

    def corpus(self, split):
        return ()


SIGNALS = SignalInputs()
