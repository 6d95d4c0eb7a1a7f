"""The study: its jobs are in a workable order, it resumes, and its verdicts follow from the intervals."""

import json
import sys
from pathlib import Path

import pytest

import rerank
import sample
import train
from mathref import findings, study
from mathref.findings import Difference, Expectation, overall
from mathref.interrupts import terminable
from mathref.study import LOG, PARTS, QUICK, Job, Scale, jobs, run


@pytest.mark.parametrize("parts", [*([part] for part in PARTS), list(PARTS)])
def test_every_job_comes_after_what_it_needs_and_makes_what_others_read(tmp_path, parts):
    listed = jobs(tmp_path, 2, Scale(), parts)
    outputs: set[str] = set()
    names: set[str] = set()
    for job in listed:
        assert names.issuperset(job.needs), job
        read = {
            word
            for flag, word in zip(job.command, job.command[1:], strict=False)
            if flag in ("--model", "--samples", "--evaluator", "--data") and word.startswith(str(tmp_path))
        }
        assert outputs.issuperset(read), job
        assert str(job.output) in job.command
        names.add(job.name)
        outputs.add(str(job.output))
    assert len(names) == len(listed) == len(outputs)


def test_prompted_bases_are_sampled_once_however_many_seeds(tmp_path):
    listed = jobs(tmp_path, 3, Scale(), ["headline", "styles"])
    assert sum("fewshot" in job.name for job in listed) == 8
    assert sum(job.name.endswith("/small-mtsf-xent") for job in listed) == 3


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A checkout whose only command appends its arguments to a log and makes its output, or fails."""
    script = tmp_path / "checkout" / "make.py"
    script.parent.mkdir()
    script.write_text(
        "import sys, pathlib\n"
        "name, out = sys.argv[1:3]\n"
        "with open(pathlib.Path(__file__).parent / 'calls', 'a') as log: log.write(name + '\\n')\n"
        "if name == 'bad': sys.exit('make.py: error: no luck')\n"
        "pathlib.Path(out).write_text(name)\n"
    )
    monkeypatch.setattr(study, "SCRIPTS", script.parent)
    return lambda: (script.parent / "calls").read_text().split()


def make(folder: Path, name: str, *needs: str) -> Job:
    return Job(name, ("make.py", name, str(folder / name)), folder / name, needs)


def test_jobs_run_in_order_and_only_once(tmp_path, commands):
    folder = tmp_path / "study"
    listed = [make(folder, "a"), make(folder, "b", "a"), make(folder, "c", "a", "b")]
    run(listed, folder, n_parallel=2)
    assert commands() == ["a", "b", "c"]
    records = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [r["job"] for r in records] == ["a", "b", "c"]
    if sys.platform.startswith("linux"):
        assert all(r["peak_mb"] > 1 and r["cpu_s"] >= 0 for r in records)
    run(listed, folder, n_parallel=2)
    assert commands() == ["a", "b", "c"], "nothing that is done runs again"
    (folder / "b").unlink()
    run(listed, folder, n_parallel=1)
    assert commands() == ["a", "b", "c", "b"], "what has lost its output runs again"


def test_a_log_cut_off_by_a_kill_repeats_one_job(tmp_path, commands):
    folder = tmp_path / "study"
    listed = [make(folder, "a"), make(folder, "b")]
    run(listed, folder, n_parallel=1)
    log = folder / LOG
    log.write_bytes(log.read_bytes()[:-5])
    run(listed, folder, n_parallel=1)
    assert commands() == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{}", "'job' is None"),
        ('{"job": 1}', "'job' is 1"),
        ('{"job": "a", "command": "x", "seconds": "1"}', "'seconds' is '1'"),
        ("[1]", "expected a JSON object"),
    ],
)
def test_a_log_of_another_shape_is_one_line(tmp_path, line, wrong):
    (tmp_path / LOG).write_text(f'{{"job": "a", "command": "x", "seconds": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=f"{LOG}:2: {wrong}"):
        study.finished(tmp_path)


def test_told_to_stop_it_tells_its_commands(tmp_path, commands):
    """SIGTERM reaches the study alone; what it has started ends with it, and goes on next time."""
    folder = tmp_path / "study"
    script = "import os, pathlib, signal, sys, time; out = pathlib.Path(sys.argv[2])\n"
    script += "if (out.parent / 'told').exists(): sys.exit(out.write_text('done') and 0)\n"
    script += (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit((out.parent / 'told').write_text('') or 130))\n"
    )
    script += "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    (tmp_path / "checkout" / "make.py").write_text(script)
    with terminable(), pytest.raises(KeyboardInterrupt):
        run([make(folder, "a")], folder, n_parallel=1)
    assert (folder / "told").exists() and not (folder / "a").exists()
    run([make(folder, "a")], folder, n_parallel=1)
    assert (folder / "a").read_text() == "done"


def test_a_failing_command_ends_the_study_with_its_words(tmp_path, commands):
    folder = tmp_path / "study"
    listed = [make(folder, "bad"), make(folder, "after", "bad")]
    with pytest.raises(ChildProcessError, match="bad ended with status 1: make.py: error: no luck"):
        run(listed, folder, n_parallel=1)
    assert commands() == ["bad"] and not (folder / "after").exists()


def difference(low: float, high: float) -> Difference:
    return Difference((low + high) / 2, low, high, 0.5)


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        ("above", 0.01, 0.05, "holds"),
        ("above", -0.01, 0.05, "undecided"),
        ("above", -0.05, -0.01, "does not hold"),
        ("below", -0.05, -0.01, "holds"),
        ("below", 0.01, 0.05, "does not hold"),
        ("below", -0.01, 0.05, "undecided"),
        ("far above", 0.11, 0.5, "holds"),
        ("far above", 0.05, 0.5, "undecided"),
        ("far above", 0.01, 0.05, "does not hold"),
        # A wide interval around zero says nothing; it passed for "flat" and for "about equal".
        ("not above", -0.05, 0.01, "holds"),
        ("not above", 0.005, 0.015, "holds"),
        ("not above", -0.01, 0.41, "undecided"),
        ("not above", 0.03, 0.05, "does not hold"),
        ("equal", -0.015, 0.01, "holds"),
        ("equal", -0.01, 0.41, "undecided"),
        ("equal", -0.41, 0.01, "undecided"),
        ("equal", 0.03, 0.04, "does not hold"),
        ("equal", -0.04, -0.03, "does not hold"),
    ],
)
def test_verdicts_follow_from_the_interval(expected, low, high, verdict):
    assert Expectation("", difference(low, high), expected).verdict == verdict


def test_an_ordering_needs_all_its_comparisons():
    good = Expectation("", difference(0.1, 0.2), "above")
    open_ = Expectation("", difference(-0.1, 0.2), "above")
    bad = Expectation("", difference(-0.2, -0.1), "above")
    missing = Expectation("", None, "above")
    assert overall([good, good]) == "holds"
    assert overall([good, open_]) == overall([good, missing]) == "undecided"
    assert overall([good, open_, bad]) == "does not hold"
    assert overall([missing]) == overall([]) == "not measured"


def samples_file(
    path: Path, right: dict[str, list[bool]], scores: dict[str, list[float]] | None = None
) -> None:
    """A samples file in which the right answer of every problem is 1 and the wrong ones are 2, 3, ..."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"meta": {"model": "m", "temperature": 0.9 if len(next(iter(right.values()))) > 1 else 0}}]
    for id, flags in right.items():
        found = []
        for i, flag in enumerate(flags):
            answer = "1" if flag else str(i + 2)
            sample = {"text": f"It is {answer}.", "answer": answer, "correct": flag}
            found.append(sample | ({"score": scores[id][i]} if scores else {}))
        lines.append({"id": id, "problem": f"problem {id}", "answer": "1", "samples": found})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_values_are_means_over_seeds_and_tables_show_their_spread(tmp_path):
    samples_file(tmp_path / "seed0" / "x.jsonl", {"a": [True, True, False], "b": [False, False, False]})
    samples_file(tmp_path / "seed1" / "x.jsonl", {"a": [True, False, True], "b": [True, True, False]})
    found = findings.Study(tmp_path, 2, ("tiny", "small"), 3)
    assert found.per_seed("x", "Maj1@3") == {0: [1.0, 0.0], 1: [1.0, 1.0]}
    assert found.cell("x", "Maj1@3").startswith("75.0 (") and "[50.0-100.0]" in found.cell("x", "Maj1@3")
    assert found.cell("absent", "Maj1@3") == "" and found.per_seed("absent", "Maj1@3") == {}


