"""Co-training: batches of captions and questions, and their loss."""

import types

import numpy as np
import pytest
import torch
from demo_files import make_store
from policy_cases import make_policy
from torch.nn import functional as F
from vl_files import change, write_vl_files

from rf_agent.demos.files import DemoError
from rf_agent.demos.vision_language import PROMPTS, CaptionSet, QuestionSet
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.batches import Split
from rf_agent.training.curves import read_log
from rf_agent.training.trainer import TrainConfig, train
from rf_agent.training.vl_cotraining import CoTraining, CoTrainingConfig, VisionLanguageData, vl_loss


@pytest.fixture
def files(tmp_path):
    return write_vl_files(tmp_path)


def data(files, kind, policy, prompts="reference"):
    if kind == "captions":
        samples = CaptionSet(files["captions"], files["images"])
    else:
        samples = QuestionSet(files["questions"], files["annotations"], files["images"])
    return VisionLanguageData(samples, policy, PROMPTS[prompts])


def config(files, **changes):
    return CoTrainingConfig(**{f"vl_{name}": path for name, path in files.items()} | {"vl_batch_size": 4} | changes)


def test_the_answer_and_the_end_are_asked_for_to_the_token(files):
    policy = make_policy()
    batch = data(files, "questions", policy).draw(5, np.random.default_rng(0))
    assert batch.images.shape == (5, 32, 32, 3) and batch.images.dtype == torch.uint8
    for ids, mask, target in zip(batch.tokens, batch.mask, batch.target, strict=True):
        text = policy.tokenizer.decode(ids[mask & ~target])
        assert text == "<image> question:what color is it? short answer:"
        answer = policy.tokenizer.decode(ids[target])
        assert answer.removesuffix("<|endofchunk|><|endoftext|>") in {"red", "green", "blue", "white", "grey"}
        assert (ids[~mask] == policy.tokenizer.pad_token_id).all() and not target[~mask].any()


def test_of_captions_everything_but_the_image_is_asked_for(files):
    policy = make_policy()
    batch = data(files, "captions", policy).draw(3, np.random.default_rng(0))
    assert not batch.target[:, 0].any() and torch.equal(batch.target[:, 1:], batch.mask[:, 1:])
    assert policy.tokenizer.decode(batch.tokens[0][batch.mask[0]]).startswith("<image> a photo of")


