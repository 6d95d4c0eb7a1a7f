"""From a folder to the first token, against transformers: a new process each time, imports apart.

Paper: none.
Choices: a process imports torch (and transformers), then the clock starts: weights, tokenizer, one prompt,
one greedy token. Imports are reported beside it, since a user waits for them too. The folder is in the page
cache after the first round, for both. On a GPU its start belongs to the time of both; the token is read
on the host, so the clock does not stop before the GPU has.

    python bench/loading.py --model runs/smollm2 --data gsm8k_test.jsonl
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pairing import ROOT, memory, memory_line, parser, spread, write_figures  # noqa: E402

from mathref.data import load_problems  # noqa: E402
from mathref.prompts import generator_prompt  # noqa: E402
from mathref.runs import run_command  # noqa: E402

OURS = """
import torch
from mathref.sampler import sample
from mathref.tokenizer import load_tokenizer
from mathref.weights import load_model
place = set_up(device, threads)
imported = clock()
network = load_model(folder, device=place, dtype=getattr(torch, dtype))
tokenizer = load_tokenizer(Path(folder))
token = sample(network, tokenizer, [prompt], n=1, temperature=0, max_new_tokens=1)[0][0].token_ids[0]
"""
THEIRS = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
AutoModelForCausalLM.from_pretrained, AutoTokenizer.from_pretrained  # they are imported at first use
place = set_up(device, threads)
imported = clock()
network = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(place)
tokenizer = AutoTokenizer.from_pretrained(folder)
batch = tokenizer([prompt], return_tensors="pt").to(place)
token = int(network.generate(**batch, do_sample=False, max_new_tokens=1)[0, -1])
"""
AROUND = """
import json, sys
from pathlib import Path
from time import perf_counter as clock
sys.path.insert(0, {root!r})
from pairing import peaks, set_up
folder, prompt, dtype, device, threads = json.loads(sys.stdin.read())
start = clock()
{body}
ready = clock()
figures = {{"import": imported - start, "seconds": ready - imported}}
print(json.dumps(figures | {{"token": token}} | peaks()))
"""


def once(body: str, folder: Path, prompt: str, dtype: str, device: str, threads: int) -> dict[str, Any]:
    """One new process of one side."""
    code = AROUND.format(root=str(ROOT), body=body)
    given = json.dumps([str(folder.resolve()), prompt, dtype, device, threads])
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, stdout=subprocess.PIPE, text=True, check=True,
        cwd=ROOT / "bench",
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    args = parser(__doc__).parse_args(argv)
    prompt = generator_prompt(load_problems(str(args.data)).problems[0].problem)
    rounds: dict[str, list[dict[str, Any]]] = {"mathref": [], "transformers": []}
    for counted in [False] + [True] * args.rounds:
        for name, body in (("mathref", OURS), ("transformers", THEIRS)):
            figures = once(body, args.model, prompt, args.dtype, args.device, args.threads)
            if counted:
                rounds[name].append(figures)
    for name, found in rounds.items():
        seconds, imports = ([r[key] for r in found] for key in ("seconds", "import"))
        print(
            f"{name:14s} first token after {spread(seconds)} s, imports {spread(imports)} s, "
            f"{memory_line(memory(found))}"
        )
    ours, theirs = rounds.values()
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(ours, theirs, strict=True)]
    same = ours[0]["token"] == theirs[0]["token"]
    print(f"time ratio {spread(ratios)}; the same first token: {'yes' if same else 'NO'}")
    write_figures(args.json, rounds | {"ratio": ratios})
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
