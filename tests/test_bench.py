"""The speed benchmarks on a tiny model: both sides do the same work, and the figures are written."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from mathref import choosing, evaluator
from mathref.formats import Sample, SampledProblem
from mathref.model import ModelConfig, Transformer
from mathref.prompts import completion, evaluator_problem, generator_prompt
from mathref.samples import write_samples
from mathref.tokenizer import load_tokenizer
from mathref.weights import load_model, save_model

pytest.importorskip("transformers")
ROOT = Path(__file__).resolve().parent.parent
TEXTS = [f"The answer is {n}, and that is correct or incorrect.\n" for n in range(40)]
SMALL = {
    "sampling": ["--n", "3", "--problems", "2", "--max-new-tokens", "6", "--peer-rows", "4"],
    "scoring": ["--candidates", "4", "--problems", "2", "--peer-rows", "3"],
    "training": ["--batch-size", "3", "--steps", "2"],
    "loading": [],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose words " correct" and " incorrect" are one token each, as the scoring peer needs it."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    shape = dict(n_layer=2, n_head=4, n_kv_head=2, head_dim=8, n_embd=32, n_inner=48, max_seq_len=256)
    save_model(Transformer(ModelConfig(vocab_size=size, **shape)), folder)
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    lines = [{"problem": f"What is {n}?", "solution": TEXTS[n], "answer": str(n)} for n in range(20)]
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    sys.modules.pop(name, None)
    return __import__(name)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides that work here instead of in processes of their own: the libraries are imported once."""
    pairing = load("pairing", monkeypatch)

    def round(side: Any) -> None:
        start = time.perf_counter()
        done = side.work()
        side.rounds.append(done | {"seconds": time.perf_counter() - start, **pairing.peaks()})

    monkeypatch.setattr(pairing.Side, "start", lambda side: setattr(side, "work", side.setup(**side.options)))
    monkeypatch.setattr(pairing.Side, "round", round)
    monkeypatch.setattr(pairing.Side, "stop", lambda side: None)


def one_round(folder: Path, data: Path) -> list[str]:
    """The flags that all benchmarks get here."""
    return ["--model", str(folder), "--data", str(data), "--device", "cpu", "--rounds", "1"]


def run(name: str, folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> dict[str, Any]:
    out = folder / f"{name}.json"
    line = [*one_round(folder, data), "--json", str(out), *SMALL[name], *flags]
    assert load(name, monkeypatch).main(line) == 0
    return json.loads(out.read_text())


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["sampling", "scoring", "training"])
def test_both_sides_agree_and_figures_are_written(
    name, dtype, folder, data, in_this_process, monkeypatch, capsys
):
    figures = run(name, folder, data, monkeypatch, "--dtype", dtype)
    compared = figures if name == "training" else figures[f"against {figures['best_peer']}"]
    (ratio,) = compared["ratio"]
    ours, theirs = (value for key, value in compared.items() if key != "ratio" and isinstance(value, dict))
    assert ratio == pytest.approx(ours["rates"][0] / theirs["rates"][0])
    assert ours["peak_mb"] > 50 and "device_peak_mb" not in ours
    shown = capsys.readouterr().out
    assert "largest difference" in shown and f"cpu, {dtype}" in shown and "1 rounds" in shown


