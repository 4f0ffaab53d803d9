"""Samples of what a causal language model writes: how it goes on from test texts.

Shapes: S texts, T tokens, V entries of the vocabulary.
"""

from collections.abc import Collection

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from tlx.data.text.inputs import WindowedText
from tlx.data.text.spec import TextSpec
from tlx.data.text.tokenise import around

TEXTS = 2
PROMPT_TOKENS = 24
NEW_TOKENS = 48
TEMPERATURES = {"greedy": 0.0, "temperature 0.8": 0.8}
"""Of each way of decoding."""


def samples(
    network: nn.Module, split: WindowedText, spec: TextSpec, *, seed: int
) -> list[dict[str, object]]:
    """`id` of the window, `prompt` and `continuations` of a few texts of a split.

    Continuations are named by the way of decoding. None where the network's outputs are no numbers.
    An end of text ends a continuation.

    Args:
        network: from inputs to logits [S, T, V]; it is set to evaluation (a mutator).
        split: of windows.
        spec: what the network reads.
        seed: of what is drawn.
    """
    chosen = prompted(split)
    ids = [split[index]["input"]["input_ids"][:PROMPT_TOKENS] for index in chosen]
    shortest = min(map(len, ids))
    prompts_ST = torch.stack([each[:shortest] for each in ids])
    network.eval()
    tokenizer, end = Tokenizer.from_str(spec.tokenizer), spec.eos_id
    silent = {end, *around(spec.tokenizer)[0]}
    texts = [_decoded(tokenizer, prompt, [], silent)[0] for prompt in prompts_ST.tolist()]
    written: list[dict[str, str]] = [{} for _ in chosen]
    ids_ST = continued(
        network,
        prompts_ST.repeat(len(TEMPERATURES), 1),
        spec,
        temperatures_S=torch.tensor([*TEMPERATURES.values()]).repeat_interleave(len(chosen)),
        generator=torch.Generator().manual_seed(seed),
    )
    if ids_ST is None:
        return []
    for way, rows in zip(TEMPERATURES, ids_ST.split(len(chosen)), strict=True):
        for continuations, row in zip(written, rows.tolist(), strict=True):
            new = row[shortest:]
            new = new[: new.index(end)] if end in new else new
            continuations[way] = _decoded(tokenizer, row[:shortest], new, silent)[1]
    return [
        {"id": split.ids[index], "prompt": prompt, "continuations": continuations}
        for index, prompt, continuations in zip(chosen, texts, written, strict=True)
    ]


def prompted(split: WindowedText) -> list[int]:
    """Positions of the windows to go on from: beginnings of texts where there are enough."""
    starts = [index for index, (_, number) in enumerate(split.windows.names) if number == 0]
    pool = starts if len(starts) >= TEXTS else list(range(len(split)))
    lengths = split.lengths
    long = [index for index in pool if lengths[index] > PROMPT_TOKENS] or pool
    return sorted({long[place * len(long) // TEXTS] for place in range(TEXTS)})


@torch.no_grad()
def continued(
    network: nn.Module,
    prompts_ST: Tensor,
    spec: TextSpec,
    *,
    temperatures_S: Tensor,
    generator: torch.Generator,
) -> Tensor | None:
    """The prompts and `NEW_TOKENS` more; None where a probability is no number.

    Each token is computed from the last `block` tokens anew, as in training: behind the tokens that
    the tokenizer begins texts with, if it does.

    Args:
        network: from inputs to logits [S, T, V], in evaluation.
        prompts_ST: token ids.
        spec: what the network reads.
        temperatures_S: that logits are divided by; 0 takes the likeliest token.
        generator: on the CPU.
    """
    device = next(network.parameters()).device
    first = len(around(spec.tokenizer)[0])
    ids_ST, drawn_S1 = prompts_ST, (temperatures_S > 0)[:, None]
    scales_S1 = torch.where(drawn_S1, temperatures_S[:, None], 1.0)
    for _ in range(NEW_TOKENS):
        window = ids_ST.to(device)
        if (late := window.shape[1] - spec.block) > 0:
            window = torch.cat([window[:, :first], window[:, first + late :]], dim=1)
        inputs = {"input_ids": window, "attention_mask": torch.ones_like(window, dtype=torch.bool)}
        if spec.type_ids:
            inputs["token_type_ids"] = torch.zeros_like(window)
        logits_SV = network(inputs)[:, -1].float().cpu()
        share_SV = (logits_SV / scales_S1).softmax(1)
        if share_SV.isnan().any():
            return None
        likeliest_S1 = logits_SV.argmax(1, keepdim=True)
        next_S1 = torch.multinomial(share_SV, 1, generator=generator)
        ids_ST = torch.cat([ids_ST, torch.where(drawn_S1, next_S1, likeliest_S1)], dim=1)
    return ids_ST


def _decoded(
    tokenizer: Tokenizer, prompt: list[int], new: list[int], silent: Collection[int | None]
) -> tuple[str, str]:
    """Both as text: what follows the prompt may depend on it, a blank before a word say."""
    prompt = [token for token in prompt if token not in silent]
    before: str = tokenizer.decode(prompt, skip_special_tokens=False)
    whole: str = tokenizer.decode([*prompt, *new], skip_special_tokens=False)
    if whole.startswith(before):
        return before, whole[len(before) :]
    return before, tokenizer.decode(new, skip_special_tokens=False)
