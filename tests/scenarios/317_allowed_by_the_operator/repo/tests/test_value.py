def test_one():
    assert f(1) == 2


def test_two():
    assert f(2) == 3
