"""A short part of npm run fuzz: whatever comes, a worker's inbox takes it or refuses it by name."""

from pathlib import Path

from fuzz_worker import Target, run_hypothesis

GOLDEN_FRAMES = [
    file.read_bytes() for file in sorted((Path(__file__).parents[1] / "fixtures" / "wire").glob("*.msgpack"))
]


def test_messages_that_hypothesis_changed_are_accepted_or_refused_by_name():
    target = Target()
    run_hypothesis(target, 7, 500)
    report = target.report()
    assert (report["crashes"], report["hangs"]) == ([], [])
    assert report["inputs"] >= 500 and len(report["refusals"]) > 20


def test_frames_with_any_byte_changed_or_cut_off_are_accepted_or_refused_by_name():
    target = Target()
    for frame in GOLDEN_FRAMES:
        data = [b"1234"] if b"chunk" in frame else []
        for index in range(0, len(frame), 3):
            target.attempt([[frame[:index]]])
            for value in (0x00, 0x80, 0xC1, 0xC6, 0xDD, 0xFF):
                target.attempt([[frame[:index] + bytes([value]) + frame[index + 1 :], *data]])
    report = target.report()
    assert (report["crashes"], report["hangs"]) == ([], [])
    assert report["inputs"] > 5000