def test_draws_depend_on_the_generator_alone_even_when_images_are_broken(files):
    policy = make_policy()
    samples = data(files, "captions", policy)
    samples.samples.paths[0].write_bytes(b"no image")
    rng = np.random.default_rng(5)
    first = [samples.draw(6, rng) for _ in range(4)]
    assert samples.reader.broken == {samples.samples.paths[0]}
    rng = np.random.default_rng(5)
    again = [samples.draw(6, rng) for _ in range(4)]  # now it is known which one is broken
    assert all(
        torch.equal(a, b) for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert samples.draw(20, rng).images.shape[0] == 20  # more than there are
    for path in samples.samples.paths:
        path.write_bytes(b"no image")
    with pytest.raises(DemoError, match="none of the 8 images"):
        data(files, "captions", policy).draw(2, rng)


def test_the_loss_is_that_of_the_tokens_asked_for(files):
    policy = make_policy()
    batch = data(files, "questions", policy).draw(4, np.random.default_rng(0))
    loss, metrics = vl_loss(policy, batch)
    pixels = (batch.images.float() / 255 - 0.5) / 0.25
    media = policy.vlm.media(policy.vlm.encode_vision(pixels.permute(0, 3, 1, 2)[:, None]))
    scores = policy.vlm.logits(media, batch.tokens).log_softmax(-1)
    expected = [
        -scores[row, position - 1, batch.tokens[row, position]]
        for row, position in torch.nonzero(batch.target).tolist()
    ]
    torch.testing.assert_close(loss, torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)
    assert 0 <= metrics["accuracy"] <= 1 and not metrics["loss"].requires_grad
    whole, _ = vl_loss(policy, batch, "positions")
    torch.testing.assert_close(whole, torch.stack(expected).sum() / batch.tokens[:, 1:].numel(), atol=1e-5, rtol=1e-5)
    every = F.cross_entropy(scores[:, :-1].flatten(0, 1), batch.tokens[:, 1:].flatten())
    assert not torch.isclose(every, loss)


def test_a_text_that_is_cut_before_its_answer_asks_for_nothing(files):
    policy = make_policy(0, "language.max_tokens=4")
    loss, _ = vl_loss(policy, data(files, "questions", policy).draw(4, np.random.default_rng(0)))
    assert loss == 0 and loss.requires_grad


def test_weights_are_those_of_the_reference(files):
    policy = make_policy()
    cotraining = CoTraining(config(files), policy)
    batches = cotraining.draw(np.random.default_rng(0))
    (whole,) = cotraining.divide(batches, Split().parts)
    total, metrics = cotraining.loss(policy, whole)
    assert list(metrics) == ["captions_loss", "captions_accuracy", "questions_loss", "questions_accuracy"]
    torch.testing.assert_close(total, 0.005 * metrics["captions_loss"] + 0.5 * metrics["questions_loss"])
    total.backward()
    learned = {name.split(".")[1] for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"perceiver", "gated_cross_attn_layers", "lang_encoder", "vision_encoder"} <= learned
    assert all(p.grad is None for p in policy.head.parameters()) and cotraining.skipped() == 0


@pytest.mark.parametrize("mean", ["targets", "positions"])
def test_the_losses_of_the_parts_sum_to_that_of_the_step(files, mean):
    policy = make_policy()
    cotraining = CoTraining(config(files, vl_question_mean=mean), policy)
    batches = cotraining.draw(np.random.default_rng(0))
    (whole,) = cotraining.divide(batches, Split().parts)
    parts = [part for rank in range(3) for part in cotraining.divide(batches, Split(3, rank).parts)]
    total = sum(cotraining.loss(policy, part)[0] for part in parts)
    torch.testing.assert_close(total, cotraining.loss(policy, whole)[0], atol=1e-5, rtol=1e-5)


def test_no_process_is_without_texts(files):
    # else their metrics are different ones, and processes that sum them up wait for each other
    for count in (4, 5, 20):
        cotraining = CoTraining(config(files, vl_batch_size=count), make_policy())
        batches = cotraining.draw(np.random.default_rng(0))
        for processes in range(1, count + 1):
            for rank in range(processes):
                (part,) = cotraining.divide(batches, Split(processes, rank).parts)
                assert list(part) == list(batches) and all(len(batch.images) for batch, _ in part.values())


def test_where_nothing_reads_texts_they_are_refused(files):
    policy = make_policy()
    policy.set_trainable("head")
    with pytest.raises(UserError, match="nothing of the vision-language model learns: leave them out"):
        CoTraining(config(files), policy)


def test_one_kind_alone_or_none(files):
    policy = make_policy()
    alone = CoTraining(config(files, vl_questions=None, vl_annotations=None), policy)
    assert list(alone.draw(np.random.default_rng(0))) == ["captions"]
    nothing = CoTraining(CoTrainingConfig(), policy)
    assert nothing.draw(np.random.default_rng(0)) == {}
    total, metrics = nothing.loss(policy, {})
    assert total == 0 and metrics == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vl_annotations": None}, "both --vl-questions and --vl-annotations"),
        ({"vl_images": None}, "folder with --vl-images"),
        ({"vl_captions": None, "vl_questions": None, "vl_annotations": None}, "--vl-images alone"),
        ({"vl_batch_size": 0}, "--vl-batch-size is 0"),
        ({"vl_caption_weight": -1.0}, "--vl-caption-weight is -1.0: give a number from 0 on"),
        ({"vl_question_weight": float("nan")}, "--vl-question-weight is nan"),
    ],
)
def test_incomplete_settings_are_refused(files, changes, said):
    with pytest.raises(UserError, match=said):
        CoTraining(config(files, **changes), make_policy())


