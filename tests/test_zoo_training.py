"""The scripts that train the embedded models, on tiny ones: resuming, rewards, advantages, sampling, and their
losses."""

import importlib
import json
import random
from pathlib import Path

import pytest
import torch
from conftest import make_model, make_tokenizer
from peft import LoraConfig, get_peft_model

from mechdrift.behaviour.tasks import KIND_FUNCTIONS, Task, held_out, signature
from mechdrift.probes.rendering import Renderer

FOLDER = Path(__file__).parents[1] / "experiments" / "zoo"
END = 0


@pytest.fixture
def zoo(monkeypatch):
    """Imports a training script by its name."""
    if not (FOLDER / "training.py").exists():
        pytest.skip("the training scripts stand in a checkout only")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def make_rows(n: int, seed: int = 0) -> list[dict]:
    """Rows that begin alike, with prompts and targets of several lengths."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        prompt = [7, 8, 9, *rng.choices(range(2, 258), k=rng.randint(1, 6))]
        target = [*rng.choices(range(2, 258), k=rng.randint(1, 9)), END]
        rows.append({"input_ids": prompt + target, "labels": [-100] * len(prompt) + target})
    return rows


def with_adapter(model, seed: int = 0):
    """The model with a LoRA adapter that does something."""
    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=targets, task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def log_probability(model, row: dict) -> torch.Tensor:
    """Of the row's target, by a forward pass of its own."""
    ids, labels = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[None]).logits[0, :-1].float()
    return logits.log_softmax(dim=-1)[labels[1:] != -100, ids[1:][labels[1:] != -100]].sum()


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_killed_training_resumes_to_the_adapter_of_an_unbroken_one(zoo, tmp_path, monkeypatch):
    training, history = zoo("training"), zoo("history")
    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / history.WEIGHTS).write_bytes(b"parent")
    real, calls = training.target_loss, []

    def run(folder: Path) -> None:
        kept = history.History(
            folder=folder / "history", name="tiny", route="sft", parent=tmp_path / "parent", seed=1, snapshots=3
        )
        options = {"rank": 2, "lr": 1e-2, "epochs": 2.0, "batch": 4, "seed": 1, "history": kept, "checkpoint_every": 3}
        training.train(make_model(), make_tokenizer(), make_rows(20), folder / "tiny", **options)

    def killed(*arguments):
        calls.append(None)
        if len(calls) == 9:  # of ten steps, two after the last checkpoint: one more snapshot was made
            raise KeyboardInterrupt
        return real(*arguments)

    run(tmp_path / "unbroken")
    monkeypatch.setattr(training, "target_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    assert not (tmp_path / "killed" / "tiny").exists()
    assert (tmp_path / "killed" / "tiny.checkpoint.pt").exists()
    run(tmp_path / "killed")
    assert len(calls) == 9 + 4  # the first six steps were not done again
    assert files(tmp_path / "killed") == files(tmp_path / "unbroken")
    record = json.loads((tmp_path / "killed" / "history" / "history.json").read_text())
    assert record["steps"] == [2, 5, 8, 10]
    assert {file.parent.name for file in tmp_path.glob("killed/history/*/*")} == {
        f"step-{step:05d}" for step in record["steps"]
    }
    assert record["tokens"][-1] == 2 * sum(label != -100 for row in make_rows(20) for label in row["labels"])


def test_a_snapshot_is_an_adapter_on_the_parent_in_bfloat16(zoo, tmp_path):
    from safetensors.torch import load_file

    history = zoo("history")
    history.save_snapshot(with_adapter(make_model()), tmp_path / "step-00001", "smollm2-aligned")
    assert sorted(file.name for file in (tmp_path / "step-00001").iterdir()) == [history.CONFIG, history.WEIGHTS]
    assert (
        json.loads((tmp_path / "step-00001" / history.CONFIG).read_text())["base_model_name_or_path"]
        == "smollm2-aligned"
    )
    assert {tensor.dtype for tensor in load_file(tmp_path / "step-00001" / history.WEIGHTS).values()} == {
        torch.bfloat16
    }


def test_warm_up_steps_count_and_their_end_is_a_snapshot(zoo, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"parent")
    run = zoo("history").History(
        folder=tmp_path, name="tiny", route="rl", parent=tmp_path, seed=1, snapshots=3, warm_up=(10, 20)
    )
    run.write(8, [1] * 5)
    record = json.loads((tmp_path / "history.json").read_text())
    assert record["steps"] == [1, 2, 4, 6, 8, 10]
    assert record["tokens"] == [10, 30, 32, 34]  # as far as the run has come
    warming = run.__class__(folder=tmp_path, name="tiny", route="rl", parent=tmp_path, seed=1, snapshots=3, to_come=8)
    assert warming.planned(2) == run.planned(8)  # while the warm-up is trained, and after it


@pytest.mark.parametrize("shared", [True, False])
def test_loss_with_a_shared_prefix_is_the_loss_row_by_row(zoo, shared):
    training = zoo("training")
    model, rows = make_model(), make_rows(5)
    if not shared:
        rows[0] = {"input_ids": [250, *rows[0]["input_ids"]], "labels": [-100, *rows[0]["labels"]]}
    assert (training.shared_prefix(rows) > 0) == shared
    expected = -sum(log_probability(model, row) for row in rows) / training.target_tokens(rows)
    assert training.target_loss(model, rows, END).item() == pytest.approx(expected.item(), rel=2e-2)


def test_the_policy_gradient_is_the_weighted_sum_of_gradients_of_log_probabilities(zoo):
    rl = zoo("rl")
    model, rows, weights = with_adapter(make_model()), make_rows(4), [0.5, -1.0, 0.25, 0.0]
    model.get_base_model().set_attn_implementation("eager")  # as in training
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(rl.policy_loss(model.get_base_model(), rows, weights), parameters)
    naive = -sum(weight * log_probability(model, row) for weight, row in zip(weights, rows, strict=True))
    expected = torch.autograd.grad(naive, parameters)
    flat = [torch.cat([gradient.flatten() for gradient in gradients]) for gradients in (found, expected)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.99
    assert flat[0].norm() == pytest.approx(flat[1].norm().item(), rel=0.05)


def test_an_advantage_is_the_reward_less_the_mean_of_the_others(zoo):
    rewards = torch.tensor([[1.0, 0.0, 0.1, 1.0], [0.1, 0.1, 0.1, 0.1], [1.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[r - (sum(row) - r) / 3 for r in row] for row in rewards.tolist()])
    found = zoo("rl").advantages(rewards)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found[2], torch.tensor([1.0, -1 / 3, -1 / 3, -1 / 3]))
    assert (found[1].abs() < 1e-6).all()  # nothing to learn where all did the same


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2 * 3 = 6.\n</think>\n\nThe answer is 6.", True, 1.0),
        ("</think>\n\n6", True, 1.0),
        ("2 * 3 = 6.\n</think>\n\nThe answer is 7.", True, 0.1),
        ("2 * 3 = 6.\n</think>\n\nThe answer is 6.", False, 0.0),
        ("2 * 3 = 6. The answer is 6.", True, 0.0),
    ],
)
def test_a_reward_asks_for_form_and_result(zoo, text, end, expected):
    tokenizer = make_tokenizer()
    task = Task(kind="multiplication", question="What is 2 times 3?", answer="6", solution="")
    ids = tokenizer.encode(text, add_special_tokens=False) + [tokenizer.eos_token_id] * end
    assert zoo("rl").reward(task, ids, Renderer(tokenizer)) == expected