@pytest.mark.parametrize("what", ["sampling", "training", "scoring"])
def test_all_rungs_of_a_ladder_agree(what, folder, data, in_this_process, monkeypatch, capsys):
    monkeypatch.setattr(choosing, "PREFIXES", choosing.PREFIXES)  # lower rungs change it
    out = folder / f"ladder-{what}.json"
    sizes = ["--problems", "2", "--n", "3", "--max-new-tokens", "6", "--batch-size", "3"]
    ladder = load("ladder", monkeypatch)
    assert ladder.main([what, *one_round(folder, data), "--json", str(out), *sizes]) == 0
    assert list(json.loads(out.read_text())) == list(getattr(ladder, what.upper()))
    assert f"rungs of {what}: largest difference" in capsys.readouterr().out


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("training", ["length", "24", "40"]),
        ("scoring", ["candidates", "2", "3"]),
        ("sampling", ["n", "1", "2"]),
    ],
)
def test_a_curve_measures_each_value(name, curve, folder, data, in_this_process, monkeypatch, capsys):
    """And the work grows with it: so many units a round."""
    pairing, units = sys.modules["pairing"], []
    uncounted = pairing.Side.round

    def counted(side: Any) -> None:
        uncounted(side)
        units.append(side.rounds[-1]["units"])

    monkeypatch.setattr(pairing.Side, "round", counted)
    figures = run(name, folder, data, monkeypatch, "--curve", *curve)
    assert figures["curve"] == curve[0] and list(figures["values"]) == curve[1:]
    assert sum(units[: len(units) // 2]) < sum(units[len(units) // 2 :])
    table = capsys.readouterr().out.split(f"{curve[0]}: rate and peak memory")[1].splitlines()[1:]
    assert [line.split()[0] for line in table] == curve[1:] and all("ratio" in line for line in table)


def test_what_is_no_curve_is_refused(folder, data, monkeypatch):
    for curve, message in [
        (["dtype", "float32"], "--curve dtype: expected one of batch-size, length"),
        (["length"], "then one value or more"),
        (["length", "long"], "--curve length long: expected values as --length takes"),
    ]:
        with pytest.raises(ValueError, match=message):
            run("training", folder, data, monkeypatch, "--curve", *curve)


def test_training_flops_by_hand(folder, monkeypatch):
    """Two layers of two 32 x 32, two 16 x 32 and three 48 x 32; the head on targets alone."""
    training = load("training", monkeypatch)
    from mathref.batches import Example
    from mathref.weights import load_model

    layers, vocabulary = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32), load_model(folder).config.vocab_size
    examples = [Example(list(range(10)), 7), Example(list(range(6)), 5)]  # 16 tokens, 4 of them targets
    found = training.flops_per_target(str(folder), examples)
    assert found == pytest.approx(6 * (layers * 16 + vocabulary * 32 * 4) / 4)


@pytest.mark.parity
def test_samples_of_a_generator_are_candidates_too(folder, data, in_this_process, monkeypatch, capsys):
    """Equal texts count: a plain scorer reads each of them."""
    samples = [Sample(text=text, answer=None, correct=False) for text in (TEXTS[3], TEXTS[4], TEXTS[3], "no")]
    path = folder / "samples.jsonl"
    write_samples(path, {}, [SampledProblem("a", "What is 3?", "3", tuple(samples))])
    scoring = load("scoring", monkeypatch)
    assert scoring.candidates_of(str(path), True, 5, 3) == [("What is 3?", [TEXTS[3], TEXTS[4], TEXTS[3]])]
    run("scoring", folder, path, monkeypatch, "--sampled")
    assert "candidates/s" in capsys.readouterr().out


@pytest.mark.parity
def test_sides_that_compute_something_else_are_refused(folder, data, in_this_process, monkeypatch, capsys):
    scoring = load("scoring", monkeypatch)
    right = scoring.theirs

    def wrong(**options: Any) -> Any:
        work = right(**options)
        return lambda: {"units": 8, "odds": [[odds + 1 for odds in row] for row in work()["odds"]]}

    monkeypatch.setattr(scoring, "theirs", wrong)
    with pytest.raises(ValueError, match="do not compute the same thing"):
        scoring.main([*one_round(folder, data), *SMALL["scoring"]])


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", SMALL)
def test_in_processes_of_their_own(name, folder, data, monkeypatch, capsys):
    figures = run(name, folder, data, monkeypatch)
    assert "ratio" in json.dumps(figures)
    if name == "loading":
        assert "the same first token: yes" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_one_line(folder, data, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match="--device cuda: not on this machine"):
        load("pairing", monkeypatch).set_up("cuda", 0)


def test_flips_are_counted(monkeypatch, capsys):
    """On one batch shape nothing flips; a call whose numbers are others flips nearly all."""
    flips = load("flips", monkeypatch)
    small = ["--model", "tiny", "--problems", "2", "--n", "4", "--max-new-tokens", "12", "--device", "cpu"]
    assert flips.main([*small, "--rows", "4", "4"]) == 0
    assert "0 of 8 samples differ between 4 and 4 rows, 0.00% (0.00%-32" in capsys.readouterr().out
    import mathref.sampler as sampler

    right = sampler.sample
    shifted = lambda *a, batch_rows, **o: right(*a, batch_rows=batch_rows, **o | {"seed": batch_rows})  # noqa: E731
    monkeypatch.setattr(sampler, "sample", shifted)
    assert flips.main([*small, "--rows", "4", "8"]) == 0
    assert int(capsys.readouterr().out.split(" of 8")[0].split()[-1]) >= 4


@pytest.mark.parametrize(
    ("mb_an_hour", "jitter", "verdict"), [(0.0, 0.5, "flat"), (40.0, 0.5, "GROWS"), (0.0, 60.0, "undecided")]
)
def test_a_soak_tells_growth_from_spikes(mb_an_hour, jitter, verdict, monkeypatch, capsys):
    """Every thirtieth reading meets a checkpoint that is being written, 200 MB more."""
    soak, random = load("soak", monkeypatch), Random(0)
    readings = [
        soak.Reading(
            2.0 * i, 500 + mb_an_hour * i / 1800 + random.uniform(0, jitter) + 200 * (i % 30 == 7), 5, i
        )
        for i in range(1800)
    ]
    found = soak.report("train", readings)
    assert found["memory"] == verdict
    if verdict != "undecided":
        assert found["mb_an_hour"] == pytest.approx(mb_an_hour, abs=0.3)
    assert found["50%"] == pytest.approx(1, abs=0.01)


def test_judging_a_generators_candidates(folder, tmp_path, monkeypatch, capsys):
    """Likelihoods against those of whole sequences, one by one; only problems with both kinds count."""
    judging = load("judging", monkeypatch)
    texts = [f"So {n} \\boxed{{{n}}}." for n in (3, 14, 159, 26, 5, 3589)]
    samples = tuple(Sample(text, str(i), i % 3 == 0, finish_reason="stop") for i, text in enumerate(texts))
    one_kind = SampledProblem("2", "All wrong?", "1", samples[1:3])
    path = tmp_path / "samples.jsonl"
    write_samples(path, {"model": "m"}, [one_kind, SampledProblem("1", "How many?", "0", samples)])
    monkeypatch.setattr(evaluator, "log_odds", lambda *args: [1.0] * 2 + [0.0] * 4)  # right ones come first
    assert judging.main([str(folder), "--samples", str(path)]) == 0
    shown = capsys.readouterr().out

    model, tokenizer = load_model(folder), load_tokenizer(folder)

    def alone(prompt: str, text: str) -> float:
        before, after = tokenizer.encode(prompt), tokenizer.encode(completion(text))
        logprobs = model(torch.tensor([before + after]))[0].log_softmax(-1)
        return sum(logprobs[len(before) + i - 1, token].item() for i, token in enumerate(after))

    for name, prompt in (("P", generator_prompt), ("T", evaluator_problem)):
        values = [alone(prompt("How many?"), text) for text in texts]
        ordered = [values[right] > values[wrong] for right in (0, 3) for wrong in (1, 2, 4, 5)]
        assert f"log p(X | {name}) {sum(ordered) / 8:.3f}" in shown
    assert "S_cls 1.000" in shown
    write_samples(path, {"model": "m"}, [one_kind])
    with pytest.raises(ValueError, match="no problem has both right and wrong candidates"):
        judging.main([str(folder), "--samples", str(path)])
