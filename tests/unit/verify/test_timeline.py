"""What is drawn around each harm, and how."""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core.record import Record
from cbw.verify import picture
from cbw.verify.timeline import ATTEMPTS_MAX, LEAD_S, MOMENTS_MAX, RECENT_MAX, SCENE_S_MAX, TAIL_S, Scene, Timeline

from .records import begun, broker, done, given, got, hurt, sent, started


def scenes(records: Sequence[Record]) -> list[Scene]:
    timeline = Timeline()
    for _ in timeline.watching(sorted(records, key=lambda record: record.at)):
        pass
    return timeline.scenes


def fates(scene: Scene) -> dict[tuple[str, str], str]:
    return {(one.worker, one.request): one.fate for one in scene.attempts}


KILL = [
    started(0.0), sent(0.1, "A/1"), begun(0.2, "W1", "A/1", 1), done(0.3, "W1", "A/1", 1), got(0.4, "A/1", "A/1 W1"),
    sent(10.0, "A/2"), begun(10.1, "W1", "A/2", 2), hurt(10.2, "killed", "W1", "A/2"),
    given(10.3, "handed_out", "A/2", "W2", 3), begun(10.4, "W2", "A/2", 3), begun(10.41, "W2", "A/2", 3),
    done(11.4, "W2", "A/2", 3), got(11.5, "A/2", "A/2 W2"), sent(20.0, "A/3"),
]  # fmt: skip
FREEZE = [
    sent(0.0, "A/1"), begun(0.1, "W1", "A/1", 1), hurt(0.2, "frozen", "W1", "A/1"), begun(3.2, "W2", "A/1", 2),
    hurt(3.3, "thawed", "W1", "A/1"), done(3.4, "W1", "A/1", 1), broker(3.5, "fenced", worker="W1", task=1),
    done(4.2, "W2", "A/1", 2), got(4.3, "A/1", "A/1 W2"),
]  # fmt: skip


def test_a_killed_worker() -> None:
    load, scene = scenes(KILL)
    assert load.harmed_at is None and fates(load) == {("W1", "A/1"): "done", ("W1", "A/2"): "open"}
    assert scene.title == "W1 was killed while it worked on A/2"
    assert scene.requests == {"A/2": "W2"}
    assert fates(scene) == {("W1", "A/2"): "lost", ("W2", "A/2"): "answered"}, "what was long before is not shown"
    assert (scene.begins_at, scene.ends_at) == (10.2 - LEAD_S, 11.5 + TAIL_S)
    assert [(outage.worker, outage.since, outage.until) for outage in scene.outages] == [("W1", 10.2, None)]
    assert [moment.text for moment in scene.moments] == [
        "W1 was killed while it worked on A/2",
        "the broker gave A/2 to W2",
        "W2 began A/2",
        "W2 had done A/2",
        "A got the answer of W2 to A/2",
    ]


def test_a_killed_worker_that_is_started_again() -> None:
    records = [*KILL[:-1], begun(11.6, "W1", "A/3", 4), done(11.7, "W1", "A/3", 4), sent(30.0, "A/4")]
    scene = scenes(records)[1]
    assert [(outage.worker, outage.until) for outage in scene.outages] == [("W1", 11.6)]
    assert fates(scene)["W1", "A/2"] == "lost"


def test_a_frozen_worker() -> None:
    _, scene = scenes(FREEZE)
    assert fates(scene) == {("W1", "A/1"): "late", ("W2", "A/1"): "answered"}
    assert scene.outages[0].until == 3.3
    assert "the broker dropped the late answer of W1" in [moment.text for moment in scene.moments]


def test_a_frozen_worker_whose_answer_nobody_saw() -> None:
    """As with Compose and no logger: only beginnings are printed."""
    records = [record for record in FREEZE if (record.event, record.worker) not in (("done", "W1"), ("fenced", "W1"))]
    _, scene = scenes([*records, begun(4.4, "W1", "A/9", 9), sent(9.0, "A/8")])
    assert fates(scene)["W1", "A/1"] == "lost"


def test_a_request_that_is_never_answered() -> None:
    _, scene = scenes(KILL[:8])
    assert scene.requests == {"A/2": ""}
    assert fates(scene) == {("W1", "A/2"): "lost"}


def test_a_broker_that_is_killed() -> None:
    down, back = hurt(1.0, "broker_killed", "", ""), hurt(2.0, "broker_back", "", "")
    records = [sent(0.0, "A/1"), sent(0.0, "A/2"), begun(0.5, "W1", "A/1", 1), down, back]
    records += [done(2.1, "W1", "A/1", 1), got(2.2, "A/1", "A/1 W1"), got(2.3, "A/2", "A/2 W1"), sent(9.0, "A/3")]
    _, scene = scenes(records)
    assert scene.requests == {"A/1": "W1", "A/2": "W1"}
    assert [(outage.worker, outage.since, outage.until) for outage in scene.outages] == [("", 1.0, 2.0)]
    assert [row.name for row in picture.rows_of(scene)[0]] == ["broker", "W1"]


def test_memory_is_bounded() -> None:
    timeline = Timeline()
    for number in range(20 * RECENT_MAX):
        timeline.see(begun(number, "W", f"A/{number}", number + 1))
        timeline.see(done(number + 0.5, "W", f"A/{number}", number + 1))
    timeline.see(hurt(number + 0.6, "broker_killed", "", ""))
    for other in range(2 * ATTEMPTS_MAX):
        timeline.see(hurt(number + 0.7, "thawed", f"V{other}", ""))
        timeline.see(begun(number + 0.8, "V", f"B/{other}", 10**6 + other))
    assert not timeline.scenes
    timeline.see(sent(number + 2 * SCENE_S_MAX, "C/1"))
    assert len(timeline.scenes) == 1
    timeline.close()
    load, scene = timeline.scenes
    assert len(load.attempts) == RECENT_MAX
    assert len(scene.attempts) <= ATTEMPTS_MAX
    assert len(scene.moments) == MOMENTS_MAX and scene.left_out


def test_the_picture_in_characters() -> None:
    _, scene = scenes(FREEZE)
    first, second, seconds = picture.characters(scene)
    assert first.startswith("W1") and "~~~" in first and "|" in first
    assert second.startswith("W2") and "###" in second and "#" not in first
    assert seconds.split() == ["-0.50", "s", "+4.10", "s"]


def test_the_picture_as_svg() -> None:
    _, scene = scenes(FREEZE)
    text = picture.svg(scene, 1)
    assert (
        text.count('<rect class="late"')
        == text.count('<rect class="answered"')
        == text.count('<rect class="down"')
        == 1
    )
    assert "A/1 answered</text>" in text and "the harm</text>" in text


def test_only_some_of_many_workers_are_drawn() -> None:
    many = [begun(0.0, f"V{number}", f"B/{number}", 100 + number) for number in range(200)]
    _, scene = scenes([*many, *FREEZE])
    rows, hidden = picture.rows_of(scene)
    assert len(rows) == picture.ROWS_MAX and hidden == 202 - picture.ROWS_MAX
    assert {"W1", "W2"} <= {row.name for row in rows}