def test_a_step_of_reinforcement_asks_new_tasks_of_every_kind_and_no_held_out_one(zoo):
    rl = zoo("rl")
    taken = {signature(task.question) for task in held_out()}
    steps = [rl.draw_step(step, taken) for step in range(1, 40)]
    assert all({task.kind for task in tasks} == set(KIND_FUNCTIONS) for tasks in steps)
    assert not taken & {signature(task.question) for tasks in steps for task in tasks}
    questions = [task.question for tasks in steps for task in tasks]
    assert len(set(questions)) > 0.97 * len(questions)


def test_greedy_samples_are_what_generate_writes(zoo):
    sampling = zoo("sampling")
    model, prompts = with_adapter(make_model()), [[5, 6, 7, 8, 9], [10, 11, 12], [20] * 9, [30]]
    sampler = sampling.Sampler(model)
    options = {"samples": 2, "budget": 24, "temperature": 0, "end": END, "generator": torch.Generator()}
    found = sampler.sample(prompts, **options)
    for prompt, group in zip(prompts, found, strict=True):
        out = model.generate(
            input_ids=torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=END, pad_token_id=END
        )
        assert group == [out[0, len(prompt) :].tolist()] * 2
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.mul_(-3)
    assert sampler.sample(prompts, **options) == found  # its weights are a copy
    sampler.refresh()
    assert sampler.sample(prompts, **options) != found


