def test_x():
    from tests.pipelines.driver import SMALL

    assert SMALL