def test_what_is_compared_has_the_same_seeds(tmp_path):
    """A row of one seed was compared with the mean of two: the spread of training passed for a difference."""
    better, worse = {"a": [True, True, False]}, {"a": [False, False, False]}
    for seed, right in ((0, worse), (1, better)):
        samples_file(tmp_path / f"seed{seed}" / "small-detailed-test.jsonl", right)
    samples_file(tmp_path / "seed0" / "small-own-test.jsonl", worse)
    samples_file(tmp_path / "seed0" / "small-fewshot-brief.jsonl", worse)
    found = findings.Study(tmp_path, 2, ("tiny", "small"), 3)
    detailed, own, base, absent = (
        (f"small-{name}", "Maj1@3") for name in ("detailed-test", "own-test", "fewshot-brief", "absent")
    )
    assert found.seeds_of(own, detailed) == [[[0.0], [0.0]]]  # one seed, two sources, one problem
    # Nothing trains a prompted base: it is any seed's.
    assert found.seeds_of(base, detailed) == [[[0.0], [0.0]], [[0.0], [1.0]]]
    assert found.seeds_of(base) == [[[0.0]]]
    assert findings.compare(found, [own], [absent]) is None
    gain = findings.compare(found, [detailed], [base])
    assert gain.difference == 0.5 and gain.by_seed == (0.0, 1.0)
    assert str(gain) == "+50.0 (-76.4 to +97.1) [+0.0 to +100.0]"  # Wilson's of one problem at 3/4
    # (detailed - base) - (own - base) on the one seed that all have
    assert findings.compare(found, [detailed, base], [base, own]).by_seed == (0.0,)