def test_learns_to_say_what_it_sees(files):
    torch.manual_seed(0)
    change(files["annotations"], "annotations", slice(None), _unanimous())
    corpus = ["a photo of a red green blue white wall the wall is", "question: what color is it? short answer:"]
    policy = RoboFlamingoPolicy.from_preset("roboflamingo-test", corpus * 4, seed=0)
    cotraining = CoTraining(config(files, vl_batch_size=8, vl_caption_weight=0.1, vl_question_weight=1.0), policy)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    rng = np.random.default_rng(0)
    for _ in range(60):
        (whole,) = cotraining.divide(cotraining.draw(rng), Split().parts)
        loss, metrics = cotraining.loss(policy, whole)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["questions_accuracy"] == 1


def _unanimous():
    from vl_files import color_of

    return [{"question_id": 100 * n, "image_id": n, "answers": [{"answer": color_of(n)}] * 10} for n in range(1, 9)]


def test_a_run_trains_on_texts_too_in_any_number_of_parts(files, tmp_path):
    demos = make_store(tmp_path / "demos.hdf5")
    runs, losses = {}, {}
    for name, changes in {"whole": {}, "parts": {"gradient_accumulation": 3}, "ahead": {"workers": 1}}.items():
        settings = {"preset": "roboflamingo-test", "steps": 20, "batch_size": 6, "sequence_length": 6, "threads": 1}
        settings |= {"device": "cpu", "validation_fraction": 0.3, "evaluations": 1, "vl_batch_size": 4}
        settings |= {f"vl_{key}": path for key, path in files.items()} | changes
        report = train(TrainConfig(demos=(demos,), output=tmp_path / name, **settings))
        runs[name] = RoboFlamingoPolicy.from_pretrained(report.output, "cpu").state_dict()
        losses[name] = next(row for row in read_log(tmp_path / name) if row["split"] == "train")
    assert losses["whole"]["questions_loss"] > 0 and losses["whole"]["captions_loss"] > 0
    assert losses["whole"]["loss"] > losses["whole"]["pose_loss"] + 0.4 * losses["whole"]["questions_loss"]
    for name in ("parts", "ahead"):
        assert losses[name]["loss"] == pytest.approx(losses["whole"]["loss"], abs=1e-4)
        for key, tensor in runs["whole"].items():
            torch.testing.assert_close(runs[name][key], tensor, atol=1e-4, rtol=1e-3)
    with pytest.raises(UserError, match="vl_batch_size is 4, but the step has 5 parts"):
        train(TrainConfig(demos=(demos,), output=tmp_path / "no", **settings | {"gradient_accumulation": 5}))


def test_images_that_cannot_be_decoded_or_are_missing_are_counted(files, tmp_path):
    lines = []
    reporter = types.SimpleNamespace(update=lambda fraction, text: None, log=lines.append)
    for path in sorted(files["images"].iterdir())[:1]:
        path.write_bytes(b"no image")
    sorted(files["images"].iterdir())[-1].unlink()
    settings = {"preset": "roboflamingo-test", "steps": 12, "batch_size": 2, "sequence_length": 6, "threads": 1}
    settings |= {"device": "cpu", "evaluations": 1, "vl_batch_size": 4, "workers": 0}
    settings |= {f"vl_{key}": path for key, path in files.items()}
    demos = make_store(tmp_path / "demos.hdf5")
    train(TrainConfig(demos=(demos,), output=tmp_path / "run", **settings), reporter)
    assert any("images of captions and questions that cannot be decoded" in line for line in lines)
    assert f"left out: 1 of 8 images of captions, as {files['images']} lacks their images" in lines
    assert f"left out: 1 of 8 questions, as {files['images']} lacks their images" in lines
