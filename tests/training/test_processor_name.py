"""Rows of two machines must be told apart, also where a virtual machine hides the name of its processor."""

from kinema.training.record import processor_name

MILAN = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fpu : vme\n\n"
TURIN = MILAN.replace("25", "26").replace(": 1\n", ": 2\n")


def test_family_and_model_tell_two_kinds_of_one_name_apart(tmp_path):
    (tmp_path / "milan").write_text(MILAN + MILAN.replace("25", "99"))
    (tmp_path / "turin").write_text(TURIN)
    assert processor_name(tmp_path / "milan") == "AMD EPYC (family 25, model 1)"
    assert processor_name(tmp_path / "turin") == "AMD EPYC (family 26, model 2)"


def test_without_them_the_name_stands_alone(tmp_path):
    (tmp_path / "cpuinfo").write_text("model name\t: Cortex-A72\n")
    assert processor_name(tmp_path / "cpuinfo") == "Cortex-A72"


def test_where_nothing_is_told_the_system_is_asked(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 108.00\n")
    assert processor_name(tmp_path / "cpuinfo") == processor_name(tmp_path / "missing") != ""
