"""The floor: what a model does without an agent. One prompt with the task, the failing tests' output and the files, which
it is told; whole files back; three tries. Its results are read by `patchwright eval --compare`.

What the model writes runs on this machine, as this user, without a sandbox: use one that may be lost.
"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

PROMPT = """Fix this issue.\n\n{issue}\n\n{output}{files}\nAnswer with {what}, whole, in a fenced block each{named}, and nothing else."""


def sh(folder, *command, text=None):
    done = subprocess.run(["timeout", "-k", "1", "60", *command], cwd=folder, input=text, capture_output=True, text=True, errors="replace")
    return done.returncode == 0, done.stdout + done.stderr


def ask(options, prompt, count, usage):
    """The answer, up to the fence that closes the last of `count` blocks; what it cost is unknown if it is cut there."""
    body = {"model": options.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 2048, "temperature": 0.7,
            "stream": True, "stream_options": {"include_usage": True}}
    headers = {"content-type": "application/json", "authorization": f"Bearer {options.key}"}
    request = urllib.request.Request(options.endpoint.rstrip("/") + "/chat/completions", json.dumps(body).encode(), headers)
    text, told = "", {}
    with urllib.request.urlopen(request, timeout=240) as stream:
        for piece in (json.loads(line[6:]) for line in stream if line.startswith(b"data: {")):
            told = piece.get("usage") or told
            text += "".join(choice["delta"].get("content") or "" for choice in piece.get("choices", []))
            if len(re.findall(r"^```", text, re.M)) >= 2 * count:
                break
    for name in usage:
        usage[name] = None if usage[name] is None or name not in told else usage[name] + told[name]
    return text


def work(options, task, source):
    usage, begun, files, tries = {"prompt_tokens": 0, "completion_tokens": 0}, time.time(), task["files"], 0
    with tempfile.TemporaryDirectory() as place:
        sh(place, "git", "clone", "-q", source, "seen"), sh(place, "git", "clone", "-q", source, "judged")
        seen, judged = pathlib.Path(place, "seen"), pathlib.Path(place, "judged")
        [sh(folder, "git", "checkout", "-q", task["base_commit"]) for folder in (seen, judged)]
        passed, output = sh(seen, "sh", "-c", task["test_command"])
        shown = "".join(f"{name}\n```\n{(seen / name).read_text()}```\n\n" for name in files)
        prompt = PROMPT.format(issue=task["problem_statement"], files=shown, what="the file" if len(files) == 1 else "the files",
                               output="" if passed else f"The tests fail:\n{output[-1500:]}\n\n", named="" if len(files) == 1 else " under its path")
        for tries in range(1, 4):  # the first try with which the tests pass that everybody sees
            blocks = re.findall(r"^```[^\n]*\n(.*?)^```", ask(options, prompt, len(files), usage), re.S | re.M)
            for name, text in zip(files, blocks):
                (seen / name).write_text(text)
            if len(blocks) >= len(files) and sh(seen, "sh", "-c", task["test_command"])[0]:
                break
        for name in files:
            (judged / name).write_text((seen / name).read_text())
        seconds = time.time() - begun
        sh(judged, "git", "apply", "-", text=task["test_patch"])
        resolved, output = sh(judged, "sh", "-c", task["test_command"])
    return {"instance_id": task["instance_id"], "model": options.model, "profile": "floor", "run": 1, "stop": f"{tries} tries",
            "status": "resolved" if resolved else "unresolved", "reason": "" if resolved else "the hidden tests fail",
            "excerpt": "" if resolved else output[-2000:], "usage": usage, "steps": tries, "seconds": round(seconds, 1), "language": task.get("language")}


parser = argparse.ArgumentParser(description=__doc__)
for name, default in (("endpoint", None), ("tasks", None), ("out", None), ("model", "local"), ("key", "none")):
    parser.add_argument(f"--{name}", default=default, required=default is None)
options = parser.parse_args()
tasks, out = pathlib.Path(options.tasks), pathlib.Path(options.out, "results.jsonl")
out.parent.mkdir(parents=True, exist_ok=True)
done = {json.loads(line)["instance_id"] for line in out.read_text().splitlines()} if out.exists() else set()
for task in map(json.loads, tasks.read_text().splitlines()):
    if task["instance_id"] not in done:
        row = work(options, task, str((tasks.parent / task["repo"]).resolve()))
        print(row["instance_id"], row["status"], row["stop"], row["seconds"], "s", flush=True)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