def test_a_file_that_is_still_growing_does_not_count_yet(tmp_path):
    """The tables of a study under way ended in a traceback where one seed's file was half written."""
    samples_file(tmp_path / "seed0" / "x.jsonl", {"a": [True, True, False]})
    samples_file(tmp_path / "seed1" / "x.jsonl", {"a": [True, False, True], "b": [True, True, True]})
    found = findings.Study(tmp_path, 2, ("tiny", "small"), 3)
    assert found.per_seed("x", "Maj1@3") == {1: [1.0, 1.0]} and "[" not in found.cell("x", "Maj1@3")


def test_a_file_whose_job_is_not_done_does_not_count_yet(tmp_path):
    """Half of a file stood in the tables as if it were the whole, and the style comparison of files of
    different lengths ended the page with "operands could not be broadcast together".
    """
    names = ("detailed-test", "brief-test", "fewshot-detailed", "fewshot-brief")
    for folder in (tmp_path / "without", tmp_path / "with"):
        for name in names:
            n = 3 if name == "fewshot-detailed" else 6
            right = {f"p{i}": [True, i > 2, name == "detailed-test"] for i in range(n)}
            samples_file(folder / "seed0" / f"tiny-{name}.jsonl", right)
    page = findings.write(tmp_path / "without", 1, ("tiny",), 3).read_text()
    assert "tiny: detailed - brief, Maj1@3" in page and "gap fine-tuned" not in page
    spent = {"command": "sample.py", "resumed": False, "seconds": 1.0, "cpu_s": 1.0, "peak_mb": 1}
    done = [{"job": f"seed0/tiny-{name}"} | spent for name in names if name != "fewshot-detailed"]
    (tmp_path / "with" / LOG).write_text("".join(json.dumps(record) + "\n" for record in done))
    page = findings.write(tmp_path / "with", 1, ("tiny",), 3).read_text()
    assert "few-shot, brief examples" in page and "few-shot, detailed examples" not in page