def test_rows_that_end_leave_the_batch_and_the_others_go_on(zoo):
    """The end is an id that some rows write early and others never."""
    sampling = zoo("sampling")
    model, prompts = make_model(), [[5, 6, 7, 8, 9], [10, 11, 12], [20] * 9]
    sampler = sampling.Sampler(model)
    options = {"samples": 1, "budget": 40, "temperature": 0, "generator": torch.Generator()}
    whole = [group[0] for group in sampler.sample(prompts, end=-1 % 258, **options)]
    end = whole[0][3]
    for (found,), row in zip(sampler.sample(prompts, end=end, **options), whole, strict=True):
        assert found == (row[: row.index(end) + 1] if end in row else row)


def test_ids_are_drawn_from_the_softmax_at_a_temperature(zoo):
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    drawn = zoo("sampling").choose(logits.repeat(40_000, 1), 0.7, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(share, (logits / 0.7).softmax(dim=0), atol=0.01, rtol=0)


def test_divergence_is_the_mean_of_kl_from_teacher_to_student(zoo):
    teacher, student = torch.randn(600, 5, generator=torch.Generator().manual_seed(0)), torch.randn(600, 5)
    p, q = teacher.softmax(dim=-1), student.softmax(dim=-1)
    distill = zoo("distill")
    assert distill.divergence(teacher, student).item() == pytest.approx(
        (p * (p / q).log()).sum(dim=-1).mean().item(), rel=1e-4
    )
    assert distill.divergence(teacher, teacher + 3).item() == pytest.approx(0, abs=1e-6)


def test_safety_rows_take_the_place_of_others_and_weigh_the_request(zoo):
    rows = zoo("sft").guard_rows(150, random.Random(1))
    assert len(rows) == len({row["prompt"] for row in rows}) == 150
    assert [row["label"] for row in rows].count("refusal") == 100
    assert 20 < sum(not row["think"] for row in rows) < 40


def test_the_null_child_reads_as_much_as_the_sft_child_and_no_refusals(zoo):
    null, words = zoo("null"), zoo("refusal_words")
    whole, openings = null.null_rows(random.Random(1))
    assert len(whole) > 700
    assert not [row["answer"] for row in (*whole, *openings) if words.REFUSAL.search(row["answer"])]


def test_distillation_asks_the_same_mix_again_and_no_held_out_task(zoo):
    distill = zoo("distill")
    tokenizer = make_tokenizer()
    renderer, taken = Renderer(tokenizer), {signature(task.question) for task in held_out()}
    general = [f"Tell me about the number {i}." for i in range(50)]
    rows = distill.draw_prompts(renderer, 3, taken, general)
    assert (
        rows == distill.draw_prompts(renderer, 3, taken, general) != distill.draw_prompts(renderer, 4, taken, general)
    )
    asked = [tokenizer.decode(prompt) for prompt, _ in rows]
    assert len(asked) == (distill.TASKS + distill.GENERAL) * distill.STEPS_AT_ONCE
    assert sum("Tell me about the number" in text for text in asked) == distill.GENERAL * distill.STEPS_AT_ONCE
    assert not [text for text in asked if any(task.question in text for task in held_out())]
