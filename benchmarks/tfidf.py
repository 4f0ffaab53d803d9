"""TF-IDF of texts, against scikit-learn's TfidfVectorizer with the same options.

20,000 texts of 200 words, whose frequencies fall as in language (Zipf). Time: fitting, and vectors
of all texts, in alternating pairs. Memory: the peak above what imports and texts hold, each in a
fresh process. Accuracy: of a head solved on either, on texts that were held out.

Run: python -m benchmarks.tfidf   (about 5 minutes on two cores)
"""

import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks import pairs
from tlx.backbones.backbone import Wanted
from tlx.backbones.text.tfidf import tfidf
from tlx.data.text.tokenise import tokenised
from tlx.methods import probes
from tlx.tasks.head_losses import CrossEntropy
from tlx.training.reuse.sparse import Sparse

TEXTS, WORDS, HELD_OUT, TERMS = 20_000, 200, 4_000, 20_000
VOCABULARY, TELLING, SHARE = 50_000, 400, 0.03
PENALTY = 1e-5


def corpus() -> tuple[list[str], torch.Tensor]:
    """Texts and their classes; three words in a hundred tell the class."""
    draw = np.random.default_rng(0)
    often = 1 / np.arange(1, VOCABULARY + 1)
    ids = draw.choice(VOCABULARY, size=(TEXTS, WORDS), p=often / often.sum())
    classes = draw.integers(2, size=TEXTS)
    telling = 2 * draw.integers(TELLING, size=ids.shape) + classes[:, None]
    ids = np.where(draw.random(ids.shape) < SHARE, telling, ids)
    return [" ".join(f"w{word}" for word in row) for row in ids], torch.from_numpy(classes)


def ours(texts: list[str]) -> csr_array:
    """Fits, and gives the vectors."""
    backbone = tfidf(Wanted(corpus=lambda: texts), features=TERMS)
    tokens = tokenised(texts, backbone.reads).parts["input_ids"]
    assert backbone.sparse is not None
    return backbone.sparse(tokens.of(text).numpy() for text in range(len(texts)))


def theirs(texts: list[str]) -> csr_array:
    """The same, in two steps as well: of the texts that it is fitted on and of others."""
    vectors = TfidfVectorizer(
        token_pattern=r"\w+|[^\w\s]+", ngram_range=(1, 2), max_features=TERMS, dtype=np.float32
    )
    return vectors.fit(texts).transform(texts)


def seconds(way: str, texts: list[str]) -> float:
    """Of one of both."""
    started = time.perf_counter()
    globals()[way](texts)
    return time.perf_counter() - started


def above(way: str) -> float:
    """Peak bytes of a fresh process above what it holds with its imports and the texts."""
    program = f"from benchmarks import tfidf; tfidf.measure({way!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def measure(way: str) -> None:
    """Prints what `above` reads."""
    texts, _ = corpus()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    globals()[way](texts)
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def accuracies(texts: list[str], targets: torch.Tensor) -> tuple[float, float]:
    """Of a head on held-out texts: solved by tlx on its vectors, by scikit-learn on its own."""
    train = slice(0, TEXTS - HELD_OUT)
    mine, other = ours(texts), theirs(texts)
    loss, known = CrossEntropy(), targets[train][None]

    def gradient(outputs: torch.Tensor) -> torch.Tensor:
        grad = torch.empty_like(outputs)
        loss.gradient(outputs.clone()[None], known, smoothing_g=None, out=grad[None])
        return grad

    head = probes.fit(Sparse(mine[train]), gradient, outputs=2, penalty=PENALTY, tolerance=1e-3)
    outputs = mine[TEXTS - HELD_OUT :] @ head.weight_CD.T.numpy() + head.bias_C.numpy()
    right = outputs.argmax(1) == targets[TEXTS - HELD_OUT :].numpy()
    solver = LogisticRegression(C=2 / (PENALTY * (TEXTS - HELD_OUT)), tol=1e-6, max_iter=3000)
    solver.fit(other[train], targets[train])
    return float(right.mean()), solver.score(other[TEXTS - HELD_OUT :], targets[TEXTS - HELD_OUT :])


def main(count: int = 5) -> None:
    """Prints all lines."""
    torch.set_num_threads(2)
    texts, targets = corpus()
    what = f"TF-IDF of {TEXTS} × {WORDS} words, tlx / scikit-learn"
    found = pairs.ratios(
        lambda: seconds("ours", texts), lambda: seconds("theirs", texts), pairs=count
    )
    print(pairs.summary(f"{what}, time", found, limit=3), flush=True)
    peaks = [(above("ours"), above("theirs")) for _ in range(count)]
    found = [mine / other for mine, other in peaks]
    print(pairs.summary(f"{what}, memory above imports and texts", found, limit=3), flush=True)
    mine, other = (statistics.median(side) / 2**20 for side in zip(*peaks, strict=True))
    print(f"  median MiB: {mine:.0f}, {other:.0f}")
    mine, other = accuracies(texts, targets)
    gap = abs(mine - other)
    verdict = "ok" if gap <= 0.01 else "MISSED"
    print(
        f"accuracy of a head on {HELD_OUT} texts: {mine:.4f}, {other:.4f}, limit ±0.01: {verdict}"
    )


if __name__ == "__main__":
    main()
