"""What a sweep says about the machine."""

import pytest
import torch

from yolospine_ultra.benchmark.environment import _processor, environment


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "cpu family : 25\nmodel : 17\nmodel name : AMD EPYC\nstepping : 1\n\nprocessor : 1\nmodel : 1\n",
            "AMD EPYC (family 25, model 17, stepping 1)",
        ),
        ("model name : Some CPU @ 2.5GHz\n", "Some CPU @ 2.5GHz"),
    ],
)
def test_generations_of_one_name_are_told_apart(tmp_path, content, expected):
    file = tmp_path / "cpuinfo"
    file.write_text(content.replace(" :", "\t:"))
    assert _processor(file) == expected


def test_a_system_that_tells_nothing_has_a_name(tmp_path):
    assert _processor(tmp_path / "absent")


def test_instructions_of_the_cpu_are_kept():
    assert environment("cpu", 1)["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
