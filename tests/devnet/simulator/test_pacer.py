"""Events go out at their moments, neither early nor in bursts."""

from devnet.simulator.pacer import Pacer

START = 1_763_769_600_000_000


class Clock:
    """A clock that moves only by sleeps, which are always a little too long."""

    def __init__(self, oversleep_us: int) -> None:
        self.ns = START * 1000
        self.oversleep = oversleep_us
        self.sleeps: list[float] = []

    def __call__(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.ns += round(seconds * 1e9) + self.oversleep * 1000


def paced(rate: int, count: int, oversleep_us: int) -> tuple[Pacer, list[int]]:
    clock = Clock(oversleep_us)
    pacer = Pacer(START, lambda: False, clock=clock, sleep=clock.sleep)
    sent = []
    for n in range(count):
        assert pacer.wait(START + n * 1_000_000 // rate)
        sent.append(pacer.now())
    return pacer, sent


def test_no_event_is_early_and_none_later_than_the_clock_makes_it() -> None:
    _, sent = paced(10_000, 5000, oversleep_us=60)
    for n, moment in enumerate(sent):
        assert 0 <= moment - (START + n * 100) <= 60


def test_bursts_are_as_long_as_the_machine_oversleeps_and_no_longer() -> None:
    pacer, _ = paced(50_000, 5000, oversleep_us=60)
    assert 2 <= pacer.bursts.maximum <= 4
    pacer, _ = paced(10_000, 5000, oversleep_us=60)
    assert pacer.bursts.maximum == 1


def test_after_a_stall_it_catches_up_and_says_how_late_it_was() -> None:
    clock = Clock(0)
    pacer = Pacer(START, lambda: False, clock=clock, sleep=clock.sleep)
    assert pacer.wait(START)
    clock.ns += 5_000_000
    for n in range(1, 100):
        assert pacer.wait(START + n * 100)
    assert pacer.lateness.maximum == 4900
    assert pacer.bursts.maximum >= 49
    assert pacer.now() == START + 9900


def test_a_long_wait_ends_soon_after_a_stop() -> None:
    clock = Clock(0)
    pacer = Pacer(START, lambda: len(clock.sleeps) >= 3, clock=clock, sleep=clock.sleep)
    assert not pacer.wait(START + 3_600_000_000)
    assert len(clock.sleeps) == 3
    assert max(clock.sleeps) <= 0.1
