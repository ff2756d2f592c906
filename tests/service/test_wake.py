"""Waking a writer, and handing over what is never stored."""

import os
import stat

import pytest

from medlike.service.wake import FILE, listening, wake


def test_a_message_arrives_once_among_wakes_and_noise(tmp_path):
    assert not wake(tmp_path)
    with listening(tmp_path) as alarm:
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        assert wake(tmp_path) and wake(tmp_path, {"secret": "é"})
        with (tmp_path / FILE).open("w") as pipe:
            pipe.write("noise\n[1]\n")
        assert wake(tmp_path, {"secret": "b"})
        alarm.wait(60)
        assert list(alarm.messages()) == [{"secret": "é"}, {"secret": "b"}] and list(alarm.messages()) == []
    assert not wake(tmp_path)


def test_a_writer_that_does_not_read_is_awake_and_takes_no_message(tmp_path):
    with listening(tmp_path):
        pipe = os.open(tmp_path / FILE, os.O_WRONLY | os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, b"\n" * 4096)
        os.close(pipe)
        assert wake(tmp_path) and not wake(tmp_path, {"secret": "a" * 3000})
        with pytest.raises(ValueError, match="at most"):
            wake(tmp_path, {"secret": "a" * 5000})


def test_what_is_no_pipe_is_not_written_to(tmp_path):
    (tmp_path / FILE).write_text("mine")
    assert not wake(tmp_path) and (tmp_path / FILE).read_text() == "mine"
    with listening(tmp_path):
        assert wake(tmp_path)