def test_one_size_is_neither_weak_nor_strong(tmp_path):
    """It was both: an ordering demanded contradictory things of one file, and small had the paper's S*."""
    right = {f"p{i:02d}": [True, False, False] for i in range(30)}
    scores = {id: [0.9, 0.2, 0.1] for id in right}
    samples_file(tmp_path / "seed0" / "small-detailed-test.jsonl", right)
    samples_file(tmp_path / "seed0" / "small-detailed-test-by-small-xent.jsonl", right, scores)
    found = findings.Study(tmp_path, 1, ("small",), 3)
    verdicts = [overall(comparisons) for _, comparisons in findings.orderings(found)]
    assert verdicts[4] == verdicts[5] == "not measured"
    assert [row[-1] for row in findings.generators(found).rows] == ["34.8 / 54.2 / 83.4"]  # the paper's L


def test_the_page_is_written_from_what_is_there(tmp_path):
    """One evaluator that scores the right answers higher: RR beats Maj1, and the page says so."""
    ids = [f"p{i:02d}" for i in range(30)]
    # Two wrong answers alike beat the right one in the vote; the scores know better.
    right = {id: [True, False, False, False] for id in ids}
    scores = {id: [0.9, 0.2, 0.3, 0.1] for id in ids}
    seed = tmp_path / "seed0"
    samples_file(seed / "small-detailed-test.jsonl", right)
    samples_file(seed / "small-detailed-test-by-small-xent.jsonl", right, scores)
    for name in ("small-detailed-test", "small-detailed-test-by-small-xent"):
        text = (seed / f"{name}.jsonl").read_text()
        # Make the wrong answers one cluster of three.
        for wrong in ("4", "5"):
            text = text.replace(f'"answer": "{wrong}"', '"answer": "3"')
        (seed / f"{name}.jsonl").write_text(text)
    page = findings.write(tmp_path, 1, ("tiny", "small"), 4).read_text()
    assert "small: RR.Maj8 - Maj1@4 | +100.0 (+100.0 to +100.0) | holds" in page
    assert "not measured" in page and (tmp_path / "figures" / "figure1.png").stat().st_size > 10_000


def test_flags_are_checked_before_anything_runs(tmp_path, capsys):
    with pytest.raises(ValueError, match="--seeds is 0"):
        study.parse_args(["--seeds", "0"])
    assert study.main(["--list", "--quick", "--out", str(tmp_path / "q")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(jobs(tmp_path, 1, QUICK, ["headline"])) and not (tmp_path / "q").exists()
    assert all(
        line.startswith(("python train.py", "python sample.py", "python rerank.py")) for line in printed
    )


def test_the_commands_take_their_arguments(tmp_path):
    """A flag that a command comes to refuse would end the study at that job, hours after its start."""
    scripts = {"train.py": train, "sample.py": sample, "rerank.py": rerank}
    for scale in (Scale(), QUICK):
        for job in jobs(tmp_path, 1, scale, PARTS):
            scripts[job.command[0]].parse_args(list(job.command[1:]))


def test_jobs_start_from_what_the_paper_starts_from(tmp_path):
    """MTSF goes on from the evaluator, its control from the generator; a judge judges what its name says."""
    listed = {job.name: list(job.command) for job in jobs(tmp_path, 1, Scale(), ["headline"])}

    def given(name: str, flag: str) -> str:
        command = listed[f"seed0/{name}"]
        return Path(command[command.index(flag) + 1]).name

    assert given("small-mtsf-xent", "--model") == "small-xent"
    assert given("small-mtsf-margin", "--model") == "small-margin"
    assert given("small-control", "--model") == given("small-xent", "--model") == "small-detailed"
    assert given("small-margin", "--loss") == "margin" and given("small-xent", "--loss") == "xent"
    assert given("small-candidates", "--split") == "train"
    assert given("small-candidates", "--model") == "small-detailed"
    assert given("small-xent", "--samples") == "small-candidates.jsonl"
    assert given("tiny-detailed-test-by-small-xent", "--samples") == "tiny-detailed-test.jsonl"
    assert given("tiny-detailed-test-by-small-xent", "--evaluator") == "small-xent"
    assert given("small-mtsf-xent-test-by-small-xent", "--samples") == "small-mtsf-xent-test.jsonl"
